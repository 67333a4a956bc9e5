"""Figures of the sanity tests: line plots with bands, strips of maps, box plots and panels (thesis, Figures 4-9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dix.bench.report.figures import save
from dix.bench.report.styles import styles
from dix.bench.sanity.report import Curves, curves_of
from dix.bench.sanity.strips import KeptStrip, kept_strips
from dix.bench.store.results import ResultStore
from dix.pictures import COLOUR_MAP, channels_last, overlay, unit_map

KINDS = ("png", "pdf")
#: Most columns of a strip: of more positions, evenly spread ones are shown, the first and last among them.
COLUMNS = 12
LABELS = {
    "spearman": "Spearman correlation",
    "spearman_absolute": "Spearman correlation of absolute values",
    "ssim": "SSIM",
    "hog": "correlation of HOG",
    "entropy": "entropy in nats",
}


def figures_of(store: ResultStore, folder: Path) -> list[Path]:
    """Draw everything that a results folder holds into its `figures`; the files' paths."""
    drawn: dict[str, Figure] = {}
    curves = curves_of(store)
    for block in dict.fromkeys(each.block for each in curves):
        methods = [each for each in curves if each.block == block]
        model, dataset, _, test, measure = block
        shape = box_figure if test.startswith("labels") else line_figure
        drawn[f"{test}-{measure}-{model}-{dataset}"] = shape(methods)
    strips = kept_strips(folder)
    for strip in strips:
        if len(strip.maps) > 2 and not str(strip.about["test"]).startswith("labels"):
            drawn[_strip_name(strip)] = strip_figure(strip)
    panels = [strip for strip in strips if len(strip.maps) == 2 or str(strip.about["test"]).startswith("labels")]
    if panels:
        drawn["panels"] = panel_figure(panels)
    return list(_saved(drawn, folder / "figures"))


def _saved(drawn: Mapping[str, Figure], folder: Path) -> Iterator[Path]:
    for name, figure in drawn.items():
        for kind in KINDS:
            save(figure, folder / f"{name}.{kind}", dpi=150)
            yield folder / f"{name}.{kind}"


def _strip_name(strip: KeptStrip) -> str:
    stem = Path(str(strip.about["image"])).stem
    return "-".join(["strip", *(str(strip.about[k]) for k in ("test", "model", "method")), stem])


def line_figure(methods: Sequence[Curves]) -> Figure:
    """Mean likeness against the number (cascading) or place (independent) of the randomised layer, with 95 % bands.

    The dashed line marks the output layer, where the randomisation begins (thesis, Figures 4 and 6).
    """
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    place = figure.subplots()
    looks = styles(curves.method for curves in methods)
    for curves in methods:
        points = curves.points()
        mean, low, high = (np.array([getattr(p, key) for p in points]) for key in ("value", "low", "high"))
        colour, dashes = looks[curves.method].hexadecimal, looks[curves.method].dashes
        place.fill_between(curves.x, low, high, color=colour, alpha=0.15, linewidth=0)
        place.plot(curves.x, mean, dashes, marker="o", markersize=3, color=colour, linewidth=1.2, label=curves.method)
    first = methods[0]
    if first.measure != "entropy":
        place.axvline(1, color="0.5", linestyle="--", linewidth=0.8)
        place.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    cascading = first.test.startswith("cascading")
    place.set_xlabel("randomised weight layers, from the output" if cascading else "randomised weight layer")
    place.set_ylabel(LABELS.get(first.measure, first.measure), parse_math=False)
    place.set_title(_title(first), fontsize=9, parse_math=False)
    place.legend(fontsize=7)
    return figure


