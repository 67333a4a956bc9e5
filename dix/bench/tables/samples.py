"""Stored rows as arrays: one sample of images for each cell of a table."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from dix.bench.store.cells import Group
from dix.bench.store.results import ResultStore
from dix.bench.tables.statistics import Column, Floats

if TYPE_CHECKING:
    from dix.metrics.api import Summary

_CELL = ("protocol", "dataset", "model", "method", "metric")
COLUMNS = ("model", "dataset", "method", "metric", "protocol", "image", "value", "parts", "curve", "reason")

#: An array for each image, or one matrix where they are all of a length.
Lists = Sequence[Floats] | Floats


class Summarised(Protocol):
    """What a table needs to know of a metric; every `dix.metrics.api.Metric` is one."""

    @property
    def label(self) -> str: ...
    @property
    def higher_is_better(self) -> bool | None: ...
    @property
    def extra(self) -> bool: ...

    def summary(self, value: Floats, parts: Floats, curve: Floats) -> Summary:
        """The data set's score for any weights of its images."""
        ...


@runtime_checkable
class Derived(Protocol):
    """A metric computed from other metrics' values of the same images, such as `dix.metrics.derived.Difference`."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    def combine(self, values: Mapping[str, Floats]) -> Floats:
        """The derived value of each image [n] from the inputs' values [n]."""
        ...


class Block(NamedTuple):
    """What one group of lines of a table shares."""

    protocol: str
    dataset: str
    model: str


class Key(NamedTuple):
    """The names of one cell."""

    block: Block
    method: str
    metric: str


@dataclass(frozen=True)
class Sample:
    """One cell's stored rows in the order of their image ids.

    images: [n] ids. value: [n], NaN where the image is excluded. parts: n arrays [P], or [n, P]. curve: likewise.
    reasons: n strings, "" where the image counts. remarks: n strings, "" where there is nothing to say.
    """

    images: tuple[str, ...]
    value: Floats
    parts: Lists
    curve: Lists
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The ids of the images that count."""
        return tuple(image for image, out in zip(self.images, np.isnan(self.value), strict=True) if not out)

    @property
    def excluded(self) -> dict[str, int]:
        """How many images are excluded for each reason."""
        out = np.flatnonzero(np.isnan(self.value))
        counts = Counter(self.reasons[i] or "no reason stored" for i in out)
        return dict(sorted(counts.items()))

    @property
    def flagged(self) -> dict[str, int]:
        """How many images have each remark."""
        return dict(sorted(Counter(filter(None, self.remarks)).items()))

    def only(self, images: Sequence[str]) -> Sample:
        """The rows of some of the images, which must be given in order."""
        wanted = set(images)
        index = [i for i, image in enumerate(self.images) if image in wanted]
        return Sample(
            tuple(self.images[i] for i in index),
            self.value[index],
            _at(self.parts, index),
            _at(self.curve, index),
            tuple(self.reasons[i] for i in index),
            tuple(self.remarks[i] for i in index),
        )

    def counted(self) -> tuple[Floats, Floats, Floats]:
        """The value [k], parts [k, P] and curve [k, C] of the k images that count."""
        index = np.flatnonzero(~np.isnan(self.value))
        return self.value[index], _stack(self.parts, index), _stack(self.curve, index)

    def column(self, metric: Summarised) -> Column:
        """The images that count, with the metric's own way to reduce them."""
        value, parts, curve = self.counted()
        weighed = parts if parts.size and not curve.size else None  # a score of curves is not one of its parts
        return Column(value, metric.summary(value, parts, curve), parts=weighed, summary=metric.summary)


def _at(arrays: Lists, index: Sequence[int]) -> Lists:
    return arrays[index] if isinstance(arrays, np.ndarray) else [arrays[i] for i in index]


def _stack(arrays: Lists, index: NDArray[np.intp]) -> Floats:
    if isinstance(arrays, np.ndarray):
        return arrays if len(index) == len(arrays) else arrays[index]
    chosen = [arrays[i] for i in index]
    return np.stack(chosen).astype(float) if chosen else np.zeros((0, 0))


def read(rows: pd.DataFrame | Mapping[Key, Sample]) -> dict[Key, Sample]:
    """The stored rows as one sample for each cell, whatever their order; samples are given back as they are.

    A column `note`, where there is one, holds remarks that do not exclude an image.

    Raises ValueError where a column is missing or an image has two rows in one cell.
    """
    if isinstance(rows, Mapping):
        return dict(rows)
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise ValueError(f"expected stored rows with the columns {', '.join(COLUMNS)}; got none of {missing}")
    groups = rows.groupby(["protocol", "dataset", "model", "method", "metric"], sort=True, observed=True)
    return {_key(names): _sample(_key(names), group) for names, group in groups}


def _key(names: Any) -> Key:
    protocol, dataset, model, method, metric = (str(name) for name in names)
    return Key(Block(protocol, dataset, model), method, metric)


def _sample(key: Key, group: pd.DataFrame) -> Sample:
    images = [str(image) for image in group["image"]]
    if len(set(images)) < len(images):
        twice = Counter(images).most_common(1)[0][0]
        raise ValueError(
            f"expected one row for each image of {key}, got two for {twice!r}: two identities in one cell?"
        )
    order = sorted(range(len(images)), key=images.__getitem__)
    parts, curve, reason = (group[name].tolist() for name in ("parts", "curve", "reason"))
    remark = group["note"].tolist() if "note" in group.columns else [""] * len(images)
    return Sample(
        tuple(images[i] for i in order),
        group["value"].to_numpy(dtype=float)[order],
        [parts[i] for i in order],
        [curve[i] for i in order],
        tuple(str(reason[i]) for i in order),
        tuple(str(remark[i]) for i in order),
    )


