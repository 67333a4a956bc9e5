"""All scores of a group as one small matrix for each metric, and single images' rows on demand.

50,000 images and twelve methods are 2.4 MB a metric. Curves and reasons are read for some images at a time, from the
parts that hold them, so that no more than one part of a store is ever in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dix.bench.store.cells import Group, group_of
from dix.bench.store.columns import codes
from dix.bench.store.results import ResultStore
from dix.bench.view.fills import fill_of
from dix.text import told_apart

#: Columns that say what an image scored, without curves.
SHORT = ("cell", "image", "value", "reason")
#: Numbers of a curve that are handed on; longer ones are thinned, as the report's are.
POINTS = 80
#: Decimals of a number that is handed on.
DIGITS = 5


@dataclass(frozen=True)
class Named:
    """A method or metric: its name, its label, and a method's role or a metric's better direction.

    colour: that a method's configuration gives it, or "".
    """

    name: str
    label: str
    kind: str
    colour: str = ""


class Scores:
    """The scores of one group of a store.

    images: their ids, sorted. methods, metrics: in the order of their names. cells: (method, metric) by digest. fill,
    mean: what masked pixels became, and the model's mean colour (see `dix.bench.view.fills`).
    """

    def __init__(self, store: ResultStore, group: Group) -> None:
        self.store = store
        self.group = group
        records = [cell for cell in store.cells() if group_of(cell) == group]
        self.fill, self.mean = fill_of(records)
        self.cells = {str(c["cell"]): (str(c["method"]), str(c["metric"])) for c in records}
        printed = {str(c["method"]): c.get("printed", {}) for c in records}
        labels = told_apart({n: str(p.get("label", n)) for n, p in printed.items()})
        self.methods = [
            Named(n, labels[n], str(p.get("role", "")), str(p.get("colour", ""))) for n, p in sorted(printed.items())
        ]
        about = {str(c["metric"]): c.get("printed", {}) for c in records}
        self.metrics = [
            Named(n, str(p.get("metric_label", n)), str(p.get("better", ""))) for n, p in sorted(about.items())
        ]

    @cached_property
    def _read(self) -> tuple[list[str], NDArray[np.float32]]:
        """Image ids, and [metrics, methods, images] scores, NaN where there is none or it does not count."""
        table = self.store.table(self.group, columns=SHORT)
        (cell, digests), (image, names) = codes(table, "cell"), codes(table, "image")
        used = np.unique(image)
        order = used[np.argsort(names[used].astype(str), kind="stable")] if len(used) else used
        place = np.zeros(len(names), dtype=np.int64)
        place[order] = np.arange(len(order))
        rows = {one.name: k for k, one in enumerate(self.methods)}, {one.name: k for k, one in enumerate(self.metrics)}
        at = np.array([(rows[1][self.cells[d][1]], rows[0][self.cells[d][0]]) for d in digests]).reshape(-1, 2)
        values = np.full((len(self.metrics), len(self.methods), len(order)), np.nan, dtype=np.float32)
        values[at[cell, 0], at[cell, 1], place[image]] = table["value"].to_numpy()
        return [str(name) for name in names[order]], values

    @property
    def images(self) -> list[str]:
        """The ids of all images, sorted."""
        return self._read[0]

    @property
    def values(self) -> NDArray[np.float32]:
        """[metrics, methods, images], NaN where an image does not count."""
        return self._read[1]

    def about(self) -> dict[str, Any]:
        """The group's names and the means of its images' scores, for the first view."""
        values = self.values
        counts = (~np.isnan(values)).sum(axis=2)
        sums = np.nansum(values.astype(np.float64), axis=2)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return {
            **self.group._asdict(),
            "methods": [one.__dict__ for one in self.methods],
            "metrics": [one.__dict__ for one in self.metrics],
            "images": len(self.images),
            "fill": self.fill,
            "means": [[_plain(x) for x in line] for line in means],
            "counts": counts.tolist(),
        }

    def rows(self, images: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """By image, method and metric, the curve, and the reason why it does not count."""
        found: dict[str, dict[str, dict[str, Any]]] = {image: {} for image in images}
        table = self.store.some(self.group, images, ("cell", "image", "value", "curve", "reason"))
        columns = (table[name].to_pylist() for name in ("cell", "image", "reason"))
        for cell, image, reason, curve in zip(*columns, _curves(table), strict=True):
            method, metric = self.cells.get(cell, ("", ""))
            if method:
                found[image].setdefault(method, {})[metric] = {"curve": curve, "reason": reason}
        return found


def _curves(table: pa.Table) -> Iterator[list[float | None]]:
    """The curve of each row, rounded as `_plain` does it, all at once: a number at a time takes ten times as long."""
    for lists in table["curve"].chunks:
        numbers = np.asarray(lists.flatten(), dtype=float)
        plain: list[float | None] = numbers.round(DIGITS).tolist()
        for place in np.flatnonzero(~np.isfinite(numbers)):
            plain[place] = None
        ends = np.cumsum(lists.value_lengths().fill_null(0)).tolist()
        yield from (_thinned(plain[start:end]) for start, end in zip([0, *ends], ends, strict=False))


def _thinned(points: list[float | None]) -> list[float | None]:
    if len(points) <= POINTS:
        return points
    return [points[i] for i in np.linspace(0, len(points) - 1, POINTS).round().astype(int)]


def _plain(number: float) -> float | None:
    return round(float(number), DIGITS) if np.isfinite(number) else None
