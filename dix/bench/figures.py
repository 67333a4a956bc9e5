"""Figures for print: grids of photos and maps, and mean curves; vector output with the same bytes every time.

Nothing here uses pyplot, so no figure outlives its caller and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dix.bench.curves import CurvePanel
from dix.bench.statistics import Floats

#: Perceptually uniform, ordered in lightness, and readable with every common colour vision deficiency.
COLOUR_MAP = "inferno"

#: M. Okabe and K. Ito, "Color universal design" (2008), without the yellow that white paper swallows.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
DASHES = ("-", "--", ":", "-.")

#: Weights of red, green and blue in the grey of an image (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])

FORMATS = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dix",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
}


@dataclass(frozen=True)
class Example:
    """One row of a grid.

    label: printed at its left. image: [3, H, W] or [H, W, 3] pixels in [0, 1]. maps: [H, W] by method.
    """

    label: str
    image: Floats
    maps: Mapping[str, Floats]


def unit_map(explanation: Floats) -> Floats:
    """A map [H, W] scaled to [0, 1] by its own extremes; a constant map is all zeros.

    Raises ValueError where the map is not finite: a picture must not repair what a score would refuse.
    """
    values = np.asarray(explanation, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(
            f"expected a finite map [H, W], got shape {values.shape} with finite = {np.isfinite(values).all()}"
        )
    span = np.ptp(values)
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def without_peaks(explanation: Floats, share: float = 0.005) -> Floats:
    """A map [H, W] whose largest pixels are cut to the quantile 1 - share, so that a few peaks leave the rest visible.

    For pictures alone, after the thesis's sources, which show pixel-wise gradients so (Sundararajan et al. 2017).
    A map that is flat below its peaks stays as it is.
    """
    values = np.asarray(explanation, dtype=float)
    top = np.quantile(values, 1 - share)
    return np.minimum(values, top) if top > values.min() else values


def channels_last(image: Floats) -> Floats:
    """An image as [H, W, 3] pixels in [0, 1]; raises ValueError for another shape or range."""
    pixels = np.asarray(image, dtype=float)
    if pixels.ndim == 3 and pixels.shape[-1] != 3 and pixels.shape[0] == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise ValueError(f"expected an image [3, H, W] or [H, W, 3], got {np.shape(image)}")
    if pixels.min() < -1e-6 or pixels.max() > 1 + 1e-6:
        raise ValueError(f"expected pixels in [0, 1], got {pixels.min():g} to {pixels.max():g}")
    return np.clip(pixels, 0, 1)


def overlay(
    image: Floats, explanation: Floats, colour_map: str = COLOUR_MAP, strength: float = 0.85
) -> NDArray[np.uint8]:
    """A map over its image: uint8 [H, W, 3].

    image: [3, H, W] or [H, W, 3] pixels in [0, 1]. explanation: [H, W], larger is more relevant, scaled by its own
    extremes. The image is shown in grey; colour covers it with the square root of the scaled map, at most by
    `strength`, so the least relevant pixels show the image alone.
    """
    pixels = channels_last(image)
    relevance = unit_map(explanation)
    if relevance.shape != pixels.shape[:2]:
        raise ValueError(f"expected a map of the image's size {pixels.shape[:2]}, got {relevance.shape}")
    heat = mpl.colormaps[colour_map](relevance)[..., :3]
    grey = pixels @ LUMA
    cover = strength * np.sqrt(relevance)[..., None]
    return np.rint(255 * (cover * heat + (1 - cover) * grey[..., None])).astype(np.uint8)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture [H, W, 3] as PNG bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def qualitative_grid(
    examples: Sequence[Example], methods: Sequence[str], labels: Mapping[str, str] | None = None, size: float = 1.1
) -> Figure:
    """Rows of images, columns of methods after the image itself (the thesis's Figures 1-3).

    size: side of a picture in inches. A method without a map for an image leaves its place empty.
    """
    columns = len(methods) + 1
    margin = 1.0
    figure = Figure(figsize=(margin + size * columns, 0.25 + size * len(examples)))
    axes = figure.subplots(len(examples), columns, squeeze=False)
    left, top = margin / figure.get_figwidth(), 1 - 0.25 / figure.get_figheight()
    figure.subplots_adjust(left=left, right=1, bottom=0, top=top, wspace=0.03, hspace=0.03)
    for row, example in zip(axes, examples, strict=True):
        pictures = {name: overlay(example.image, example.maps[name]) for name in methods if name in example.maps}
        for place, picture in zip(row, [channels_last(example.image), *map(pictures.get, methods)], strict=True):
            place.set_axis_off()
            if picture is not None:
                place.imshow(picture, interpolation="nearest")
        _side_label(row[0], example.label)
    for place, name in zip(axes[0], ["", *methods], strict=True):
        place.set_title((labels or {}).get(name, name) or "image", fontsize=8, pad=3, parse_math=False)
    return figure


def _side_label(place: mpl.axes.Axes, label: str) -> None:
    words = label.split(",")[0]
    place.text(
        -0.05, 0.5, words, transform=place.transAxes, ha="right", va="center", fontsize=7, wrap=True, parse_math=False
    )


def curve_figure(
    panels: Sequence[CurvePanel], labels: Mapping[str, str] | None = None, columns: int = 4, size: float = 2.4
) -> Figure:
    """Mean curves with bands, one panel for each metric, one legend for all."""
    names = list(dict.fromkeys(line.method for panel in panels for line in panel.lines))
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(size * across, size * down + 0.5), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for place, panel in zip(axes, panels, strict=False):
        _draw_panel(place, panel, names, labels or {})
    for place in axes[len(panels) :]:
        place.set_axis_off()
    handles = {text: line for place in axes for line, text in zip(*place.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=min(6, len(handles)), fontsize=7
    )
    return figure


def _draw_panel(place: mpl.axes.Axes, panel: CurvePanel, names: Sequence[str], labels: Mapping[str, str]) -> None:
    for line in panel.lines:
        index = names.index(line.method)
        colour = COLOURS[index % len(COLOURS)]
        place.fill_between(panel.axis.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        dashes = DASHES[index // len(COLOURS) % len(DASHES)]
        label = labels.get(line.method, line.method).replace("$", r"\$")
        place.plot(panel.axis.x, line.mean, dashes, color=colour, linewidth=1.2, label=label)
    place.set_title(labels.get(panel.metric, panel.metric), fontsize=8, parse_math=False)
    place.set_xlabel(panel.axis.label, fontsize=7, parse_math=False)
    place.tick_params(labelsize=7)


def figure_bytes(figure: Figure, kind: str, dpi: int = 200) -> bytes:
    """A figure as PDF, SVG or PNG bytes that depend on its content alone; raises ValueError for another kind."""
    if kind not in FORMATS:
        raise ValueError(f"expected a figure format among {sorted(FORMATS)}, got {kind!r}")
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=FORMATS[kind])
    return stream.getvalue()


def save(figure: Figure, path: Path, dpi: int = 200) -> None:
    """Write a figure in the format that the path's suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(figure_bytes(figure, path.suffix.removeprefix("."), dpi))
