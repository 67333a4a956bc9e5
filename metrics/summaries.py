"""How per-image scores become a data set's score, where it is not special to one metric."""

from __future__ import annotations

from functools import partial

import numpy as np

from dix.metrics.api import Summary, mean_summary


class Averaged:
    """Mixin of the metrics whose data-set score is the mean over the images that count."""

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        """The (weighted) mean of `value`; see `dix.metrics.api.Metric.summary`."""
        return partial(mean_summary, value)


def ratios(value: np.ndarray, parts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Sums of numerators over sums of denominators, over the images that count: [R, P / 2], NaN where 0 / 0.

    value: [n] NaN where an image is excluded. parts: [n, P] numerator and denominator in turn. weights: [R, n] or None.
    """
    kept = ~np.isnan(value)
    weight = np.ones((1, len(value))) if weights is None else np.asarray(weights, dtype=float)
    sums = weight[:, kept] @ parts[kept]
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, ::2] / sums[:, 1::2]
