"""The mean curve behind each score, with its band, for reports and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from dix.bench.tables import samples
from dix.bench.tables.layouts import stored_layout
from dix.bench.tables.samples import Block, Key, Summarised
from dix.bench.tables.statistics import Floats
from dix.bench.tables.table import Evidence, Plan
from dix.metrics.axis import Axis


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
    """The curves of every line whose metric stores some; derived metrics have none, nor have curves of one point.

    axes: the x axis by metric; by default the metric's own.
    Bands are pointwise Student intervals of the mean over images.
    """
    stored = samples.read(evidence.rows)
    layout = plan.layout or stored_layout(stored, evidence.skips, plan)
    panels = []
    for block in layout.blocks:
        for metric in layout.metrics:
            keys = {method: Key(block, method, metric) for method in layout.methods}
            curves = {method: stored[key].counted() for method, key in keys.items() if key in stored}
            counted = {method: curve for method, (_, _, curve) in curves.items() if curve.size}
            if counted:
                points = next(iter(counted.values())).shape[1]
                axis = (axes or {}).get(metric) or axis_of(plan.metrics[metric], points)
                if len(axis.x) < 2:
                    continue
                lines = tuple(_line(method, axis, curve, level) for method, curve in counted.items())
                panels.append(CurvePanel(block, metric, axis, lines))
    return tuple(panels)


def axis_of(metric: Summarised, points: int) -> Axis:
    """The metric's own axis, or even steps from 0 to 1 for curves [n, points] of a metric that has none.

    An axis of its own that does not fit rows stored with other positions is not used.
    """
    own = getattr(metric, "axis", None)
    if isinstance(own, Axis) and (own.onto is not None or len(own.x) == points):
        return own
    return Axis(tuple(np.linspace(0, 1, points).tolist()), "position along the curve")


def _line(method: str, axis: Axis, curve: Floats, level: float) -> CurveLine:
    drawn = curve if axis.onto is None else axis.onto(curve)
    return CurveLine(method, len(drawn), *curve_band(drawn, level))


def curve_band(curves: Floats, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """The mean curve of n images [n, C] with its pointwise Student interval: mean, low, high, [C] each.

    Curves of shares (hit rates, probabilities, information) lie in [0, 1], and so do their bands: where no image has a
    value outside of it, bands end there.
    """
    n = len(curves)
    mean = curves.mean(axis=0)
    if n < 2:
        return mean, mean, mean
    half = special.stdtrit(n - 1, (1 + level) / 2) * curves.std(axis=0, ddof=1) / np.sqrt(n)
    shares = bool((curves >= 0).all() and (curves <= 1).all())
    low, high = (0.0, 1.0) if shares else (-np.inf, np.inf)
    return mean, np.maximum(mean - half, low), np.minimum(mean + half, high)
