"""The mean curve behind each score, with its band, for reports and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dix.bench.tables import samples, statistics
from dix.bench.tables.layouts import stored_layout
from dix.bench.tables.samples import Block, Key, Sample, Summarised
from dix.bench.tables.statistics import Floats
from dix.bench.tables.table import Evidence, Plan

#: Where curves over information are compared.
INFORMATION = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Axis:
    """The x axis of a metric's curve: its positions, and what they are."""

    x: tuple[float, ...]
    label: str


@dataclass(frozen=True)
class CurveLine:
    """One method's mean curve over n images with its pointwise interval, [C] each."""

    method: str
    n: int
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CurvePanel:
    """All methods' curves of one metric of one block."""

    block: Block
    metric: str
    axis: Axis
    lines: tuple[CurveLine, ...]


def curve_panels(
    evidence: Evidence, plan: Plan, axes: Mapping[str, Axis] | None = None, level: float = 0.95
) -> tuple[CurvePanel, ...]:
    """The curves of every line whose metric stores some; derived metrics have none.

    axes: the x axis by metric; by default the metric's own fractions, or even steps.
    Bands are pointwise Student intervals of the mean over images.
    """
    stored = samples.read(evidence.rows)
    layout = plan.layout or stored_layout(stored, evidence.skips, plan)
    panels = []
    for block in layout.blocks:
        for metric in layout.metrics:
            owner = plan.metrics[metric]
            lines = [
                _line(method, owner, stored[key], level)
                for method in layout.methods
                if (key := Key(block, method, metric)) in stored
            ]
            drawn = tuple(line for line in lines if line is not None)
            if drawn:
                axis = (axes or {}).get(metric) or default_axis(owner, len(drawn[0].mean))
                panels.append(CurvePanel(block, metric, axis, drawn))
    return tuple(panels)


def default_axis(metric: Summarised, points: int) -> Axis:
    """The masked fractions of a metric that has as many, or else even steps from 0 to 1."""
    fractions = getattr(metric, "fractions", ())
    if len(fractions) == points:
        return Axis(tuple(float(fraction) for fraction in fractions), "masked fraction of the pixels")
    label = "information, 0 blurred to 1 original" if points == len(INFORMATION) else "position along the curve"
    return Axis(tuple(np.linspace(0, 1, points).tolist()), label)


def _line(method: str, metric: Summarised, sample: Sample, level: float) -> CurveLine | None:
    value, _, curve = sample.counted()
    if not curve.size:
        return None
    thresholds = getattr(metric, "thresholds", ())
    if thresholds and curve.shape[1] == 2 * len(thresholds):
        curve = over_information(curve, bool(getattr(metric, "monotone", True)))
    return CurveLine(method, len(value), *statistics.curve_band(curve, level))


def over_information(curve: Floats, monotone: bool) -> Floats:
    """Curves of (information, prediction) points on a common grid of information: [n, 101].

    curve: [n, 2 K] the information of K points, then their predictions, in the order in which pixels are revealed.
    monotone: a prediction never falls as more is revealed. The ends are (0, 0) and (1, 1) (Kapishnikov et al. 2021).
    """
    x, y = np.split(curve, 2, axis=1)
    y = np.maximum.accumulate(y, axis=1) if monotone else y
    ends = np.ones((len(curve), 1))
    x, y = np.hstack([0 * ends, x, ends]), np.hstack([0 * ends, y, ends])
    order = np.argsort(x, axis=1, kind="stable")
    return np.stack([np.interp(INFORMATION, a[o], b[o]) for a, b, o in zip(x, y, order, strict=True)])
