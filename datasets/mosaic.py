"""Grids of images of different classes, of which one cell's class is the label: is the right cell explained?

A map of a single photo is right nearly everywhere an object fills the picture; in a mosaic most pixels belong to other
classes (M. Böhle, M. Fritz, B. Schiele, "Convolutional Dynamic Alignment Networks for
Interpretable Classifications", CVPR 2021, test by such grids).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from PIL import Image

from dix.datasets.api import Dataset, LeftOut, Record, content_of
from dix.datasets.identity import digest
from dix.datasets.index import fingerprint


@dataclass(frozen=True)
class Mosaic:
    """One mosaic for every labelled image of `dataset`: itself and grid * grid - 1 images of other classes around it.

    The image that gives a mosaic its id, label and mask stands in the cells by turns, row by row; the others are those
    with the smallest hash of (seed, its id, their id), each of a class of its own. Every image is scaled to
    side x side pixels (aspect not kept, masks nearest); outside of its cell the mask is background.
    Raises ValueError on first use where there are fewer classes than cells.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "mosaic"
    dataset: Dataset
    grid: int = 2
    side: int = 224
    seed: int = 0
    name: str = "mosaic"

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        if self.grid < 1 or self.side < 1:
            raise ValueError(f"dataset: expected grid and side of at least 1, got {self.grid} and {self.side}")

    @property
    def label_space(self) -> str | None:
        """That of the images."""
        return self.dataset.label_space

    @cached_property
    def _own(self) -> tuple[int, ...]:
        """Positions in `dataset` of the images with a label."""
        return tuple(index for index, label in enumerate(self.dataset.labels) if label is not None)

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Images without a label, which are in no mosaic."""
        labels = self.dataset.labels
        return [
            LeftOut(name, "no label") for name, label in zip(self.dataset.ids, labels, strict=True) if label is None
        ]

    @cached_property
    def ids(self) -> Sequence[str]:
        """The labelled images' own ids."""
        return tuple(self.dataset.ids[index] for index in self._own)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """The labelled images' classes."""
        labels = self.dataset.labels
        return tuple(labels[index] for index in self._own)

    @property
    def class_names(self) -> Mapping[int, str]:
        """Those of the images."""
        return self.dataset.class_names

    def cells(self, index: int) -> tuple[int, ...]:
        """Positions in `dataset` of the images in a mosaic's cells, row by row."""
        own, count = self._own[index], self.grid**2
        others = self._others(own, count - 1)
        place = self.place(index)
        return (*others[:place], own, *others[place:])

    def place(self, index: int) -> int:
        """Which cell, row by row, bears the label."""
        return index % self.grid**2

    def _others(self, own: int, wanted: int) -> tuple[int, ...]:
        """Images of other classes than `own` and than each other, in the order of their hashes."""
        name, ids, labels = self.dataset.ids[own], self.dataset.ids, self.dataset.labels

        def draw(other: int) -> bytes:
            return hashlib.sha256(f"{self.seed}\t{name}\t{ids[other]}".encode()).digest()

        chosen: dict[int | None, int] = {}
        for other in sorted(self._own, key=draw):
            if labels[other] != labels[own] and len(chosen) < wanted:
                chosen.setdefault(labels[other], other)
        if len(chosen) < wanted:
            raise ValueError(
                f"dataset.grid: {self.grid} x {self.grid} cells need {wanted + 1} classes, and {self.dataset.name} has "
                f"{len(chosen) + 1}"
            )
        return tuple(chosen.values())

    def read(self, index: int) -> Record:
        """One mosaic. Raises CorruptSample where one of its images cannot be read."""
        cells, whole = self.cells(index), self.grid * self.side
        picture = Image.new("RGB", (whole, whole))
        mask: np.ndarray | None = None
        contents = []
        for place, cell in enumerate(cells):
            record = self.dataset.read(cell)
            top, left = (self.side * at for at in divmod(place, self.grid))
            picture.paste(record.image.resize((self.side, self.side), Image.Resampling.BILINEAR), (left, top))
            contents.append(content_of(self.dataset, cell, record))
            inside = self._truth(record) if place == self.place(index) else None
            if inside is not None:
                mask = np.zeros((whole, whole), np.int8)
                mask[top : top + self.side, left : left + self.side] = inside
        return Record(self.ids[index], picture, self.labels[index], mask, self._digest(index, contents))

    def _truth(self, record: Record) -> np.ndarray | None:
        """The truth [side, side] int8 inside the cell that bears the label."""
        return None if record.mask is None else _scaled(record.mask, self.side)

    def content(self, index: int) -> str:
        """Digest of the images of all cells. Raises CorruptSample."""
        return self._digest(index, [content_of(self.dataset, cell) for cell in self.cells(index)])

    def _digest(self, index: int, contents: Sequence[str]) -> str:
        return digest(self.kind, self.grid, self.side, self.place(index), *contents)

    def fingerprint(self) -> str:
        """Hash of ids, labels, the images' own fingerprint and the layout."""
        layout = (self.dataset.fingerprint(), str(self.grid), str(self.side), str(self.seed))
        return fingerprint(self.name, self.ids, self.labels, *layout)


def _scaled(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask [h, w] int8 at [side, side], nearest; VOID stays what it is."""
    picture = Image.fromarray(np.ascontiguousarray(mask).view(np.uint8))
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST)).view(np.int8)
