"""The mean curve behind each score, with its band, for reports and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from dix.bench.tables import samples
from dix.bench.tables.layouts import stored_layout
from dix.bench.tables.samples import Block, Key, Sample, Summarised
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
    """All methods' curves of one metric of one block.

    images: how many have rows. reference: the curve of the images as they are, of a metric whose rows tell it.
    """

    block: Block
    metric: str
    axis: Axis
    lines: tuple[CurveLine, ...]
    images: int = 0
    reference: CurveLine | None = None


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
            own = {method: stored[key] for method, key in keys.items() if key in stored}
            panel = _panel(block, metric, plan.metrics[metric], own, (axes or {}).get(metric), level)
            panels.extend([panel] if panel else [])
    return tuple(panels)


def _panel(
    block: Block, name: str, metric: Summarised, own: Mapping[str, Sample], axis: Axis | None, level: float
) -> CurvePanel | None:
    """One metric's panel; None where its curves have less than two points. own: the rows of each method."""
    curves = {method: sample.counted()[2] for method, sample in own.items()}
    curves = {method: curve for method, curve in curves.items() if curve.size}
    if not curves:
        return None
    axis = axis or axis_of(metric, next(iter(curves.values())).shape[1])
    if len(axis.x) < 2:
        return None
    lines = tuple(_line(method, axis, curve, level) for method, curve in curves.items())
    images = len({image for method in curves for image in own[method].kept})
    return CurvePanel(block, name, axis, lines, images, _reference(metric, axis, own.values(), level))


def _reference(metric: Summarised, axis: Axis, rows: Iterable[Sample], level: float) -> CurveLine | None:
    """The clean images' curve, where the metric can tell it (`clean`) from what a row says of an image and a method.

    An image is in it if the rows of any method tell it.
    """
    told = getattr(metric, "clean", None)
    found: dict[str, float] = {}
    for sample in rows if told else ():
        value, _, curve = sample.counted()
        if curve.size and told:
            clean = np.asarray(told(value, curve))
            found.update((image, x) for image, x in zip(sample.kept, clean, strict=True) if not np.isnan(x))
    values = np.array([found[image] for image in sorted(found)])
    return _line("", axis, values[:, None], level) if found else None


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
