"""PASCAL VOC 2012 segmentation, validation part (Everingham et al., IJCV 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from dix.datasets.api import VOID, Record
from dix.datasets.identity import digest
from dix.datasets.images import decode_palette, decode_rgb, read_bytes
from dix.datasets.index import fingerprint, unique
from dix.datasets.layout import Layout
from dix.datasets.masks import fitting

_BORDER = 255  #: the palette index of the unlabelled border around objects
_INNER = ("VOCdevkit/VOC2012", "VOC2012", ".")
LAYOUT = Layout(
    name="voc",
    source="PASCAL Visual Object Classes Challenge 2012, host.robots.ox.ac.uk/pascal/VOC: VOCtrainval_11-May-2012.tar",
    tree="""
[VOCdevkit/VOC2012/]
  ImageSets/Segmentation/val.txt
  JPEGImages/2007_000033.jpg
  SegmentationClass/2007_000033.png
""",
    expected={"images": 1_449},
)


@dataclass(frozen=True)
class Voc:
    """Images with every labelled pixel as object.

    root: the folder of the layout above; None: $DIX_DATA/voc. part: names the list in ImageSets/Segmentation.
    void: what the border (255) is: "foreground", as the released scripts of the thesis count it, or "ignore".
    Raises MissingData on first use; ValueError where the list names an image twice.
    """

    root: str | None = None
    part: str = "val"
    void: Literal["foreground", "ignore"] = "foreground"
    name: str = "voc"
    label_space: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        if self.void not in ("foreground", "ignore"):
            raise ValueError(f"dataset.void: expected foreground or ignore, got {self.void!r}")

    @cached_property
    def folder(self) -> Path:
        """The folder that holds ImageSets."""
        root = LAYOUT.root(self.root)
        for inner in _INNER:
            if (root / inner / "ImageSets").is_dir():
                return root / inner
        raise LAYOUT.missing(f"there is no folder ImageSets in {root}")

    @cached_property
    def ids(self) -> Sequence[str]:
        """Names in the order of the list."""
        path = self.folder / "ImageSets" / "Segmentation" / f"{self.part}.txt"
        if not path.is_file():
            raise LAYOUT.missing(f"ImageSets/Segmentation/{self.part}.txt is not in {self.folder}")
        names = path.read_text(encoding="utf-8").split()
        return tuple(unique(names, f"ImageSets/Segmentation/{self.part}.txt"))

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """None for every image: an image may have several classes."""
        return (None,) * len(self.ids)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: the set has no labels to name."""
        return {}

    def read(self, index: int) -> Record:
        """Decode one image and its mask. Raises CorruptSample."""
        name = self.ids[index]
        picture, truth = _files(name)
        data, drawn = self._bytes(picture), self._bytes(truth)
        image = decode_rgb(data, picture)
        classes = decode_palette(drawn, truth)
        mask = (classes > 0).astype(np.int8)
        if self.void == "ignore":
            mask[classes == _BORDER] = VOID
        return Record(name, image, None, fitting(mask, image, truth), digest(data, drawn))

    def content(self, index: int) -> str:
        """Digest of the image's file and of its mask's. Raises CorruptSample."""
        return digest(*(self._bytes(name) for name in _files(self.ids[index])))

    def _bytes(self, name: str) -> bytes:
        return read_bytes(self.folder / name, name)

    def fingerprint(self) -> str:
        """Hash of the ids and the rule for the border."""
        return fingerprint(self.name, self.ids, self.labels, self.void)


def _files(name: str) -> tuple[str, str]:
    """Image and mask of one name, relative to the folder that holds ImageSets."""
    return f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png"
