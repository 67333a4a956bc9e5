"""The mean curve behind each score, with its band, for reports and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dix.bench import samples, statistics
from dix.bench.samples import Block, Key, Sample, Summarised
from dix.bench.statistics import Floats
from dix.bench.tables import Evidence, Plan, stored_layout


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
            lines = [
                _line(method, stored[key], level)
                for method in layout.methods
                if (key := Key(block, method, metric)) in stored
            ]
            drawn = tuple(line for line in lines if line is not None)
            if drawn:
                axis = (axes or {}).get(metric) or default_axis(plan.metrics[metric], len(drawn[0].mean))
                panels.append(CurvePanel(block, metric, axis, drawn))
    return tuple(panels)


def default_axis(metric: Summarised, points: int) -> Axis:
    """The masked fractions of a metric that has as many, or else even steps from 0 to 1."""
    fractions = getattr(metric, "fractions", ())
    if len(fractions) == points:
        return Axis(tuple(float(fraction) for fraction in fractions), "masked fraction of the pixels")
    return Axis(tuple(np.linspace(0, 1, points).tolist()), "position along the curve")


def _line(method: str, sample: Sample, level: float) -> CurveLine | None:
    value, _, curve = sample.counted()
    if not curve.size:
        return None
    return CurveLine(method, len(value), *statistics.curve_band(curve, level))
