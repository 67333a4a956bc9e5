"""PASCAL VOC 2012 segmentation, validation part (Everingham et al., IJCV 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from dix.datasets.api import VOID, Record
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

    def read(self, index: int) -> Record:
        """Decode one image and its mask. Raises CorruptSample."""
        name = self.ids[index]
        picture, truth = f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png"
        image = decode_rgb(read_bytes(self.folder / picture, picture), picture)
        classes = decode_palette(read_bytes(self.folder / truth, truth), truth)
        mask = (classes > 0).astype(np.int8)
        if self.void == "ignore":
            mask[classes == _BORDER] = VOID
        return Record(name, image, None, fitting(mask, image, truth))

    def fingerprint(self) -> str:
        """Hash of the ids, the files' sizes and the rule for the border."""
        paths = [self.folder / "JPEGImages" / f"{name}.jpg" for name in self.ids]
        truths = [self.folder / "SegmentationClass" / f"{name}.png" for name in self.ids]
        sizes = [sum(p.stat().st_size for p in pair if p.is_file()) for pair in zip(paths, truths, strict=True)]
        return fingerprint(self.name, self.ids, self.labels, sizes, self.void)
