"""What a set of per-image scores can tell of its score: bootstrap intervals, and exact ones of proportions.

Every score of a table is a function of images with weights (how often each image counts), so that one set of
resamples serves all methods and metrics that share their images, and the draws of two scores may be subtracted to
get the interval of their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy import special

T = TypeVar("T")
Floats = NDArray[np.float64]

#: How often images count: [R, n] whole numbers in any floating type.
Weights = NDArray[np.floating[Any]]
#: ``reduce(weights [R, n]) -> [R]``, or ``reduce(None) -> [1]`` with every image once.
Reduce = Callable[[Weights | None], Floats]

#: Scores that are reduced at the same time, where there are as many cores; each holds memory of its own.
SCORES_AT_A_TIME = 4
#: Below so many images a cell says that its interval may cover less than its level (see docs/statistics.md).
FEW = 10
#: Draws this close to the estimate, relative to their size, are ties: sums differ in the last bits between machines.
TIE = 1e-12


@dataclass(frozen=True)
class Bootstrap:
    """How uncertainty is estimated (B. Efron, "Better bootstrap confidence intervals", JASA 1987).

    resamples: number R of resamples. level: coverage of the interval. seed: seed of the resampling and of the flips.
    flips: number of sign flips of a paired test.
    groups: the jackknife leaves out single images up to this many, then as many groups of images.
    chunk_bytes: memory for the weights of the resamples that are in flight at a time.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0
    groups: int = 1000
    chunk_bytes: int = 256 * 2**20
    flips: int = 9999

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if min(self.resamples, self.flips) < 1 or self.groups < 2 or not 0 < self.level < 1:
            raise ValueError(
                "expected bootstrap.resamples >= 1, bootstrap.flips >= 1, bootstrap.groups >= 2 and bootstrap.level in "
                f"(0, 1), got {self.resamples}, {self.flips}, {self.groups} and {self.level}"
            )


@dataclass(frozen=True)
class Column:
    """One score over n counted images.

    value: [n] the images' own scores, none NaN. reduce: the score of the whole set for given weights.
    proportion: every value is 0 or 100 and can be nothing beyond, so that their mean is the percentage of a count.
    parts: [n, P] what the score is made of, where images weigh unequally in it, with its `summary` of any such parts.
    """

    value: Floats
    reduce: Reduce
    proportion: bool = False
    parts: Floats | None = None
    summary: Callable[[Floats, Floats, Floats], Reduce] | None = None

    def exchanged(self, other: Column) -> Floats | None:
        """Half of what it does to the difference self - other to exchange the two in one image, times n: [n].

        An image's own difference, where scores are means. None where the parts of the scores are not known.
        """
        if self.parts is None or other.parts is None or self.summary is None:
            return None
        n = len(self.value)
        pooled = self.summary(
            np.concatenate([self.value, other.value]), np.concatenate([self.parts, other.parts]), np.zeros((2 * n, 0))
        )
        here, there = 1 - np.eye(n), np.eye(n)
        after = pooled(np.hstack([here, there])) - pooled(np.hstack([there, here]))
        before = float(self.reduce(None)[0]) - float(other.reduce(None)[0])
        return np.asarray(n * (before - after) / 2)


@dataclass(frozen=True)
class Draws:
    """A score's bootstrap draws and jackknife, over images that all subtracted scores share.

    estimate: the score of the images as they are. draws: [R] the score of each resample.
    jackknife: [G] the score without each image, or without each group of images.
    linear: the score is the mean of the images' values. own: [n] these values, where no images are grouped.
    column: what was drawn, where no images are grouped.
    """

    estimate: float
    draws: Floats
    jackknife: Floats
    linear: bool = False
    own: Floats | None = None
    column: Column | None = None

    def __sub__(self, other: Draws) -> Draws:
        """The difference of two scores over the same images, resample by resample."""
        return Draws(
            self.estimate - other.estimate,
            self.draws - other.draws,
            self.jackknife - other.jackknife,
            self.linear and other.linear,
            None if self.own is None or other.own is None else self.own - other.own,
        )

    def influence(self) -> Floats:
        """What each image, or group of images, adds to the score: [G], with mean 0 (Tukey's pseudo-values, 1958).

        An image's own distance from the score, where that is a mean.
        """
        if self.own is not None:
            return self.own - self.estimate
        return (len(self.jackknife) - 1) * np.nan_to_num(np.nanmean(self.jackknife) - self.jackknife)


