"""Columns that a table computes from the per-image scores of other metrics; they cost no forward and are not stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dix.metrics.api import Summary
from dix.metrics.summaries import Averaged


@dataclass(frozen=True)
class Difference(Averaged):
    """One metric minus another for each image, as SRG = NEG - POS (Bluecher et al. 2024).

    minuend, subtrahend: names of the metrics as rows store them. label: what tables print.
    A derived column is not a `Metric`: the table code recognises it by `inputs`, asks the store for those metrics'
    values on the same images in the same order, and calls `combine`; the result is summarised like any other column.
    """

    extra: ClassVar[bool] = True

    minuend: str
    subtrahend: str
    label: str
    higher_is_better: bool | None = True

    @property
    def inputs(self) -> tuple[str, str]:
        """The metrics whose per-image values `combine` needs."""
        return (self.minuend, self.subtrahend)

    def combine(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The difference for each image: [n], NaN where either metric excludes the image."""
        return values[self.minuend] - values[self.subtrahend]


@dataclass(frozen=True)
class StoredMean(Averaged):
    """A metric that this installation does not have, as the mean of its stored values.

    name: as rows store it. label: what tables print, as stored with the rows. higher_is_better: None where not stored.
    """

    extra: ClassVar[bool] = True

    name: str
    label: str
    higher_is_better: bool | None = None

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        """The mean of `value`. Raises ValueError where the metric stored more, so that its score is another one."""
        if np.size(parts):
            raise ValueError(
                f"the metric {self.name!r} is not one of this installation's, and its score is more than the mean of "
                "its values; name the folder with its configuration by --config-dir"
            )
        return super().summary(value, parts, curve)
