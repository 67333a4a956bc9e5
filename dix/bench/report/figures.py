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
from matplotlib.figure import Figure

from dix.bench.report.styles import Style, styles
from dix.bench.tables.curves import CurvePanel
from dix.bench.tables.statistics import Floats
from dix.files import write_atomic
from dix.pictures import channels_last, overlay

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
    panels: Sequence[CurvePanel],
    labels: Mapping[str, str] | None = None,
    columns: int = 4,
    size: float = 2.4,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Mean curves with bands, one panel for each metric, one legend for all. colours: given ones, by method."""
    looks = styles((line.method for panel in panels for line in panel.lines), colours)
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(size * across, size * down + 0.5), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for place, panel in zip(axes, panels, strict=False):
        _draw_panel(place, panel, looks, labels or {})
    for place in axes[len(panels) :]:
        place.set_axis_off()
    handles = {text: line for place in axes for line, text in zip(*place.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=min(6, len(handles)), fontsize=7
    )
    return figure


def _draw_panel(place: mpl.axes.Axes, panel: CurvePanel, looks: Mapping[str, Style], labels: Mapping[str, str]) -> None:
    for line in panel.lines:
        colour, dashes = looks[line.method].hexadecimal, looks[line.method].dashes
        place.fill_between(panel.axis.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
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
    write_atomic(path, figure_bytes(figure, path.suffix.removeprefix("."), dpi))
