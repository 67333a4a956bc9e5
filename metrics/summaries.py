"""How per-image scores become a data set's score, where it is not special to one metric."""

from __future__ import annotations

import numpy as np

from metrics.api import mean_summary


class Averaged:
    """Mixin of the metrics whose data-set score is the mean over the images that count."""

    def summary(
        self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """The (weighted) mean of `value`; see `metrics.api.Metric.summary`."""
        return mean_summary(value, weights)
