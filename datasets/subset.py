"""Parts of a data set, chosen without decoding an image and the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from dix.datasets.api import Dataset, Record, content_of
from dix.datasets.text import read_lines


class Selection(Protocol):
    """A rule that picks images."""

    def indices(self, dataset: Dataset) -> Sequence[int]:
        """Positions in dataset.ids, in the order in which the subset shall have them."""
        ...


@dataclass(frozen=True)
class Listed:
    """The ids that a text file lists, one a line, in its order; lines of "# ..." and empty ones are skipped."""

    file: str

    def indices(self, dataset: Dataset) -> Sequence[int]:
        """Raises ValueError that names an id which the data set lacks or the file repeats."""
        if not Path(self.file).is_file():
            raise ValueError(f"dataset.subset: expected a text file of ids, got {self.file!r}, which is not there")
        wanted = [line for _, line in read_lines(Path(self.file))]
        position = {name: index for index, name in enumerate(dataset.ids)}
        unknown = [name for name in wanted if name not in position]
        if unknown:
            raise ValueError(f"dataset.subset: {self.file} lists {unknown[0]!r}, which {dataset.name} does not have")
        if len(set(wanted)) < len(wanted):
            raise ValueError(f"dataset.subset: {self.file} lists an id more than once")
        return [position[name] for name in wanted]


def random_order(name: str, ids: Sequence[str], seed: int) -> list[int]:
    """Positions of a data set's images in the order of their hashes of (seed, data set, id).

    An image's place among others depends on none of them, so that every part of a data set has the order of the whole.
    """
    keys = [hashlib.sha256(f"{seed}\t{name}\t{image}".encode()).digest() for image in ids]
    return sorted(range(len(keys)), key=keys.__getitem__)


@dataclass(frozen=True)
class RandomSample:
    """Draw `count` images: those with the smallest hash of (seed, data set, id), in the data set's order.

    A smaller sample of the same seed is a part of a larger one. Raises ValueError where there are fewer images.
    """

    count: int
    seed: int = 0

    def indices(self, dataset: Dataset) -> Sequence[int]:
        """Positions of the drawn images."""
        if not 0 < self.count <= len(dataset.ids):
            raise ValueError(
                f"dataset.subset: expected 1 to {len(dataset.ids)} images of {dataset.name}, got {self.count}"
            )
        return sorted(random_order(dataset.name, dataset.ids, self.seed)[: self.count])


@dataclass(frozen=True)
class OfClasses:
    """The images with one of these labels. Raises ValueError without labels, or for a class without images."""

    classes: tuple[int, ...]

    def indices(self, dataset: Dataset) -> Sequence[int]:
        """Positions of the images of the classes."""
        labels = known_labels(dataset)
        empty = [label for label in self.classes if label not in labels]
        if empty:
            raise ValueError(f"dataset.subset: {dataset.name} has no image of class {empty[0]}")
        return [index for index, label in enumerate(labels) if label in self.classes]


def known_labels(dataset: Dataset) -> Sequence[int | None]:
    """Every image's label, known without decoding. Raises ValueError where the data set cannot say."""
    labels = dataset.labels
    if all(label is None for label in labels):
        raise ValueError(f"dataset.subset: expected a data set with labels, got {dataset.name}, which has none")
    return labels


@dataclass(frozen=True)
class Subset:
    """A data set reduced to a selection; it keeps name and fingerprint, since an image's scores stay what they are."""

    dataset: Dataset
    selection: Selection

    @property
    def name(self) -> str:
        """The whole data set's name."""
        return self.dataset.name

    @property
    def label_space(self) -> str | None:
        """The whole data set's label space."""
        return self.dataset.label_space

    @cached_property
    def chosen(self) -> Sequence[int]:
        """Positions in the whole data set. Raises ValueError for an empty selection."""
        chosen = tuple(self.selection.indices(self.dataset))
        if not chosen:
            raise ValueError(f"dataset.subset: {self.selection} leaves no image of {self.dataset.name}")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"dataset.subset: {self.selection} takes an image of {self.dataset.name} more than once")
        return chosen

    @cached_property
    def ids(self) -> Sequence[str]:
        """Ids of the selection, in its order."""
        return tuple(self.dataset.ids[index] for index in self.chosen)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """Labels of the selection."""
        labels = self.dataset.labels
        return tuple(labels[index] for index in self.chosen)

    @property
    def class_names(self) -> Mapping[int, str]:
        """The whole data set's names of classes."""
        return self.dataset.class_names

    def read(self, index: int) -> Record:
        """Decode one image of the selection. Raises CorruptSample."""
        return self.dataset.read(self.chosen[index])

    def content(self, index: int) -> str:
        """The image's digest in the whole data set. Raises CorruptSample."""
        return content_of(self.dataset, self.chosen[index])

    def fingerprint(self) -> str:
        """The whole data set's hash: stored scores of an image hold for every subset that has it."""
        return self.dataset.fingerprint()


def _sample(text: str) -> Selection:
    count, _, seed = text.partition(":")
    return RandomSample(int(count), int(seed or 0))


def _classes(text: str) -> Selection:
    return OfClasses(tuple(int(label) for label in text.split(",")))


_FORMS: Mapping[str, Callable[[str], Selection]] = {"file": Listed, "random": _sample, "classes": _classes}


def select(dataset: Dataset, subset: Any = None) -> Dataset:
    """Apply the setting `dataset.subset`.

    subset: None for all images; "file:PATH", "random:COUNT[:SEED]" or "classes:1,2,3"; or a Selection.
    Raises ValueError for any other form.
    """
    if subset is None:
        return dataset
    if not isinstance(subset, str):
        return Subset(dataset, subset)
    form, _, rest = subset.partition(":")
    try:
        return Subset(dataset, _FORMS[form](rest))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"dataset.subset: expected file:PATH, random:COUNT[:SEED] or classes:1,2,3, got {subset!r}"
        ) from error
