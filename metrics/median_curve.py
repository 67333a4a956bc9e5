"""The area under the median of many images' curves, and of its resamples: how PAIR aggregates SIC and AIC."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

#: Points of a resampled curve: 0, 0.001, ..., 1.
GRID = np.append(np.linspace(0.0, 1.0, 1000, endpoint=False), 1.0)
#: Ranks searched on each side of a resampled median, in units of sqrt(n): its rank spreads by half of sqrt(n).
REACH = 2.1
#: Up to so many curves, resamples look at every point of the grid; beyond, at every STRIDE-th.
MANY = 2000
STRIDE = 20
#: Ranks that are summed at a time when a median is searched.
BLOCK = 32
#: Up to so many searched ranks are found by adding up one row after another: five times as fast at 25 images.
FEW = 64
#: Curves times points that are held at a time.
HELD = 2**21


def on_grid(curve: np.ndarray, monotone: bool = True) -> np.ndarray:
    """Curves on the common grid: [n, 1001], linear between the points, from (0, 0) to (1, 1).

    curve: [n, 2 K] the x of each of K points, then their y. monotone: replace each y by the largest so far (in the
    order given). Of points with equal x the last one counts from there on.
    """
    return Curves.of(curve, monotone).at(0, GRID.size).T


@dataclass(frozen=True, eq=False)
class Curves:
    """n piecewise linear curves, ready to be read anywhere on the grid.

    x, y: [n, K + 2] the points in the order of x, both ends among them. slope: [n, K + 2] from each point on.
    begins: [n, K + 2] the grid's first point at or after each point.
    """

    x: np.ndarray
    y: np.ndarray
    slope: np.ndarray
    begins: np.ndarray

    @staticmethod
    def of(curve: np.ndarray, monotone: bool = True) -> Curves:
        """From points as `on_grid` takes them."""
        x, y = np.split(np.asarray(curve, dtype=float), 2, axis=1)
        y = np.maximum.accumulate(y, axis=1) if monotone else y
        ends = np.broadcast_to([0.0, 1.0], (len(x), 2))
        x, y = np.concatenate([x, ends], axis=1), np.concatenate([y, ends], axis=1)
        # Stable: of points with equal x the last given stays last, and its value counts from there on. The end (1, 1)
        # comes behind points with x = 1 in the same way.
        order = np.argsort(x, axis=1, kind="stable")
        x, y = np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)
        rise, run = np.diff(y, axis=1, append=1.0), np.diff(x, axis=1, append=2.0)
        slope = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0)
        begins = np.searchsorted(GRID, x)
        begins[:, 0] = 0
        return Curves(x, y, slope, begins)

    def __len__(self) -> int:
        return len(self.x)

    def at(self, first: int, stop: int, stride: int = 1) -> np.ndarray:
        """The curves at the grid's points from first to before stop, by strides: [points, n]."""
        points = GRID[first:stop:stride]
        # Each of a curve's pieces covers the wanted points from its own start to the next piece's: repeating a piece's
        # x, y and slope that often lays them out point by point, without a search for every point. -(-a // b) rounds
        # up.
        begins = (-(-(self.begins - first) // stride)).clip(0, points.size)
        lengths = np.diff(begins, axis=1, append=points.size).ravel()
        slope, x, y = (
            torch.from_numpy(np.repeat(of.ravel(), lengths)).view(len(self), -1) for of in (self.slope, self.x, self.y)
        )
        values = x.neg_().add_(torch.from_numpy(points)).mul_(slope).add_(y)
        if first + (points.size - 1) * stride == GRID.size - 1:
            values[:, -1] = 1.0
        return values.T.contiguous().numpy()


@dataclass(frozen=True, eq=False)
class MedianArea:
    """The area under the pointwise median of n curves, in percent: a `dix.metrics.api.Summary`.

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
            return np.array([self._prepared.exact])
        return self._prepared.resampled(_columns(np.asarray(weights), self.kept))

    @cached_property
    def _prepared(self) -> _Prepared:
        return _Prepared.of(Curves.of(self.curve[self.kept], self.monotone))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Curves reduced to what their resamples need.

    exact: the area under their median. points: where resamples read them. medians: the samples there.
    coarse: the area under the exact median as read there.
    """

    exact: float
    points: np.ndarray
    medians: WeightedMedians
    coarse: float

    @staticmethod
    def of(curves: Curves) -> _Prepared:
        """Read the curves everywhere once, and where resamples will."""
        stride = 1 if len(curves) <= MANY else STRIDE
        step = max(1, HELD // len(curves))
        blocks = [_medians(curves.at(first, min(first + step, GRID.size))) for first in range(0, GRID.size, step)]
        median, points = np.concatenate(blocks), GRID[::stride]
        read = WeightedMedians.of(curves.at(0, GRID.size, stride))
        return _Prepared(float(_area(median, GRID)), points, read, float(_area(median[::stride], points)))

    def resampled(self, counts: np.ndarray) -> np.ndarray:
        """The areas [R] for whole numbers counts [n, R]."""
        return self.exact + (_area(self.medians(counts), self.points) - self.coarse)


def _medians(values: np.ndarray) -> np.ndarray:
    """The median of each row [C, n], which it sorts in part: [C]."""
    middle = values.shape[1] // 2
    values.partition(middle, axis=1)
    high = values[:, middle]
    low = high if values.shape[1] % 2 else values[:, :middle].max(axis=1)
    return np.asarray((low + high) / 2)


def _area(medians: np.ndarray, points: np.ndarray) -> np.ndarray:
    return 100 * np.trapezoid(medians, points, axis=-1)


def _columns(weights: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Weights as [n, R] in the precision in which whole numbers up to 2^24 are exact."""
    return np.ascontiguousarray((weights if kept.all() else weights[:, kept]).T, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class WeightedMedians:
    """The medians of C samples of n values, each value taken as often as its weight says, for many weights.

    Only ranks near the middle are searched, and all of them where that does not reach: the result is exact either way.
    values: [C, n]. below: [C, n] which values lie below the searched ranks. searched: [C, S] the positions of the
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
        below = np.zeros(values.shape, dtype=bool)
        np.put_along_axis(below, order[:, :start], True, axis=1)
        return WeightedMedians(values, below, near)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The medians [R, C] for whole numbers counts [n, R], float32; NaN where nothing counts."""
        total = counts.sum(axis=0, dtype=np.float64)
        middle = np.stack([(total - 1) // 2, total // 2]).astype(np.float32)  # places of the middle elements
        out = np.empty((counts.shape[1], len(self.values)))
        for c, base in enumerate(self.below.astype(np.float32) @ counts):
            out[:, c] = self._median(c, counts, base, middle)
        out[total == 0] = np.nan
        return out

    def _median(self, c: int, counts: np.ndarray, base: np.ndarray, middle: np.ndarray) -> np.ndarray:
        values, near = self.values[c], self.searched[c]
        ranks, missed = _ranks(counts, near, base, middle)
        low, high = values[near[ranks]]
        # A resample's median lies outside the searched ranks about once in 40,000 (REACH is 4.2 standard deviations of
        # its rank): those few are looked up among all values, so that the result stays exact.
        if missed.any():
            order, few = np.argsort(values), np.ascontiguousarray(counts[:, missed])
            ranks, _ = _ranks(few, order, np.float32(0), middle[:, missed])
            low[missed], high[missed] = values[order[ranks]]
        return np.asarray((low + high) / 2)


def _ranks(
    counts: np.ndarray, order: np.ndarray, base: np.ndarray | np.float32, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the counts [n, R] in an order [S], summed on top of base, pass some places [P, R]: [P, R]; and [R] which
    do not pass all of theirs. Sums over blocks find the block, sums within it the rank; a few are added one by one.
    """
    if len(order) <= FEW:
        return _ranks_of_few(counts, order, base, places)
    size, resamples = len(order), counts.shape[1]
    taken = np.zeros((-(-size // BLOCK) * BLOCK, resamples), dtype=np.float32)
    counts.take(order, axis=0, out=taken[:size], mode="clip")
    blocks = taken.reshape(-1, BLOCK, resamples)
    ends = blocks.sum(axis=1).cumsum(axis=0) + base
    ranks = np.empty(places.shape, dtype=np.int64)
    for rank, place in zip(ranks, places, strict=True):
        block = (ends <= place).sum(axis=0).clip(max=len(ends) - 1)
        inside = blocks[block, :, np.arange(resamples)]  # [R, BLOCK]
        before = np.take_along_axis(ends, block[None], axis=0)[0] - inside.sum(axis=1)
        rank[:] = block * BLOCK + (inside.cumsum(axis=1) <= (place - before)[:, None]).sum(axis=1)
    return ranks.clip(max=size - 1), (places[0] < base) | (places[-1] >= ends[-1])


def _ranks_of_few(
    counts: np.ndarray, order: np.ndarray, base: np.ndarray | np.float32, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    end = np.zeros(counts.shape[1], dtype=np.float32) + base
    ranks = np.zeros(places.shape, dtype=np.int64)
    for row in order:
        end += counts[row]
        ranks += end <= places
    return ranks.clip(max=len(order) - 1), (places[0] < base) | (places[-1] >= end)
