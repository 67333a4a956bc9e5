"""PASCAL VOC 2012 segmentation, validation part (Everingham et al., IJCV 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from dix.datasets.api import VOID, CorruptSample, LeftOut, Record
from dix.datasets.identity import digest
from dix.datasets.images import decode, decode_palette, read_bytes
from dix.datasets.index import fingerprint, unique
from dix.datasets.layout import Layout
from dix.datasets.listing import list_files
from dix.datasets.masks import on_stored
from dix.datasets.text import read_lines, text_id

_BORDER = 255  #: the palette index of the unlabelled border around objects
_CLASSES = 20  #: the largest palette index of an object
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
    Masks are drawn on the pixels as an image's file has them; where EXIF turns the image, its mask is turned with it.
    Raises MissingData on first use; ValueError where the list names an image twice.
    """

    version: ClassVar[int] = 1
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
        source = f"ImageSets/Segmentation/{self.part}.txt"
        return tuple(unique([_name(line, f"{source}, line {number}") for number, line in read_lines(path)], source))

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """None for every image: an image may have several classes."""
        return (None,) * len(self.ids)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: the set has no labels to name."""
        return {}

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Images and masks that the list does not name."""
        used = {file for name in self.ids for file in _files(name)}
        found = list_files(self.folder, ["JPEGImages", "SegmentationClass"])
        others = [
            LeftOut(text_id(file), f"file that {self.part}.txt does not name")
            for file in found.files
            if file not in used
        ]
        return [*found.left_out, *others]

    def read(self, index: int) -> Record:
        """Decode one image and its mask. Raises CorruptSample."""
        name = self.ids[index]
        picture, truth = _files(name)
        data, drawn = self._bytes(picture), self._bytes(truth)
        image = decode(data, picture)
        classes = _classes(decode_palette(drawn, truth), truth)
        mask = (classes > 0).astype(np.int8)
        if self.void == "ignore":
            mask[classes == _BORDER] = VOID
        return Record(name, image.image, None, on_stored(mask, image, truth), digest(data, drawn))

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


def _name(line: str, where: str) -> str:
    """The one name of a line. Raises ValueError where it is none, or would lead out of the folder."""
    if len(line.split()) != 1 or "/" in line or "\\" in line or not line.isprintable():
        raise ValueError(f"{where}: expected one image's name without folders, got {line!r}")
    return line


def _classes(indices: np.ndarray, name: str) -> np.ndarray:
    """The indices again. Raises CorruptSample for one that is neither a class nor the border."""
    strange = np.unique(indices[(indices > _CLASSES) & (indices != _BORDER)])
    if strange.size:
        raise CorruptSample(
            f"{name}: {strange[0]} is neither a class (0 to {_CLASSES}) nor the border ({_BORDER}); the masks of the"
            " official archive hold palette indices, which a conversion to grey destroys"
        )
    return indices
