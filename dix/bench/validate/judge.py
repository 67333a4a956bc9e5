"""How each metric ranks explainers that were made worse in known steps: order, resolution, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from dix.bench.tables import samples, statistics
from dix.bench.tables.samples import Block, Key, Sample, Summarised
from dix.bench.tables.signflip import Paired, paired_test
from dix.bench.tables.statistics import Bootstrap, Floats
from dix.bench.validate.degrade import LADDERS, MARK, step
from dix.bench.validate.krippendorff import alpha

#: Probability that any step of one ladder is wrongly told apart, split over its steps (Bonferroni).
LEVEL = 0.05
#: Fewest images that are judged: with fewer no paired test of signs could tell anything apart at LEVEL.
LEAST = 6
#: Resamples behind an interval of rho, which has a handful of values; median curves take a tenth of a second each.
RESAMPLES = 200
#: Least rank correlation with the known order that counts as keeping it.
ORDERED = 0.8


@dataclass(frozen=True)
class Trial:
    """One method made worse on one network and data set, as a metric sees it. base: the method's name."""

    block: Block
    base: str


@dataclass(frozen=True)
class Order:
    """How a metric ranks one ladder's steps.

    n: images that count at every step. rho: Spearman's correlation of the scores with the known order, 1 right, -1
    reversed, 0 also where all scores are equal; low, high: the central 95 % of resamples of the images. apart: for each
    step below the method itself 1 where the metric tells that it is worse, -1 where it says that it is better, else 0.
    """

    trial: Trial
    metric: str
    ladder: str
    n: int
    rho: float
    low: float
    high: float
    apart: tuple[int, ...]

    @property
    def resolution(self) -> int:
        """The smallest step that is told apart as worse; 0: none."""
        return next((number for number, sign in enumerate(self.apart, 1) if sign > 0), 0)

    @property
    def kept(self) -> bool:
        """The known order is kept, and the worst step told apart."""
        return self.rho >= ORDERED and self.apart[-1] > 0

    @property
    def misled(self) -> bool:
        """A step is told to be better than the method itself."""
        return min(self.apart) < 0


@dataclass(frozen=True)
class Ranked:
    """The ranks of all steps [U] by one metric's scores, 1 for the worst, and how images agree on them.

    images: Krippendorff's alpha of the images' own rankings; NaN where they say nothing.
    """

    trial: Trial
    metric: str
    n: int
    ranks: Floats
    images: float


def trials(stored: Mapping[Key, Sample]) -> list[Trial]:
    """Every degraded method of every network, data set and protocol."""
    found = {Trial(key.block, key.method.split(MARK)[0]) for key in stored if MARK in key.method}
    return sorted(found, key=lambda trial: (*trial.block, trial.base))


def units(base: str) -> list[str]:
    """The names of all steps of all ladders, the method itself first."""
    rest = [step(base, ladder, n) for ladder, rungs in LADDERS.items() for n in range(1, len(rungs) + 1)]
    return [step(base, "", 0), *rest]


def orders(
    stored: Mapping[Key, Sample], metrics: Mapping[str, Summarised], bootstrap: Bootstrap | None = None
) -> list[Order]:
    """Every metric with a direction on every ladder, where LEAST images or more count at every step."""
    drawn = bootstrap or Bootstrap(resamples=RESAMPLES)
    return [
        order
        for trial in trials(stored)
        for name, metric in _directed(metrics)
        for ladder, rungs in LADDERS.items()
        for order in _order(trial, ladder, len(rungs), (name, metric), stored, drawn)
    ]


def _directed(metrics: Mapping[str, Summarised]) -> Iterator[tuple[str, Summarised]]:
    return ((name, metric) for name, metric in metrics.items() if metric.higher_is_better is not None)


