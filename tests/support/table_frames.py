"""Hand-made stored rows and metrics for the tests of tables and reports."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dix.bench.tables import paper


@dataclass(frozen=True)
class Mean:
    """A metric whose score is the mean of its images' values."""

    label: str
    higher_is_better: bool | None = True
    extra: bool = False

    def summary(self, value, parts, curve):
        kept = ~np.isnan(value)
        every = np.ones((1, len(value)))

        def reduced(weights=None):
            weights = every if weights is None else weights
            return weights[:, kept] @ value[kept] / weights[:, kept].sum(axis=1)

        return reduced


@dataclass(frozen=True)
class Ratio(Mean):
    """A metric of sums over the data set: 100 * sum of the first part / sum of the second."""

    def summary(self, value, parts, curve):
        every = np.ones((1, len(value)))

        def reduced(weights=None):
            total = (every if weights is None else weights) @ parts
            return 100 * total[:, 0] / total[:, 1]

        return reduced


@dataclass(frozen=True)
class Minus(Mean):
    """A derived column."""

    inputs: tuple[str, str] = ("neg", "pos")

    def combine(self, values):
        return values[self.inputs[0]] - values[self.inputs[1]]


HIGHER = {
    "neg": ("NEG", True),
    "pos": ("POS", False),
    "ins": ("INS", True),
    "deletion": ("DEL", False),
    "adp": ("ADP", False),
    "pic": ("PIC", True),
    "sic": ("SIC", True),
    "aic": ("AIC", True),
    "pa": ("PA", True),
    "map": ("mAP", True),
    "miou": ("mIoU", True),
    "mf1": ("mF1", True),
}
METRICS = {name: Mean(*facts) for name, facts in HIGHER.items()}


def rows_of(
    method,
    metric,
    value,
    *,
    images=None,
    model="resnet101",
    dataset="imagenet",
    protocol="thesis",
    parts=None,
    curve=None,
    reason="",
):
    """One cell's stored rows, images named 000, 001, ...; `reason` is stored where the value is NaN."""
    value = np.asarray(value, dtype=float)
    n = len(value)
    return pd.DataFrame(
        {
            "model": model,
            "dataset": dataset,
            "method": method,
            "metric": metric,
            "protocol": protocol,
            "image": [f"{i:03d}" for i in range(n)] if images is None else images,
            "value": value,
            "parts": [np.zeros(0)] * n if parts is None else list(parts),
            "curve": [np.zeros(0)] * n if curve is None else list(curve),
            "reason": [reason if np.isnan(v) else "" for v in value],
        }
    )


def thesis_rows(numbers):
    """The thesis's own values as if two images that score alike had been measured."""
    return pd.concat(
        [
            rows_of(method, metric, [value, value], model=model, dataset=dataset)
            for (model, dataset, method, metric), value in paper.lookup(numbers).items()
        ],
        ignore_index=True,
    )