def box_figure(methods: Sequence[Curves]) -> Figure:
    """Likeness of the maps of two networks over images: a box for each method and variant (thesis, Figure 8)."""
    boxes, names = [], []
    for curves in methods:
        for i, column in enumerate(curves.of_image().T):
            if i:
                boxes.append(column[~np.isnan(column)])
                names.append(f"{curves.method}\n{curves.names[i].split(' ')[0]}")
    figure = Figure(figsize=(1.2 + 0.9 * len(boxes), 3.4), layout="constrained")
    place = figure.subplots()
    place.boxplot(boxes, widths=0.6, showmeans=True, flierprops={"markersize": 2})
    place.set_xticks(range(1, len(names) + 1), names, fontsize=6)
    place.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    place.set_ylabel(LABELS.get(methods[0].measure, methods[0].measure), parse_math=False)
    place.set_title(_title(methods[0]), fontsize=9, parse_math=False)
    return figure


def _title(curves: Curves) -> str:
    repeats = curves.values.shape[1]
    return f"{curves.model}, {curves.dataset}, {curves.test}, n = {len(curves.images)}, repeats = {repeats}"


def strip_figure(strip: KeptStrip) -> Figure:
    """The maps at each position, over the photo in the upper row and alone in the lower (thesis, Figures 5 and 7)."""
    x: Sequence[Any] = strip.about["x"]  # type: ignore[assignment]
    chosen = np.unique(np.linspace(0, len(x) - 1, min(COLUMNS, len(x))).round().astype(int))
    figure = Figure(figsize=(1.0 * len(chosen), 2.35))
    axes = figure.subplots(2, len(chosen), squeeze=False)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.82, wspace=0.03, hspace=0.03)
    for column, i in zip(axes.T, chosen, strict=True):
        _show(column[0], strip, i, over_photo=True)
        _show(column[1], strip, i, over_photo=False)
        column[0].set_title(str(x[i]) if i else "original", fontsize=8, pad=3)
    about = strip.about
    title = f"{about['label']}, {about['model']}, {about['test']}: {about['explained']}"
    figure.suptitle(title, fontsize=8, y=0.99, parse_math=False)
    return figure


def panel_figure(strips: Sequence[KeptStrip]) -> Figure:
    """A row for each strip: the image, the map of the trained network, the maps of the others (thesis, Figure 9)."""
    columns = 1 + max(len(strip.maps) for strip in strips)
    figure = Figure(figsize=(1.2 + 1.4 * columns, 1.7 * len(strips)))
    axes = figure.subplots(len(strips), columns, squeeze=False)
    left, top = 1.2 / figure.get_figwidth(), 1 - 0.25 / figure.get_figheight()
    figure.subplots_adjust(left=left, right=0.99, bottom=0.01, top=top, hspace=0.2)
    for row, strip in zip(axes, strips, strict=True):
        for place in row:
            place.set_axis_off()
        row[0].imshow(channels_last(strip.photo), interpolation="nearest")
        about = strip.about
        text = f"{about['label']}\n{about['model']}\n{about['explained']}"
        row[0].text(-0.05, 0.5, text, transform=row[0].transAxes, ha="right", va="center", fontsize=6, parse_math=False)
        names: Sequence[str] = about["names"]  # type: ignore[assignment]
        for i, place in enumerate(row[1 : 1 + len(strip.maps)]):
            _show(place, strip, i, over_photo=True)
            place.set_title(names[i] or "original", fontsize=7, pad=2, parse_math=False)
    return figure


def _show(place: Any, strip: KeptStrip, i: int, over_photo: bool) -> None:
    """One map; a map that is not finite is said to be so and not drawn."""
    place.set_axis_off()
    explanation = strip.maps[i]
    if not np.isfinite(explanation).all():
        place.text(0.5, 0.5, "no map", transform=place.transAxes, ha="center", va="center", fontsize=7)
    elif over_photo and explanation.shape == strip.photo.shape[:2]:
        place.imshow(overlay(strip.photo, explanation), interpolation="nearest")
    else:
        place.imshow(unit_map(explanation), cmap=COLOUR_MAP, vmin=0, vmax=1, interpolation="nearest")
