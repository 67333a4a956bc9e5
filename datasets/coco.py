"""COCO 2017 validation images (Lin et al., ECCV 2014) with the union of their instance masks."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dix.datasets.api import CorruptSample, Record
from dix.datasets.identity import digest
from dix.datasets.images import decode_rgb, read_bytes
from dix.datasets.index import fingerprint, unique
from dix.datasets.layout import Layout
from dix.datasets.masks import fitting
from dix.extras import optional

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
    Raises MissingData on first use; ValueError for an unknown category or an image listed twice.
    """

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
    def _coco(self) -> Any:
        """Pycocotools' index of the annotation file."""
        path = self.folder / "annotations" / f"instances_{self.part}.json"
        if not path.is_file():
            raise LAYOUT.missing(f"{path.relative_to(self.folder)} is not in {self.folder}")
        return _index(path)

    @cached_property
    def _categories(self) -> Sequence[int]:
        if self.category is None:
            return ()
        found = self._coco.getCatIds(catNms=[self.category])
        if not found:
            names = ", ".join(sorted(entry["name"] for entry in self._coco.dataset["categories"]))
            raise ValueError(f"dataset.category: expected one of {names}; got {self.category!r}")
        return tuple(found)

    def _instances(self, number: int) -> Sequence[Mapping[str, Any]]:
        """The annotations of one image that the mask is made of."""
        chosen = self._coco.imgToAnns.get(number, ())
        return [note for note in chosen if not self._categories or note["category_id"] in self._categories]

    @cached_property
    def _images(self) -> Sequence[Mapping[str, Any]]:
        images = [self._coco.imgs[number] for number in sorted(self._coco.imgs)]
        return [entry for entry in images if self.unannotated == "keep" or self._instances(entry["id"])]

    @cached_property
    def ids(self) -> Sequence[str]:
        """File names, sorted by COCO number."""
        return tuple(entry["file_name"] for entry in self._images)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """None for every image: an image has many categories."""
        return (None,) * len(self.ids)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: the set has no labels to name."""
        return {}

    def read(self, index: int) -> Record:
        """Decode one image and the union of its masks. Raises CorruptSample."""
        entry = self._images[index]
        name, data = self._bytes(entry)
        image = decode_rgb(data, name)
        mask = self._union(entry, self._instances(entry["id"]), name)
        return Record(entry["file_name"], image, None, fitting(mask, image, name), self._digest(entry, data))

    def content(self, index: int) -> str:
        """Digest of the image's file and of the annotations that its mask is made of. Raises CorruptSample."""
        entry = self._images[index]
        return self._digest(entry, self._bytes(entry)[1])

    def _bytes(self, entry: Mapping[str, Any]) -> tuple[str, bytes]:
        name = f"{self.part}/{entry['file_name']}"
        return name, read_bytes(self.folder / name, name)

    def _digest(self, entry: Mapping[str, Any], data: bytes) -> str:
        notes = json.dumps([entry, *self._instances(entry["id"])], sort_keys=True)
        return digest(data, notes)

    def category_masks(self, index: int) -> dict[str, np.ndarray]:
        """One mask [height, width] int8 for each category that the image has, by the category's name."""
        entry = self._images[index]
        groups: dict[int, list[Mapping[str, Any]]] = {}
        for note in self._coco.imgToAnns.get(entry["id"], ()):
            groups.setdefault(note["category_id"], []).append(note)
        name = f"{self.part}/{entry['file_name']}"
        return {self._coco.cats[key]["name"]: self._union(entry, notes, name) for key, notes in sorted(groups.items())}

    def _union(self, entry: Mapping[str, Any], notes: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
        codec = optional("pycocotools.mask", "datasets")
        if not notes:
            return np.zeros((entry["height"], entry["width"]), dtype=np.int8)
        try:
            merged = codec.merge([self._coco.annToRLE(note) for note in notes])
            return decode_rle(merged["counts"], *merged["size"])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise CorruptSample(f"{name}: its annotation cannot be decoded: {error}") from error

    def fingerprint(self) -> str:
        """Hash of all images' names (annotated or not) and the category."""
        ids = [self._coco.imgs[number]["file_name"] for number in sorted(self._coco.imgs)]
        return fingerprint(self.name, ids, [None] * len(ids), str(self.category))


def decode_rle(text: bytes, height: int, width: int) -> np.ndarray:
    """Mask [height, width] int8 from COCO's compressed run lengths.

    Runs of 0 and 1 alternate, column by column. A run is written in groups of five bits, lowest first, each as a
    character from "0"; bit 5 says that another follows, bit 4 of the last is the sign. From the fourth run on, the
    difference to the run before the last is written. (pycocotools' own decoder warns under NumPy 2, and silencing a
    warning is not safe in threads.)
    """
    runs: list[int] = []
    value = shift = 0
    for group in (byte - 48 for byte in text):
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        value -= (group >> 4 & 1) << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    flat = np.repeat((np.arange(len(runs)) & 1).astype(np.int8), runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _index(path: Path) -> Any:
    """Pycocotools' COCO object, without its prints. Raises ValueError for a broken file or a repeated image."""
    reader = optional("pycocotools.coco", "datasets")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = reader.COCO(str(path))
        images = coco.dataset["images"]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path.name}: not a COCO instances file: {error}") from error
    unique([str(entry["id"]) for entry in images], path.name)
    unique([entry["file_name"] for entry in images], path.name)
    return coco
