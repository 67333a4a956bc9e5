"""The area under the median of many images' curves, and of its resamples: how PAIR aggregates SIC and AIC."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Points of a resampled curve: 0, 0.001, ..., 1.
GRID = np.append(np.linspace(0.0, 1.0, 1000, endpoint=False), 1.0)
#: Ranks searched on each side of a resampled median, in units of sqrt(n): its rank spreads by half of sqrt(n).
REACH = 2.6
#: Up to so many curves, resamples look at every point of the grid; beyond, at every STRIDE-th.
MANY = 2000
STRIDE = 20
#: Curves times points that are held at a time.
HELD = 2**23


def on_grid(curve: np.ndarray, monotone: bool = True, first: int = 0, stop: int = GRID.size) -> np.ndarray:
    """Curves on the common grid, or on a part of it: [n, stop - first], linear between the points, (0, 0) to (1, 1).

    curve: [n, 2 K] the x of each of K points, then their y. monotone: replace each y by the largest so far (in the
    order given). Of points with equal x the last one counts from there on.
    """
    x, y = _knots(curve, monotone)
    begins = np.searchsorted(GRID, x[:, 1:]).clip(first, stop)  # the grid's first point at or after each knot
    begins = np.concatenate([np.full((len(x), 1), first), begins, np.full((len(x), 1), stop)], axis=1)
    lengths = np.diff(begins, axis=1).ravel()
    rise, run = np.diff(y, axis=1, append=1.0), np.diff(x, axis=1, append=2.0)
    slope = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0)
    repeated = (np.repeat(each.ravel(), lengths).reshape(len(x), stop - first) for each in (slope, x, y))
    slopes, starts, levels = repeated
    out = GRID[first:stop] - starts
    out *= slopes
    out += levels
    if stop == GRID.size:
        out[:, -1] = 1.0
    return out


def _knots(curve: np.ndarray, monotone: bool) -> tuple[np.ndarray, np.ndarray]:
    """The points in the order of x with both ends: [n, K + 2] each."""
    x, y = np.split(np.asarray(curve, dtype=float), 2, axis=1)
    y = np.maximum.accumulate(y, axis=1) if monotone else y
    ends = np.broadcast_to([0.0, 1.0], (len(x), 2))
    x, y = np.concatenate([x, ends], axis=1), np.concatenate([y, ends], axis=1)
    order = np.argsort(x, axis=1, kind="stable")
    return np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)


@dataclass(frozen=True, eq=False)
class MedianArea:
    """The area under the pointwise median of n curves, in percent: a `metrics.api.Summary`.

    curve: [n, 2 K] points as `on_grid` takes them. kept: [n] which curves count. monotone: see `on_grid`.
    Without weights it is exact. With weights [R, n] it is exact for up to MANY curves; beyond, a resample's *change*
    is taken from every STRIDE-th point of the grid and added to the exact area, since neighbouring points of a median
    curve move together.
    """

    curve: np.ndarray
    kept: np.ndarray
    monotone: bool = True

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """The areas: [R], or [1] without weights; NaN where nothing counts."""
        if not self.kept.any():
            return np.full(1 if weights is None else len(weights), np.nan)
        if weights is None:
            return np.array([self._exact])
        drawn = _area(self._medians(_columns(np.asarray(weights), self.kept)), self._points)
        return drawn if len(self._points) == GRID.size else self._exact + drawn - self._coarse

    @cached_property
    def _counted(self) -> np.ndarray:
        return self.curve[self.kept]

    @cached_property
    def _exact(self) -> float:
        step = max(1, HELD // len(self._counted))
        parts = [
            np.median(on_grid(self._counted, self.monotone, first, min(first + step, GRID.size)), axis=0)
            for first in range(0, GRID.size, step)
        ]
        return float(_area(np.concatenate(parts), GRID))

    @cached_property
    def _points(self) -> np.ndarray:
        return GRID[:: 1 if len(self._counted) <= MANY else STRIDE]

    @cached_property
    def _coarse(self) -> float:
        """The exact medians' area at the resamples' points."""
        return float(_area(self._medians(np.ones((len(self._counted), 1), dtype=np.float32))[0], self._points))

    @cached_property
    def _medians(self) -> WeightedMedians:
        stride = (GRID.size - 1) // (len(self._points) - 1)
        taken = [on_grid(self._counted, self.monotone, first, first + 1) for first in range(0, GRID.size, stride)]
        return WeightedMedians.of(np.concatenate(taken, axis=1).T)


def _area(medians: np.ndarray, points: np.ndarray) -> np.ndarray:
    return 100 * np.trapezoid(medians, points, axis=-1)


def _columns(weights: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Weights as [n, R] in the precision in which whole numbers up to 2^24 are exact."""
    return np.ascontiguousarray((weights if kept.all() else weights[:, kept]).T, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class WeightedMedians:
    """The medians of C samples of n values, each value taken as often as its weight says, for many weights.

    Only ranks near the middle are searched, and all of them where that does not reach: the result is exact either way.
    values: [C, n]. below: [C, n] 1 for values that lie below the searched ranks. searched: [C, S] the positions of the
    values at the searched ranks, in their order.
    """

    values: np.ndarray
    below: np.ndarray
    searched: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> WeightedMedians:
        """Prepare samples [C, n]."""
        values = np.ascontiguousarray(values)
        n = values.shape[1]
        reach = int(REACH * np.sqrt(n)) + 1
        start, stop = max(0, n // 2 - reach), min(n, n // 2 + reach)
        order = np.argpartition(values, [start, stop - 1], axis=1)
        near = order[:, start:stop]
        near = np.take_along_axis(near, np.argsort(np.take_along_axis(values, near, axis=1), axis=1), axis=1)
        below = np.zeros(values.shape, dtype=np.float32)
        np.put_along_axis(below, order[:, :start], 1.0, axis=1)
        return WeightedMedians(values, below, near)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The medians [R, C] for whole numbers counts [n, R], float32; NaN where nothing counts."""
        total = counts.sum(axis=0, dtype=np.float64)
        middle = np.stack([(total - 1) // 2, total // 2]).astype(np.float32)  # places of the middle elements
        out = np.empty((counts.shape[1], len(self.values)))
        for c, base in enumerate(self.below @ counts):
            out[:, c] = self._median(c, counts, base, middle)
        out[total == 0] = np.nan
        return out

    def _median(self, c: int, counts: np.ndarray, base: np.ndarray, middle: np.ndarray) -> np.ndarray:
        values, near = self.values[c], self.searched[c]
        reached = counts[near].cumsum(axis=0)
        reached += base
        if ((base > middle[0]) | (reached[-1] <= middle[1])).any():  # some middle lies outside the searched ranks
            near = np.argsort(values)
            reached = counts[near].cumsum(axis=0)
        places = [np.count_nonzero(reached <= place, axis=0).clip(max=len(near) - 1) for place in middle]
        low, high = (values[near[place]] for place in places)
        return np.asarray((low + high) / 2)