def _common(
    trial: Trial, names: Iterable[str], metric: str, stored: Mapping[Key, Sample]
) -> tuple[tuple[str, ...], list[Sample]]:
    """The images that count for all of the named methods, and these methods' rows for them; none where one lacks."""
    keys = [Key(trial.block, name, metric) for name in names]
    if any(key not in stored for key in keys):
        return (), []
    images = samples.common([stored[key].kept for key in keys])
    return images, [stored[key].only(images) for key in keys]


def _order(
    trial: Trial,
    ladder: str,
    count: int,
    named: tuple[str, Summarised],
    stored: Mapping[Key, Sample],
    bootstrap: Bootstrap,
) -> Iterator[Order]:
    name, metric = named
    images, rows = _common(trial, (step(trial.base, ladder, n) for n in range(count + 1)), name, stored)
    if len(images) < LEAST:
        return
    draws = statistics.resample([sample.column(metric) for sample in rows], bootstrap)
    sign = 1 if metric.higher_is_better else -1
    scores = sign * np.stack([np.concatenate([[one.estimate], one.draws]) for one in draws], axis=1)
    rho = correlation_with_order(scores)
    low, high = np.quantile(rho[1:], [0.025, 0.975])
    tests = [paired_test(draws[0], other, bootstrap) for other in draws[1:]]
    yield Order(trial, name, ladder, len(images), float(rho[0]), float(low), float(high), _apart(tests, sign, count))


def _apart(tests: Sequence[Paired], sign: int, count: int) -> tuple[int, ...]:
    return tuple(int(sign * test.sign) if test.p * count <= LEVEL else 0 for test in tests)


def correlation_with_order(scores: Floats) -> Floats:
    """[R] Spearman's correlation of scores [R, k + 1] with the order whose first is best; 0 where all are equal."""
    return spearman(scores, np.arange(scores.shape[1], 0, -1, dtype=np.float64)[None])


def spearman(first: Floats, second: Floats) -> Floats:
    """[R] Spearman's rank correlation of rows [R, k], equal values sharing their rank; 0 where a row is constant."""
    a, b = (rankdata(each, axis=1) - (each.shape[1] + 1) / 2 for each in (first, second))
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 0))


def rankings(stored: Mapping[Key, Sample], metrics: Mapping[str, Summarised]) -> list[Ranked]:
    """Every metric's ranking of all steps of a trial, over the images that count for all of them."""
    return [
        ranked
        for trial in trials(stored)
        for name, metric in _directed(metrics)
        for ranked in _ranked(trial, name, metric, stored)
    ]


def _ranked(trial: Trial, name: str, metric: Summarised, stored: Mapping[Key, Sample]) -> Iterator[Ranked]:
    images, rows = _common(trial, units(trial.base), name, stored)
    if len(images) < LEAST:
        return
    sign = 1 if metric.higher_is_better else -1
    scores = [sign * float(sample.column(metric).reduce(None)[0]) for sample in rows]
    own = sign * np.stack([sample.value for sample in rows], axis=1)
    yield Ranked(trial, name, len(images), rankdata(scores), alpha(rankdata(own, axis=1)))


def with_the_others(found: Sequence[Ranked], one: Ranked) -> float:
    """Spearman's correlation of a metric's ranking with the mean of the other metrics' of the same trial."""
    others = [each.ranks for each in found if each.trial == one.trial and each.metric != one.metric]
    return float(spearman(one.ranks[None], np.mean(others, axis=0)[None])[0]) if others else float("nan")


def between_metrics(found: Sequence[Ranked], trial: Trial) -> float:
    """Krippendorff's alpha of all metrics' rankings of one trial."""
    mine = [each.ranks for each in found if each.trial == trial]
    return alpha(np.stack(mine)) if len(mine) > 1 else float("nan")


def between_trials(found: Sequence[Ranked], metric: str) -> float:
    """Krippendorff's alpha of one metric's rankings on all networks."""
    mine = [each.ranks for each in found if each.metric == metric]
    return alpha(np.stack(mine)) if len(mine) > 1 else float("nan")
