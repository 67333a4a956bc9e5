"""What a data set is: the only types that the engine and a new reader must agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from dix.datasets.identity import digest

VOID = -1  #: the value of a mask's pixels that belong to neither object nor background


class CorruptSample(ValueError):
    """An image or mask that cannot be read; the message names the file and what is wrong with it."""


class MissingData(ValueError):
    """Files of a data set are not there; the message names the official source, the layout and the command to run."""


@dataclass(frozen=True)
class LeftOut:
    """Something that is not used of a data set. name: as text. reason: the same for all of a kind."""

    name: str
    reason: str


@dataclass(frozen=True)
class Record:
    """One image as the data set has it, before any resize.

    Attributes:
        id: Unique in the data set and stable between machines (a file name, never an absolute path).
        image: RGB, upright (EXIF orientation applied).
        label: Class index in the data set's label space, or None.
        mask: [height, width] int8 of the image's size: 1 object, 0 background, VOID (-1) neither; or None.
        content: Digest of everything that was read for the image, as the data set's `content` gives it; or "".
    """

    id: str
    image: Image.Image
    label: int | None = None
    mask: np.ndarray | None = None
    content: str = ""


@runtime_checkable
class Dataset(Protocol):
    """A readable set of images. Ids and labels are known without decoding a single image.

    Attributes:
        name: As in configuration files and result rows.
        label_space: Which classes the labels mean ("imagenet", "mnist"), or None where there are no labels. Labels are
            compared with a model's outputs only where the spaces are equal.
        ids: Every image's id, in the data set's own order; UTF-8 text without control characters.
        labels: Every image's class index or None, in the order of the ids.
        class_names: Readable names of classes by index, for pictures and messages; those that are known.
    """

    @property
    def name(self) -> str: ...
    @property
    def label_space(self) -> str | None: ...
    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Sequence[int | None]: ...
    @property
    def class_names(self) -> Mapping[int, str]: ...

    def read(self, index: int) -> Record:
        """Decode one image.

        Args:
            index: Its place in `ids`.

        Raises:
            CorruptSample: It cannot be read; the file and the fault are named.
        """
        ...

    def fingerprint(self) -> str:
        """A hash of ids, labels and the reader's settings; equal on every machine, and found without reading images."""
        ...


@runtime_checkable
class HasContent(Protocol):
    """A data set that knows an image's digest without decoding it."""

    def content(self, index: int) -> str:
        """Digest of all that is read for an image: image, mask or annotation, label.

        Args:
            index: Its place in `ids`.

        Raises:
            CorruptSample: It cannot be read.
        """
        ...


def content_of(dataset: Dataset, index: int, record: Record | None = None) -> str:
    """The digest of one image: equal as long as nothing that is read for it has changed.

    record: the image where it has been read already, so that it is not read again.
    A data set without `content` has the digest of its decoded pixels, mask and label. Raises CorruptSample.
    """
    if record is not None and record.content:
        return record.content
    if isinstance(dataset, HasContent):
        return dataset.content(index)
    return _decoded(record or dataset.read(index))


def _decoded(record: Record) -> str:
    mask = None if record.mask is None else record.mask.tobytes()
    return digest("decoded", str(record.image.size), record.image.tobytes(), mask, record.label)