def stored(store: ResultStore, groups: Sequence[Group] | None = None) -> dict[Key, Sample]:
    """The samples of all cells of a store, or of some groups, at a hundredth of the memory of a frame of its rows."""
    samples: dict[Key, Sample] = {}
    names = {record["cell"]: _key(record[name] for name in _CELL) for record in store.cells()}
    for group in store.groups() if groups is None else groups:
        table = store.table(group)
        cells = table["cell"].combine_chunks()
        codes = cells.indices.to_numpy()
        texts = {name: _Texts(table[name].combine_chunks()) for name in ("image", "reason", "note")}
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        for start, stop in pairwise(bounds):
            if stop > start:
                key = names[cells.dictionary[codes[start]].as_py()]
                samples[key] = _of_table(table.slice(start, stop - start), texts, start)
        pa.default_memory_pool().release_unused()
    return samples


def _of_table(rows: pa.Table, texts: Mapping[str, _Texts], start: int) -> Sample:
    stop = start + len(rows)
    value = rows["value"].to_numpy()
    return Sample(
        texts["image"].of(start, stop),
        value,
        _matrix(rows["parts"], value),
        _matrix(rows["curve"], value),
        texts["reason"].of(start, stop),
        texts["note"].of(start, stop),
    )


class _Texts:
    """A dictionary column as tuples of texts; equal stretches share one tuple."""

    def __init__(self, column: pa.DictionaryArray) -> None:
        self.codes = column.indices.to_numpy()
        self.texts = np.array(column.dictionary.to_pylist(), dtype=object)
        self.known: dict[bytes, tuple[str, ...]] = {}

    def of(self, start: int, stop: int) -> tuple[str, ...]:
        """The texts of the rows from start to before stop."""
        codes = self.codes[start:stop]
        content = codes.tobytes()
        if content not in self.known:
            self.known[content] = tuple(self.texts[codes].tolist())
        return self.known[content]


def _matrix(column: pa.ChunkedArray, value: Floats) -> Lists:
    """Lists of equal length as [n, P], NaN for excluded images that have none; ragged ones as n arrays."""
    lists = column.combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy())
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    width = int(lengths.max(initial=0))
    full = lengths == width
    if not (full | (np.isnan(value) & (lengths == 0))).all():
        return np.split(flat, np.cumsum(lengths)[:-1])
    if full.all():
        return flat.reshape(len(lengths), width)
    matrix = np.full((len(lengths), width), np.nan, dtype=flat.dtype)
    matrix[full] = flat.reshape(-1, width)
    return matrix


def of_protocol(rows: pd.DataFrame | Mapping[Key, Sample], protocol: str) -> pd.DataFrame | Mapping[Key, Sample]:
    """The rows or samples of one protocol."""
    if isinstance(rows, Mapping):
        return {key: sample for key, sample in rows.items() if key.block.protocol == protocol}
    return rows[rows["protocol"] == protocol]


def scores_of(rows: pd.DataFrame | Mapping[Key, Sample], block: Block, image: str) -> dict[str, dict[str, float]]:
    """What one image of a block scored, by method and metric."""
    scores: dict[str, dict[str, float]] = {}
    samples = rows if isinstance(rows, Mapping) else read(rows[rows["image"] == image])
    for key, sample in samples.items():
        place = bisect_left(sample.images, image)
        if key.block == block and sample.images[place : place + 1] == (image,):
            scores.setdefault(key.method, {})[key.metric] = float(sample.value[place])
    return scores


def derive(samples: Mapping[Key, Sample], metrics: Mapping[str, Summarised]) -> dict[Key, Sample]:
    """The samples of all derived metrics whose inputs are stored, over the images that all inputs have."""
    derived = {}
    for name, metric in metrics.items():
        if isinstance(metric, Derived):
            first = metric.inputs[0]
            for key in [key for key in samples if key.metric == first]:
                inputs = {part: samples.get(key._replace(metric=part)) for part in metric.inputs}
                stored = {part: sample for part, sample in inputs.items() if sample is not None}
                if len(stored) == len(inputs):
                    derived[key._replace(metric=name)] = _combine(metric, stored)
    return derived


def _combine(metric: Derived, inputs: Mapping[str, Sample]) -> Sample:
    images = common([sample.images for sample in inputs.values()])
    shared = {name: sample.only(images) for name, sample in inputs.items()}
    reasons = _first_text([sample.reasons for sample in shared.values()])
    remarks = _first_text([sample.remarks for sample in shared.values()])
    empty = [np.zeros(0)] * len(images)
    return Sample(images, metric.combine({n: s.value for n, s in shared.items()}), empty, empty, reasons, remarks)


def _first_text(columns: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(next(filter(None, texts), "") for texts in zip(*columns, strict=True))


def common(ids: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The ids that are in all of the sequences, in the order of the first."""
    if all(other == ids[0] for other in ids[1:]):
        return ids[0]
    shared = set(ids[0]).intersection(*ids[1:])
    return tuple(image for image in ids[0] if image in shared)