@dataclass(frozen=True)
class Interval:
    """A score with its uncertainty.

    value, low, high: the score and its interval; NaN where there is none. n: counted images.
    note: why there is no interval, or that it rests on few images; "" otherwise.
    """

    value: float
    low: float
    high: float
    n: int
    note: str = ""


def is_mean(column: Column) -> bool:
    """Whether a score is the weighted mean of its images' values, found by asking it with irregular weights."""
    weights = np.random.default_rng(1).integers(0, 7, size=(3, len(column.value))).astype(float)
    weights[:, 0] += 1
    expected = weights @ column.value / weights.sum(axis=1)
    scale = np.abs(column.value).max()
    return bool(np.allclose(column.reduce(weights), expected, rtol=TIE, atol=TIE * scale))


def resample_counts(n: int, bootstrap: Bootstrap) -> Iterator[Weights]:
    """How often each of n images is drawn in each resample, in chunks [c, n]; the draws do not depend on the chunk."""
    generator = np.random.default_rng(bootstrap.seed)
    for start, stop in _chunks(n, bootstrap.resamples, bootstrap):
        counts = np.empty((n, stop - start), dtype=np.float32).T  # an image's counts lie side by side
        for row in counts:
            row[:] = np.bincount(generator.integers(0, n, size=n), minlength=n)
        yield counts


def leave_out_counts(n: int, bootstrap: Bootstrap) -> Iterator[Weights]:
    """Weights [c, n] that leave out one image each, or every G-th image where n exceeds the number G of groups."""
    groups = min(n, bootstrap.groups)
    member = np.arange(n) % groups
    for start, stop in _chunks(n, groups, bootstrap):
        yield (member[:, None] != np.arange(start, stop)).astype(np.float32).T


