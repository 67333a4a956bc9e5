"""The leaderboard as one page that loads nothing; every name passes through the template, which escapes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dix.bench.report import html
from dix.bench.report.charts import ticks
from dix.bench.report.html_results import sort_key
from dix.bench.report.notes import arrow, decimals
from dix.bench.share.collection import BADGES, REFERENCES, Entry
from dix.bench.share.leaderboard import Board, Line, Overall, Run, Sheet
from dix.bench.tables import paper
from dix.bench.tables.standings import Standing
from dix.bench.tables.table import TableCell
from dix.text import printable

View = dict[str, Any]

FOLDER = Path(__file__).parent / "templates"
#: The colour of each badge.
TONES = {"verified": "good", "consistent": "blue", "reported": "open", "printed": ""}
WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 520.0, 220.0, 34.0, 30.0, 10.0


def render(board: Board, title: str = "Leaderboard of explanation methods") -> str:
    """The whole page."""
    script = html.page_script() + (FOLDER / "leaderboard.js").read_text(encoding="utf-8")
    css = [html.FOLDER / "report.css", FOLDER / "leaderboard.css"]
    blocks = [sheet.block for sheet in board.sheets]
    page = html.template("leaderboard.html.jinja", FOLDER).render(
        title=title,
        subtitle=_subtitle(board),
        refused=[f"Not shown: {name}: {why}" for name, why in board.collection.refused.items()],
        tiles=_tiles(board),
        protocols=_protocols(board),
        datasets=sorted({block.dataset for block in blocks}),
        models=sorted({block.model for block in blocks}),
        metrics=list(dict.fromkeys(metric for sheet in board.sheets for metric in sheet.metrics)),
        badges=BADGES[::-1],
        tones=TONES,
        overall=[_overall(board, one) for one in board.overall],
        sheets=[_sheet(board, sheet) for sheet in board.sheets],
        runs=[_run(entry) for entry in board.collection.entries],
        reading=READING,
        css=Markup("\n".join(path.read_text(encoding="utf-8") for path in css)),
        script=Markup(script),
        script_hash=html.script_hash(script),
    )
    return printable(page, keep="\n\t")


READING = (
    "printed: a publication prints the value; nothing here was computed. reported: rows were handed in, but what is "
    "said of them does not follow from them with the metrics that are configured here. consistent: every score follows "
    "from the rows. verified: somebody recomputed a random sample of rows from the images and the weights, and all "
    "came out alike; the run says how large a share of altered rows such a sample would have shown.",
    "Mean rank: over a block's metrics, one for each metric of the thesis, among all methods of the same run but the "
    "controls; overall: over the blocks in which the method is ranked, of each the run of which most may be said.",
    "Its interval (95 %): the range of the mean rank over resampled images. Two methods are in one group where "
    "resampling cannot tell their mean ranks apart, corrected for all pairs of the list; a method may be in several.",
    "Runs are not compared with each other: their images and seeds may differ.",
    "s / image: wall time that a method took for one image's map on the run's machine; runs on other machines are not "
    "comparable in it.",
    f"Every run holds {' and '.join(REFERENCES)}, without which a score has no yardstick.",
)


def _subtitle(board: Board) -> str:
    models, datasets = ({getattr(s.block, name) for s in board.sheets} for name in ("model", "dataset"))
    methods = {line.method for sheet in board.sheets for run in sheet.runs for line in run.lines}
    return f"{len(models)} models \u00b7 {len(datasets)} data sets \u00b7 {len(methods)} methods"


def _tiles(board: Board) -> list[View]:
    badges = [entry.badge for entry in board.collection.entries]
    badges += [BADGES[0]] * len(board.collection.printed)
    tiles = [{"value": len(board.collection.entries), "label": "runs"}]
    return tiles + [{"value": badges.count(name), "label": name} for name in BADGES[::-1]]


def _protocols(board: Board) -> list[str]:
    """Protocols, that of the most runs first."""
    own = [entry.group.protocol for entry in board.collection.entries]
    return sorted({sheet.block.protocol for sheet in board.sheets}, key=lambda name: (-own.count(name), name))


def _overall(board: Board, one: Overall) -> View:
    note = f"over {one.of} block{'s' if one.of != 1 else ''}" + (", as printed" if one.badge == BADGES[0] else "")
    rows = [
        {
            "label": board.labels.method(place.method),
            "filter": f"{place.method} {board.labels.method(place.method)}".lower(),
            "role": "ours" if place.method in paper.PROPOSED else "",
            "blocks": one.blocks[place.method],
            **_place(place),
        }
        for place in one.standings
    ]
    return {"protocol": one.protocol, "badge": one.badge, "note": note, "rows": rows}


def _place(place: Standing | None) -> View:
    """A mean rank with its interval and groups."""
    if place is None:
        return {"rank": "\u2013", "sort": "", "interval": "", "groups": "", "group_sort": "", "place": ""}
    return {
        "rank": decimals(place.rank),
        "sort": sort_key(place.rank),
        "interval": "" if np.isnan(place.low) else f"{decimals(place.low)} to {decimals(place.high)}",
        "groups": " ".join(map(str, place.groups)),
        "group_sort": place.groups[0] if place.groups else "",
        "place": " best" if 1 in place.groups else "",
    }


def _sheet(board: Board, sheet: Sheet) -> View:
    block = sheet.block
    title = f"{board.labels.model(block.model)} on {board.labels.dataset(block.dataset)}, protocol {block.protocol}"
    heads = [
        {"name": n, "label": f"{label} {arrow(up)}".strip(), "first": "ascending" if up is False else "descending"}
        for n, (label, up) in sheet.metrics.items()
    ]
    return {
        **block._asdict(),
        "title": title,
        "metrics": heads,
        "rows": [_row(sheet, run, line) for run in sheet.runs for line in run.lines],
        "charts": [_chart(run) for run in sheet.runs if _points(run)],
    }


def _row(sheet: Sheet, run: Run, line: Line) -> View:
    return {
        "label": line.label,
        "filter": f"{line.method} {line.label}".lower(),
        "run": run.name,
        "badge": run.badge,
        "role": line.role,
        "cells": [_cell(metric, line.cells.get(metric)) for metric in sheet.metrics],
        "cost": "" if np.isnan(line.cost) else f"{line.cost:.3g}",
        "cost_sort": sort_key(line.cost),
        **_place(line.standing),
    }


def _cell(metric: str, cell: TableCell | None) -> View:
    if cell is None or cell.status != "measured":
        why = "" if cell is None else cell.reason
        return {"metric": metric, "value": "\u2013", "sort": "", "interval": "", "hint": why, "place": ""}
    excluded = "; ".join(f"{count} excluded: {reason}" for reason, count in cell.excluded.items())
    hint = f"n = {cell.n}" + (f"; {excluded}" if excluded else "") if cell.n else "as printed"
    return {
        "metric": metric,
        "value": decimals(cell.value),
        "sort": sort_key(cell.value),
        "interval": "" if np.isnan(cell.low) else f"{decimals(cell.low)} to {decimals(cell.high)}",
        "hint": hint,
        "place": " best" if cell.rank == 1 else "",
    }


def _run(entry: Entry) -> View:
    about = entry.about
    lines = [
        f"{len(about['methods'])} methods, {len(about['metrics'])} metrics, {about['images']:,} images, "
        f"{about['rows']:,} rows; protocol version {about['protocol_version']}; {entry.pack.manifest['writer']}",
        *(f"computed on {machine}" for machine in entry.machines),
        *([f"incomplete: {about['missing']:,} rows are missing"] if about["missing"] else []),
        *(f"does not follow from the rows: {fault}" for fault in entry.faults[:5]),
        *(one.said for one in entry.verifications),
        *(f"a record that does not hold: {why}" for why in entry.disputed),
        f"sha256 {entry.pack.digest}",
    ]
    return {"name": entry.name, "badge": entry.badge, "block": entry.group.title, "lines": lines}


def _points(run: Run) -> list[tuple[float, float, Line]]:
    """(seconds an image, mean rank, line) of the methods that have both."""
    ranked = [(line.cost, line.standing.rank, line) for line in run.lines if line.standing is not None]
    return [point for point in ranked if point[0] > 0]


def _chart(run: Run) -> View:
    """Cost against quality: seconds an image on a logarithmic axis, mean rank upwards to 1."""
    points = _points(run)
    x, y = np.log10([p[0] for p in points]), [p[1] for p in points]
    low, high = np.floor(x.min() * 2) / 2 - 0.1, np.ceil(x.max() * 2) / 2 + 0.1
    worst = max(max(y), 2.0)

    def at(log: float, rank: float) -> tuple[float, float]:
        right = LEFT + (WIDTH - LEFT - EDGE) * (log - low) / (high - low)
        return right, EDGE + 8 + (HEIGHT - BOTTOM - EDGE - 8) * (rank - 1) / (worst - 1)

    drawn = "".join(_point(*at(log, rank), point[2], point[0]) for log, rank, point in zip(x, y, points, strict=True))
    axes = _axes(at, float(low), float(high), worst)
    said = "mean rank against seconds an image"
    svg = f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{said}">{axes}{drawn}</svg>'
    return {"title": f"{run.name}: {said}", "badge": run.badge, "svg": Markup(svg)}


def _axes(at: Any, low: float, high: float, worst: float) -> str:
    lines = []
    for log in ticks(low, high):
        x = at(log, 1.0)[0]
        lines.append(f'<path class="grid" d="M{x:.1f} {EDGE:g}V{HEIGHT - BOTTOM:g}"/>')
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14:g}" text-anchor="middle">{10**log:.2g} s</text>')
    for rank in [1.0, *(tick for tick in ticks(1.0, worst) if tick > 1)]:
        y = at(low, rank)[1]
        lines.append(f'<path class="grid" d="M{LEFT:g} {y:.1f}H{WIDTH - EDGE:g}"/>')
        lines.append(f'<text x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{rank:g}</text>')
    return "".join(lines)


def _point(x: float, y: float, line: Line, seconds: float) -> str:
    """A method's dot; its name beside it where it is in the first group or proposed."""
    said = escape(f"{line.label}: {seconds:.3g} s an image")
    role = escape(line.role)
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{role}"><title>{said}</title></circle>'
    if line.standing is None or not (1 in line.standing.groups or line.role == "ours"):
        return dot
    side, anchor = (x + 7, "start") if x < WIDTH - 120 else (x - 7, "end")
    return dot + f'<text class="name" x="{side:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escape(line.label)}</text>'


def notes_of(entries: Sequence[Entry], refused: Mapping[str, str]) -> list[str]:
    """What the command line says of each run, and of what it does not show."""
    told = [f"{entry.badge:<11}{entry.group.title}  {entry.name}" for entry in entries]
    for entry in entries:
        told += [f"  {entry.name}: {fault}" for fault in (*entry.faults[:5], *entry.disputed)]
    return told + [f"refused    {name}: {why}" for name, why in refused.items()]
