"""Mean ranks with intervals, over a block's lines and over blocks, and which methods they cannot tell apart.

Each resample of the images gives every line's ranks anew, so it gives a mean rank, too. Scores over the same images
share their resamples. Two methods are apart where their mean ranks differ by more than the largest difference that
resampling makes of any pair (max-T of the bootstrap's differences, standardised pair by pair). So the chance of one
wrong separation among all pairs is at most 1 - level, as far as the bootstrap's distribution holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dix.bench.tables import samples
from dix.bench.tables.layouts import stored_layout
from dix.bench.tables.lines import contest_of
from dix.bench.tables.measured import Context, measure, percentages
from dix.bench.tables.ranks import counted, ranks
from dix.bench.tables.samples import Block
from dix.bench.tables.statistics import Bootstrap, Floats
from dix.bench.tables.table import Evidence, Plan

#: Decimals to which draws of scores, in percent, are told apart: sums differ in their last bits.
DECIMALS = 9


@dataclass(frozen=True)
class RankDraws:
    """Mean ranks of K methods: [K] as measured, [K, R] of each resample; lines: [K] how many ranks they average."""

    methods: tuple[str, ...]
    estimate: Floats
    draws: Floats
    lines: NDArray[np.int64]


@dataclass(frozen=True)
class Standing:
    """A method's mean rank with its interval, over so many lines, and the numbers of the groups that it is in."""

    method: str
    rank: float
    low: float
    high: float
    lines: int
    groups: tuple[int, ...]


def block_ranks(evidence: Evidence, plan: Plan, bootstrap: Bootstrap | None = None) -> dict[Block, RankDraws]:
    """By block, mean ranks over its counted lines (see `ranks.counted`); blocks without a ranked line are left out."""
    stored = samples.read(evidence.rows)
    layout = plan.layout or stored_layout(stored, evidence.skips, plan)
    context = Context(plan, layout, bootstrap or Bootstrap(), {}, {}, percentages(stored))
    found = {}
    for block in layout.blocks:
        measured = measure(block, stored, context)
        lines = []
        for metric in counted(layout.metrics, plan.metrics):
            contest = contest_of(block, metric, measured, context)
            if contest is not None:
                names = tuple(key.method for key in contest.keys)
                scores = np.stack([one.draws for one in contest.draws])
                estimate = ranks([one.estimate for one in contest.draws], contest.higher_is_better)
                drawn = _ranked(scores, contest.higher_is_better)
                lines.append(RankDraws(names, estimate, drawn, np.ones(len(names), dtype=np.int64)))
        if lines:
            found[block] = combined(lines)
    return found


def _ranked(scores: Floats, higher_is_better: bool) -> Floats:
    """Ranks [K, R] of scores [K, R] in each resample, 1 for the best."""
    sign = -1 if higher_is_better else 1
    found = stats.rankdata(np.round(sign * scores, DECIMALS), axis=0, nan_policy="omit")
    return np.asarray(found, dtype=float)


def combined(parts: Sequence[RankDraws]) -> RankDraws:
    """The mean over parts, for each method over those that rank it; resample by resample."""
    methods = tuple(dict.fromkeys(name for part in parts for name in part.methods))
    estimate, lines = np.zeros((len(parts), len(methods))), np.zeros(len(methods), dtype=np.int64)
    draws = np.full((len(parts), len(methods), parts[0].draws.shape[1]), np.nan)
    estimate[:] = np.nan
    for p, part in enumerate(parts):
        places = [methods.index(name) for name in part.methods]
        estimate[p, places], draws[p, places] = part.estimate, part.draws
        lines[places] += part.lines
    known = ~np.isnan(estimate)
    mean = np.nansum(estimate, axis=0) / known.sum(axis=0)
    counts = np.maximum((~np.isnan(draws)).sum(axis=0), 1)
    return RankDraws(methods, mean, np.nansum(draws, axis=0) / counts, lines)


def standings(found: RankDraws, level: float = 0.95) -> list[Standing]:
    """The methods, best first, with percentile intervals and the groups that cannot be told apart."""
    order = np.argsort(found.estimate, kind="stable")
    estimate, draws = found.estimate[order], found.draws[order]
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(draws, tails, axis=1)
    places = groups(apart(estimate, draws, level))
    return [
        Standing(
            found.methods[k],
            float(estimate[i]),
            min(float(low[i]), float(estimate[i])),
            max(float(high[i]), float(estimate[i])),
            int(found.lines[k]),
            places[i],
        )
        for i, k in enumerate(order.tolist())
    ]


def apart(estimate: Floats, draws: Floats, level: float) -> NDArray[np.bool_]:
    """[K, K] whether two mean ranks differ by more than resampling makes any two differ."""
    first, second = np.triu_indices(len(estimate), 1)
    difference = estimate[first] - estimate[second]
    drawn = draws[first] - draws[second]
    spread = drawn.std(axis=1)
    sure = spread <= 10.0**-DECIMALS
    scaled = np.abs(drawn - difference[:, None])[~sure] / spread[~sure, None]
    limit = float(np.quantile(scaled.max(axis=0), level)) if len(scaled) else 0.0
    different = np.where(sure, np.abs(difference) > 10.0**-DECIMALS, np.abs(difference) > limit * spread)
    found = np.zeros((len(estimate), len(estimate)), dtype=bool)
    found[first, second] = found[second, first] = different
    return found


def groups(separate: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """For methods in the order of their ranks, the numbers of the longest runs in which no two are apart; 1 is best."""
    ends = []
    for start in range(len(separate)):
        end = start + 1
        while end < len(separate) and not separate[start:end, end].any():
            end += 1
        ends.append(end)
    begins = [0, *(i + 1 for i, (before, after) in enumerate(pairwise(ends)) if after > before)]
    runs = [(start, ends[start]) for start in begins[: len(ends)]]
    return [tuple(g + 1 for g, (a, b) in enumerate(runs) if a <= i < b) for i in range(len(ends))]