def _chunks(n: int, rows: int, bootstrap: Bootstrap) -> Iterator[tuple[int, int]]:
    """Where chunks of rows of n weights begin and end."""
    step = max(1, bootstrap.chunk_bytes // (8 * n))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def resample(columns: Sequence[Column], bootstrap: Bootstrap) -> list[Draws]:
    """Draw all scores of the same n >= 2 images from the same resamples.

    Means share one matrix product for each chunk of resamples; other scores are asked chunk by chunk.
    """
    if not columns:
        return []
    n = len(columns[0].value)
    linear = _each(is_mean, columns)
    draws = _reduce_chunks(columns, linear, resample_counts(n, bootstrap))
    jackknife = _reduce_chunks(columns, linear, leave_out_counts(n, bootstrap))
    estimates = _each(lambda column: float(column.reduce(None)[0]), columns)
    single = n <= bootstrap.groups
    return [
        Draws(
            estimate,
            draws[:, k],
            jackknife[:, k],
            mean,
            column.value if mean and single else None,
            column if single else None,
        )
        for k, (column, estimate, mean) in enumerate(zip(columns, estimates, linear, strict=True))
    ]


def _reduce_chunks(columns: Sequence[Column], linear: Sequence[bool], chunks: Iterator[Weights]) -> Floats:
    """The scores [R, K] of K columns for all chunks of weights."""
    means = np.flatnonzero(linear)
    others = np.flatnonzero(np.logical_not(linear))
    values = np.stack([columns[k].value for k in means], axis=1) if len(means) else None
    blocks = []
    for weights in chunks:
        block = np.empty((len(weights), len(columns)))
        if values is not None:
            block[:, means] = weights.astype(float) @ values / weights.sum(axis=1, keepdims=True)
        for k in others:
            block[:, k] = columns[k].reduce(weights)
        blocks.append(block)
    return np.concatenate(blocks)


def _each(ask: Callable[[Column], T], columns: Sequence[Column]) -> list[T]:
    """What every column answers; several at a time, since scores may have much to prepare."""
    with ThreadPoolExecutor(min(SCORES_AT_A_TIME, joblib.cpu_count())) as pool:
        return list(pool.map(ask, columns))


def bca(draws: Draws, level: float) -> tuple[float, float]:
    """The bias-corrected and accelerated interval of a score (Efron 1987, Eqs. 2.3 and 6.6), widened for small n.

    Resamples without a score (NaN) are left out; NaN bounds where none is left.
    """
    drawn = draws.draws[~np.isnan(draws.draws)]
    if not len(drawn):
        return np.nan, np.nan
    bias = special.ndtri(_share_below(drawn, draws.estimate))
    z = bias + reach(len(draws.jackknife), level) * np.array([-1, 1])
    low, high = np.quantile(drawn, special.ndtr(bias + z / (1 - acceleration(draws.jackknife) * z)))
    return float(low), float(high)


def reach(n: int, level: float) -> float:
    """How many standard errors of the bootstrap an interval of n images reaches to each side.

    Resamples spread by sqrt((n - 1) / n) too little, and their spread is itself estimated: Student's quantile over that
    factor instead of the normal one (T. Hesterberg, "What teachers should know about the bootstrap", 2015, Sec. 4.3).
    """
    return float(special.stdtrit(n - 1, (1 + level) / 2) * np.sqrt(n / (n - 1)))


def _share_below(drawn: Floats, estimate: float) -> float:
    """The share of draws below the estimate, ties counted half, kept half a draw away from 0 and 1."""
    tie = np.abs(drawn - estimate) <= TIE * max(abs(estimate), float(np.abs(drawn).max()))
    share = float(np.mean(np.where(tie, 0.5, drawn < estimate)))
    return min(max(share, 0.5 / len(drawn)), 1 - 0.5 / len(drawn))


def acceleration(jackknife: Floats) -> float:
    """How fast the spread of a score changes with the score, from its jackknife (Efron 1987, Eq. 6.6)."""
    influence = np.nanmean(jackknife) - jackknife[~np.isnan(jackknife)]
    spread = float((influence**2).sum())
    scale = float(np.abs(jackknife).max()) * TIE
    return 0.0 if spread <= scale**2 * len(influence) else float((influence**3).sum() / (6 * spread**1.5))


def interval(draws: Draws, column: Column, level: float) -> Interval:
    """A drawn score's interval, with a note where there is none or n is small; every interval has a width."""
    n = len(column.value)
    few = few_note(n, level)
    if column.proportion:
        return Interval(draws.estimate, *exact_proportion(column.value, level), n, few)
    drawn = draws.draws[~np.isnan(draws.draws)]
    if not len(drawn):
        return Interval(draws.estimate, np.nan, np.nan, n, "no resample has a score: no interval")
    if np.ptp(drawn) <= TIE * np.abs(drawn).max():
        return Interval(draws.estimate, np.nan, np.nan, n, "all images score the same: no interval")
    return Interval(draws.estimate, *bca(draws, level), n, few)


def few_note(n: int, level: float) -> str:
    """What to say of an interval over n images; "" where there are enough."""
    return f"n below {FEW}: may cover less than {100 * level:g} %" if n < FEW else ""


def exact_proportion(value: Floats, level: float) -> tuple[float, float]:
    """The exact interval, in percent, of the share of n values that are 100 (C. Clopper and E. Pearson, 1934)."""
    from scipy.stats import binomtest  # a second to import, which few tables need

    hits = int(np.count_nonzero(value))
    bounds = binomtest(hits, len(value)).proportion_ci(level, method="exact")
    return 100 * float(bounds.low), 100 * float(bounds.high)


def intervals(columns: Sequence[Column], bootstrap: Bootstrap) -> list[Interval]:
    """The intervals of scores that share their n images; n may be 0 or 1, which leaves no interval."""
    if not columns:
        return []
    if len(columns[0].value) < 2:
        return [without_interval(column) for column in columns]
    drawn = resample(columns, bootstrap)
    return [interval(draws, column, bootstrap.level) for draws, column in zip(drawn, columns, strict=True)]


def without_interval(column: Column) -> Interval:
    """The score of a single image, or of none."""
    if not len(column.value):
        return Interval(np.nan, np.nan, np.nan, 0, "no image counts")
    return Interval(float(column.reduce(None)[0]), np.nan, np.nan, 1, "one image: no interval")
