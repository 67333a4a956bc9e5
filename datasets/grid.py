"""The grid pointing game: mosaics of confidently classified images, whose truth is the cell of the explained class.

M. Boehle, M. Fritz, B. Schiele, "Convolutional Dynamic Alignment Networks for Interpretable Classifications", CVPR
2021; S. Rao, M. Boehle, B. Schiele, "Towards Better Understanding Attribution Methods", CVPR 2022. No mask has to be
drawn, and the right answer is known as far as the network needs nothing but the cell to recognise its class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from dix.datasets.api import Dataset, LeftOut, Record
from dix.datasets.index import fingerprint
from dix.datasets.mosaic import Mosaic

#: Confidences that this project measured, of data sets that it carries.
CARRIED = Path(__file__).with_name("confidence")


@dataclass(frozen=True)
class GridPointing(Mosaic):
    """One mosaic for every image that a network classifies confidently, as `Mosaic` lays it out; the mask is the cell.

    So a mosaic is known by the image whose class is explained, each image is explained once, and statistics that
    resample rows resample images, not mosaics. The images of the other cells are confident ones, too, of other classes
    than the explained one and than each other; a data set of few images shows each in several mosaics.

    confidence: a JSON file with the probability of each image's label, as `dix data confidence` writes it: a path, or a
    file in datasets/confidence; None takes every labelled image. least: the smallest probability that is confident.
    heads: classes of each cell's own head, for a network with disconnected heads (`dix.models.disconnected`): output
    place * heads + c means class c in that cell; 0: the network has one head for the whole picture.
    Raises ValueError on first use where the file is of another data set, or fewer classes than cells are left.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "grid"
    confidence: str | None = None
    least: float = 0.5
    heads: int = 0
    name: str = "grid"

    @property
    def label_space(self) -> str | None:
        """That of the images; with heads, of the classes in each cell."""
        space = self.dataset.label_space
        return f"{space}, {self.grid} x {self.grid} cells" if self.heads and space else space

    @cached_property
    def _confident(self) -> Mapping[str, float] | None:
        return None if self.confidence is None else confidences(self.confidence, self.dataset)

    @cached_property
    def _own(self) -> tuple[int, ...]:
        """Positions in `dataset` of the images with a label that the network is confident of."""
        known = self._confident
        labelled = (index for index, label in enumerate(self.dataset.labels) if label is not None)
        return tuple(i for i in labelled if known is None or known.get(self.dataset.ids[i], 0.0) >= self.least)

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Images without a label, and those that the network is not confident of."""
        own = set(self._own)
        rest = [(i, label) for i, label in enumerate(self.dataset.labels) if i not in own]
        why = f"its label has a probability below {self.least:g}"
        return [LeftOut(self.dataset.ids[i], "no label" if label is None else why) for i, label in rest]

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """The images' classes; with heads, as outputs of their cell's head."""
        labels = [self.dataset.labels[index] for index in self._own]
        return tuple(self.heads * self.place(i) + label for i, label in enumerate(labels) if label is not None)

    @property
    def class_names(self) -> Mapping[int, str]:
        """Those of the images; with heads, with the cell."""
        names = self.dataset.class_names
        if not self.heads:
            return names
        places = range(self.grid**2)
        return {self.heads * p + label: f"{name} (cell {p + 1})" for p in places for label, name in names.items()}

    def _truth(self, record: Record) -> np.ndarray | None:
        """The whole cell."""
        return np.ones((self.side, self.side), np.int8)

    def fingerprint(self) -> str:
        """Hash of ids, labels, the images' own fingerprint and the layout; the ids tell which were confident."""
        layout = (self.dataset.fingerprint(), str(self.grid), str(self.side), str(self.seed), str(self.heads))
        return fingerprint(self.name, self.ids, self.labels, *layout)


def confidences(file: str, dataset: Dataset) -> Mapping[str, float]:
    """The probability of each image's label, by id. Raises ValueError where the file is not there, or of other images.

    file: a path, or the name of a file that this project carries.
    """
    path = Path(file) if Path(file).is_file() else CARRIED / file
    if not path.is_file():
        raise ValueError(f"dataset.confidence: no file {file!r}; write one with: dix data confidence {file} model=...")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["dataset"] != dataset.name or record["fingerprint"] != dataset.fingerprint():
        raise ValueError(
            f"dataset.confidence: {file} is about {record['dataset']!r} with the fingerprint {record['fingerprint']}, "
            f"got {dataset.name!r} with {dataset.fingerprint()}"
        )
    return {str(name): float(value) for name, value in record["confidence"].items()}
