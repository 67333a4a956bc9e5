"""COCO 2017 validation images (Lin et al., ECCV 2014) with the union of their instance masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from dix.datasets.api import LeftOut, Record
from dix.datasets.coco_notes import Note, Notes, Picture, decode_rle, read_notes, union
from dix.datasets.identity import digest
from dix.datasets.images import decode, read_bytes
from dix.datasets.index import fingerprint
from dix.datasets.layout import Layout
from dix.datasets.listing import list_files
from dix.datasets.masks import on_stored
from dix.datasets.text import text_id

__all__ = ["LAYOUT", "Coco", "decode_rle"]

LAYOUT = Layout(
    name="coco",
    source="COCO 2017, cocodataset.org: val2017.zip and annotations_trainval2017.zip",
    tree="""
val2017/000000000139.jpg
annotations/instances_val2017.json
""",
    expected={"images": 5_000, "annotated": 4_952},
)


@dataclass(frozen=True)
class Coco:
    """Images sorted by their COCO number; a mask is the union of all instances, crowds included.

    root: the folder of the layout above; None: $DIX_DATA/coco.
    part: names the folder of images and the annotation file.
    unannotated: images without an instance are left out ("drop", as the released scripts do: 4,952 remain) or kept
        with an empty mask ("keep": 5,000, as the thesis counts).
    category: only this category's instances (an English name such as "dog"); None: all eighty.

    Annotations are drawn on the pixels as an image's file has them; where EXIF turns the image, its mask is turned with
    it. An annotation that cannot be decoded is left out; an image of which all are has no mask.
    Raises MissingData on first use; ValueError for an unknown category or an image listed twice.
    """

    version: ClassVar[int] = 1
    root: str | None = None
    part: str = "val2017"
    unannotated: Literal["drop", "keep"] = "drop"
    category: str | None = None
    name: str = "coco"
    label_space: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        if self.unannotated not in ("drop", "keep"):
            raise ValueError(f"dataset.unannotated: expected drop or keep, got {self.unannotated!r}")

    @cached_property
    def folder(self) -> Path:
        """The resolved root."""
        return LAYOUT.root(self.root)

    @cached_property
    def _notes(self) -> Notes:
        path = self.folder / "annotations" / f"instances_{self.part}.json"
        if not path.is_file():
            raise LAYOUT.missing(f"{path.relative_to(self.folder)} is not in {self.folder}")
        return read_notes(path)

    @cached_property
    def _categories(self) -> frozenset[int]:
        """Numbers of the categories whose instances are used. Raises ValueError for a name that is none."""
        named = self._notes.categories
        found = frozenset(number for number, name in named.items() if self.category in (None, name))
        if self.category is not None and not found:
            raise ValueError(
                f"dataset.category: expected one of {', '.join(sorted(named.values()))}; got {self.category!r}"
            )
        return found

    def _instances(self, picture: Picture) -> Sequence[Note]:
        """The annotations that an image's mask is made of."""
        chosen = self._notes.by_picture.get(picture.key, ())
        return [note for note in chosen if note["category_id"] in self._categories]

    @cached_property
    def _pictures(self) -> Sequence[Picture]:
        return [picture for picture in self._notes.pictures if self.unannotated == "keep" or self._has_note(picture)]

    def _has_note(self, picture: Picture) -> bool:
        """Whether an image has an instance, or has only such as cannot be decoded and might be of any category."""
        return bool(self._instances(picture)) or (self.category is None and picture.key in self._notes.broken)

    @cached_property
    def ids(self) -> Sequence[str]:
        """File names, sorted by COCO number."""
        return tuple(picture.id for picture in self._pictures)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """None for every image: an image has many categories."""
        return (None,) * len(self.ids)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: the set has no labels to name."""
        return {}

    @property
    def absent(self) -> Sequence[str]:
        """Ids whose image is not there."""
        folder = self.folder / self.part
        return tuple(picture.id for picture in self._pictures if not (folder / picture.file).is_file())

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Annotations that cannot be decoded, images without an instance, and files that are not listed."""
        kept = ", read only with dataset.unannotated=keep" if self.unannotated == "keep" else ""
        bare = [picture.id for picture in self._notes.pictures if not self._has_note(picture)]
        listed = {picture.file for picture in self._notes.pictures}
        found = list_files(self.folder / self.part, ["."])
        strange = [text_id(name) for name in found.files if name not in listed]
        return [
            *self._notes.left_out,
            *(LeftOut(name, f"image without an instance{kept}") for name in bare),
            *found.left_out,
            *(LeftOut(name, "file that the annotations do not list") for name in strange),
        ]

    def read(self, index: int) -> Record:
        """Decode one image and the union of its masks. Raises CorruptSample."""
        picture, data = self._pictures[index], self._bytes(index)
        name = f"{self.part}/{picture.id}"
        image = decode(data, name)
        notes = self._instances(picture)
        known = bool(notes) or picture.key not in self._notes.broken
        mask = on_stored(union(notes, picture), image, name) if known else None
        return Record(picture.id, image.image, None, mask, self._digest(picture, data))

    def content(self, index: int) -> str:
        """Digest of the image's file and of the annotations that its mask is made of. Raises CorruptSample."""
        return self._digest(self._pictures[index], self._bytes(index))

    def _bytes(self, index: int) -> bytes:
        picture = self._pictures[index]
        return read_bytes(self.folder / self.part / picture.file, f"{self.part}/{picture.id}")

    def _digest(self, picture: Picture, data: bytes) -> str:
        size = [picture.height, picture.width, picture.key in self._notes.broken]
        return digest(data, json.dumps([size, *self._instances(picture)], sort_keys=True))

    def category_masks(self, index: int) -> dict[str, np.ndarray]:
        """One mask [height, width] int8 for each category that the image has, by the category's name, as stored."""
        picture = self._pictures[index]
        notes = self._notes.by_picture.get(picture.key, ())
        numbers = sorted({note["category_id"] for note in notes})
        names = self._notes.categories
        return {names[n]: union([note for note in notes if note["category_id"] == n], picture) for n in numbers}

    def fingerprint(self) -> str:
        """Hash of all images' names (annotated or not) and the category."""
        ids = [picture.id for picture in self._notes.pictures]
        return fingerprint(self.name, ids, [None] * len(ids), str(self.category))
