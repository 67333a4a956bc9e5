"""What a data set is: the only types that the engine and a new reader must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

VOID = -1  #: the value of a mask's pixels that belong to neither object nor background


class CorruptSample(ValueError):
    """An image or mask that cannot be read; the message names the file and what is wrong with it."""


class MissingData(ValueError):
    """Files of a data set are not there; the message names the official source, the layout and the command to run."""


@dataclass(frozen=True)
class Record:
    """One image as the data set has it, before any resize.

    id: unique in the data set and stable between machines (a file name, never an absolute path).
    image: RGB, upright (EXIF orientation applied).
    label: class index in the data set's label space, or None.
    mask: [height, width] int8 of the image's size: 1 object, 0 background, VOID neither; or None.
    """

    id: str
    image: Image.Image
    label: int | None = None
    mask: np.ndarray | None = None


@runtime_checkable
class Dataset(Protocol):
    """A readable set of images. Ids and labels are known without decoding a single image.

    name: as in configuration files and result rows.
    label_space: which classes the labels mean ("imagenet", "mnist"), or None where there are no labels. Labels are
        compared with a model's outputs only where the spaces are equal.
    ids: every image's id, in the data set's own order.
    """

    @property
    def name(self) -> str: ...
    @property
    def label_space(self) -> str | None: ...
    @property
    def ids(self) -> Sequence[str]: ...

    def read(self, index: int) -> Record:
        """Decode the image `ids[index]`. Raises CorruptSample (the file and the fault named)."""
        ...

    def fingerprint(self) -> str:
        """A hash of what defines the data: ids, labels and the sources' sizes; equal on every machine."""
        ...
