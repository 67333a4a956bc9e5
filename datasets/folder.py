"""A folder of the user's own images, with masks and labels where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from dix.datasets.api import VOID, CorruptSample, MissingData, Record
from dix.datasets.identity import digest
from dix.datasets.images import decode_palette, decode_rgb, read_bytes
from dix.datasets.index import fingerprint
from dix.datasets.labels import read_label_file
from dix.datasets.listing import walk_images
from dix.datasets.masks import fitting


@dataclass(frozen=True)
class Folder:
    """Every image below a folder, sorted by path.

    root: the folder. mask_suffix: `dog.jpg` has its mask in `dog_mask.png` beside it; a palette or grey image, in which
        every value above 0 is object.
    masks: "optional" uses those that are there, "required" reports an image without one, "none" ignores them.
    void: the value that is neither object nor background, or None.
    labels_file: lines "name index" of ImageNet indices, by file name.
    Raises MissingData for a folder that is not there or holds no image.
    """

    root: str | None = None
    mask_suffix: str = "_mask.png"
    masks: Literal["optional", "required", "none"] = "optional"
    void: int | None = None
    labels_file: str | None = None
    name: str = "folder"

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        if self.masks not in ("optional", "required", "none"):
            raise ValueError(f"dataset.masks: expected optional, required or none, got {self.masks!r}")

    @property
    def label_space(self) -> str | None:
        """ImageNet where a label file is given."""
        return "imagenet" if self.labels_file else None

    @cached_property
    def folder(self) -> Path:
        """The resolved root."""
        if self.root is None or not Path(self.root).is_dir():
            raise MissingData(f"dataset.root: expected a folder of images, got {self.root!r}")
        return Path(self.root)

    @cached_property
    def _files(self) -> Sequence[str]:
        """Path relative to the root of each image that is no mask."""
        images = [path for path in walk_images(self.folder) if not path.endswith(self.mask_suffix)]
        if not images:
            raise MissingData(f"dataset.root: the folder {self.folder} holds no images")
        return images

    @cached_property
    def ids(self) -> Sequence[str]:
        """Paths relative to the root, with forward slashes."""
        return tuple(self._files)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """Labels of the label file; None for an image that it does not name."""
        known = read_label_file(Path(self.labels_file)) if self.labels_file else {}
        return tuple(known.get(PurePosixPath(name).name) for name in self.ids)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: a label file gives indices."""
        return {}

    def read(self, index: int) -> Record:
        """Decode one image and its mask. Raises CorruptSample."""
        name, truth, parts = self._source(index)
        image, drawn, label = decode_rgb(parts[0], name), parts[1], parts[2]
        if truth is None or drawn is None:
            return Record(name, image, label, None, digest(*parts))
        values = decode_palette(drawn, truth)
        mask = (values > 0).astype(np.int8)
        if self.void is not None:
            mask[values == self.void] = VOID
        return Record(name, image, label, fitting(mask, image, truth), digest(*parts))

    def content(self, index: int) -> str:
        """Digest of the image's file, its mask's and the label. Raises CorruptSample."""
        return digest(*self._source(index)[2])

    def _source(self, index: int) -> tuple[str, str | None, tuple[bytes, bytes | None, int | None]]:
        """Names of image and mask, and what is read for the image: both files and the label."""
        name = self.ids[index]
        truth = self._mask_name(name)
        drawn = None if truth is None else read_bytes(self.folder / truth, truth)
        return name, truth, (read_bytes(self.folder / name, name), drawn, self.labels[index])

    def _mask_name(self, name: str) -> str | None:
        """Path of an image's mask relative to the root, or None."""
        truth = str(PurePosixPath(name).with_suffix("")) + self.mask_suffix
        if self.masks == "none":
            return None
        if (self.folder / truth).is_file():
            return truth
        if self.masks == "required":
            raise CorruptSample(f"{name}: its mask {truth} is not there")
        return None

    def fingerprint(self) -> str:
        """Hash of ids, labels, whether masks are read, and the void value."""
        masked = "without masks" if self.masks == "none" else "with masks"
        return fingerprint(self.name, self.ids, self.labels, masked, str(self.void))
