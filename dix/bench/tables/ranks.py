"""Places on a line, and mean ranks over a block's lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dix.bench.tables.samples import Block, Key, Summarised
from dix.bench.tables.statistics import Floats
from dix.bench.tables.table import MeanRank, TableCell, TableLayout

#: Scores that differ by no more than this, relative to the larger one, are equal: they share rank and mark.
EQUAL = 1e-9


def ranks(values: Sequence[float], higher_is_better: bool) -> Floats:
    """Rank 1 for the best score, equal ones sharing their mean rank, NaN for NaN.

    Scores are equal within the relative tolerance EQUAL: sums of the same numbers differ in their last bits.
    """
    score = np.asarray(values, dtype=float) * (-1 if higher_is_better else 1)
    ranked = np.full(score.shape, np.nan)
    order = np.argsort(score, kind="stable")[: np.count_nonzero(~np.isnan(score))]
    sizes = np.abs(score[order])
    apart = np.diff(score[order]) > EQUAL * np.maximum(sizes[1:], sizes[:-1])
    for tied in np.split(np.arange(len(order)), np.flatnonzero(apart) + 1):
        ranked[order[tied]] = 1 + tied.mean() if len(tied) else np.nan
    return ranked


def marks(placed: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which ranks [K] are marked best and second: a mark that everybody left would share is given to nobody."""
    places = sorted({rank for rank in placed if not np.isnan(rank)})
    nobody = np.zeros(len(placed), dtype=bool)
    best = placed == places[0] if len(places) > 1 else nobody
    second = placed == places[1] if len(places) > 1 else nobody
    separates = len(places) > 2 or second.sum() == 1
    return best, second if separates else nobody


def mean_ranks(
    cells: Mapping[Key, TableCell], layout: TableLayout, metrics: Mapping[str, Summarised]
) -> dict[tuple[Block, str], MeanRank]:
    """Each method's mean rank over the block's ranked lines, one for each metric of the thesis; see `counted`."""
    means = {}
    for block in layout.blocks:
        ranked = {
            name: [cells[Key(block, method, name)].rank for method in layout.methods]
            for name in layout.metrics
            if any(not np.isnan(cells[Key(block, method, name)].rank) for method in layout.methods)
        }
        lines = [ranked[name] for name in counted(list(ranked), metrics)]
        for position, method in enumerate(layout.methods):
            own = [line[position] for line in lines if not np.isnan(line[position])]
            means[block, method] = MeanRank(float(np.mean(own)) if own else np.nan, len(own), len(lines))
    return means


def counted(names: Sequence[str], metrics: Mapping[str, Summarised]) -> list[str]:
    """The metrics whose ranks are averaged: no extra ones, and of the variants of one metric the first.

    Variants bear the same label up to what stands in brackets behind it: mF1 (rows) and mF1.
    """
    first: dict[str, str] = {}
    for name in names:
        if not metrics[name].extra:
            first.setdefault(metrics[name].label.split(" (")[0], name)
    return list(first.values())
