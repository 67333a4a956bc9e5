"""Pictures with one bright patch planted in the noise: its place is the label, and its pixels are the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from PIL import Image

from dix.datasets.api import Record
from dix.datasets.identity import digest
from dix.datasets.index import fingerprint


@dataclass(frozen=True)
class Planted:
    """`count` pictures of side x side pixels: uniform noise, and one cell of a grid brighter than the others.

    The bright cell is the label and the mask, cells by turns. noise: the greatest value of the noise, in [0, 1].
    bright: what is added in the cell. The same pictures on every machine: NumPy's PCG64, seeded by the seed and the
    picture's number. Raises ValueError where the grid does not divide the side, or values would leave [0, 1].
    """

    version: ClassVar[int] = 1
    count: int = 60
    side: int = 32
    grid: int = 4
    noise: float = 0.6
    bright: float = 0.3
    seed: int = 0
    name: str = "planted"

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        if self.count < 1 or self.grid < 2 or self.side % self.grid:
            got = f"{self.count}, {self.grid} and {self.side}"
            raise ValueError(f"dataset: expected a count of at least 1 and a grid that divides the side, got {got}")
        if min(self.noise, self.bright) < 0 or self.noise + self.bright > 1:
            raise ValueError(f"dataset: expected noise + bright of at most 1, got {self.noise} and {self.bright}")

    @property
    def label_space(self) -> str:
        """The cells."""
        return f"planted, {self.grid} x {self.grid} cells"

    @cached_property
    def ids(self) -> Sequence[str]:
        """Numbers with leading zeros."""
        return tuple(f"planted{index:05d}" for index in range(self.count))

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """The bright cell, row by row."""
        return tuple(index % self.grid**2 for index in range(self.count))

    @property
    def class_names(self) -> Mapping[int, str]:
        """Cells by number."""
        return {k: f"cell {k + 1}" for k in range(self.grid**2)}

    def read(self, index: int) -> Record:
        """One picture."""
        draw = np.random.default_rng([self.seed, index])
        pixels = self.noise * draw.random((self.side, self.side, 3))
        mask = np.zeros((self.side, self.side), np.int8)
        cell = self.side // self.grid
        top, left = (cell * at for at in divmod(index % self.grid**2, self.grid))
        mask[top : top + cell, left : left + cell] = 1
        pixels[mask == 1] += self.bright
        image = Image.fromarray((255 * pixels).astype(np.uint8))
        return Record(self.ids[index], image, self.labels[index], mask, self.content(index))

    def content(self, index: int) -> str:
        """Digest of what the picture is made from."""
        return digest("planted", index, self.side, self.grid, str(self.noise), str(self.bright), self.seed)

    def fingerprint(self) -> str:
        """Hash of ids, labels and settings."""
        settings = (self.side, self.grid, self.noise, self.bright, self.seed)
        return fingerprint(self.name, self.ids, self.labels, *map(str, settings))
