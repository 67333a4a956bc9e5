"""Krippendorff's alpha: how far raters agree beyond chance on the same units."""

from __future__ import annotations

import numpy as np

from dix.bench.tables.statistics import Floats


def alpha(ratings: Floats) -> float:
    """Agreement of R raters about U units by squared distance: 1 perfect, 0 chance, below 0 they contradict each other.

    ratings: [R, U], NaN where a rater says nothing. Ranks make it an agreement of orders. NaN where no unit has two
    ratings, or all ratings are equal. K. Krippendorff, "Content Analysis", 2nd ed. 2004, Sec. 11.3: 1 - D_o / D_e with
    D_o the mean over units of the distances of all pairs in a unit, weighed by its ratings, and D_e that of all pairs.
    """
    kept = ratings[:, np.count_nonzero(~np.isnan(ratings), axis=0) > 1]
    counts = np.count_nonzero(~np.isnan(kept), axis=0)
    values = kept[~np.isnan(kept)]
    if not len(values):
        return float("nan")
    observed = sum(count * _spread(kept[:, u], count) for u, count in enumerate(counts)) / len(values)
    expected = _spread(values, len(values))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _spread(values: Floats, count: int) -> float:
    """The mean squared distance of all ordered pairs of the values that are there: twice their sample variance."""
    return float(2 * np.nanvar(values) * count / (count - 1))
