"""The report: one self-contained HTML page with every number's evidence, the curves, the maps and the provenance.

The page loads nothing: its style, script, charts and images are inside. Its content security policy allows its own
script and `data:` images only, and every name, label and reason is escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from dix.bench.report import render_text
from dix.bench.report.charts import curve_chart, curve_style, forest
from dix.bench.report.render_text import decimals, p_value, signed
from dix.bench.tables.build import CONFIRMED, REFUTED, UNDECIDED, VERDICTS, Cell, Claim, Table
from dix.bench.tables.curves import CurvePanel
from dix.bench.tables.samples import Block

FOLDER = Path(__file__).parent / "templates"
TONES = dict.fromkeys(VERDICTS, "") | {CONFIRMED: "good", REFUTED: "bad", UNDECIDED: "open"}
SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
#: Headings of provenance keys that do not speak for themselves.
TITLES = {"incomparable": "Not comparable with the thesis"}

View = dict[str, Any]


@dataclass(frozen=True)
class GalleryItem:
    """One photo with the methods' maps over it.

    image_id, label: what is printed above it. photo_png: the photo as PNG, JPEG or WebP bytes. overlays: by method, the
    map over the photo in the same formats. scores: the photo's own scores by method and metric; NaN where excluded.
    """

    image_id: str
    label: str
    photo_png: bytes
    overlays: Mapping[str, bytes]
    scores: Mapping[str, Mapping[str, float]]


def render_html(
    table: Table,
    gallery: Sequence[GalleryItem] = (),
    provenance: Mapping[str, Any] | None = None,
    curves: Sequence[CurvePanel] = (),
) -> str:
    """The whole report as one page.

    provenance: what the numbers depend on (see `tables.Evidence`); by default the table's own. Its `cost` becomes a
    section by itself. Raises ValueError for an image in a format that browsers do not show.
    """
    about = table.provenance if provenance is None else provenance
    script = (FOLDER / "report.js").read_text(encoding="utf-8")
    claims = _claims(table)
    parts = {"results": True, "claims": claims, "curves": curves, "gallery": gallery, "provenance": True}
    parts["cost"] = about.get("cost")
    return _template().render(
        title=table.title or "Benchmark of explanations",
        subtitle=_subtitle(table),
        warnings=_warnings(table),
        tiles=_tiles(table),
        sections=[name for name, present in parts.items() if present],
        level=f"{100 * table.bootstrap.level:g} %",
        groups=[_group(table, blocks) for blocks in render_text.groups(table).values()],
        claims=claims,
        legend=_legend(table, curves),
        curves=_curve_groups(table, curves),
        gallery=[_example(table, item) for item in gallery],
        provenance=_provenance(about),
        method_note=_sentence(render_text.interval_note(table)),
        identities=_identities(table),
        cost=_cost(about.get("cost")),
        tones=TONES,
        css=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=Markup(f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja")


def sort_key(number: float) -> str:
    """What the page sorts a cell by; nothing for NaN, which sorts last."""
    return "" if np.isnan(number) else f"{number:.{render_text.DIGITS}g}"


def image_uri(data: bytes) -> Markup:
    """An image as a `data:` address; raises ValueError unless it is PNG, JPEG or WebP."""
    for signature, kind in SIGNATURES.items():
        if data.startswith(signature):
            return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")
    raise ValueError(f"expected PNG, JPEG or WebP bytes for the gallery, got {data[:8]!r}")


def _plural(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _subtitle(table: Table) -> str:
    blocks = table.layout.blocks
    counts = (
        _plural(len({block.model for block in blocks}), "model"),
        _plural(len({block.dataset for block in blocks}), "data set"),
        _plural(len(table.layout.methods), "method"),
        _plural(len(table.layout.metrics), "metric"),
        f"protocol {', '.join(dict.fromkeys(block.protocol for block in blocks))}",
    )
    return " · ".join(counts)


def _warnings(table: Table) -> list[str]:
    """What a reader must know before any number."""
    reasons: dict[str, list[str]] = {}
    for cell in table.with_status("measured"):
        if cell.reason:
            reasons.setdefault(cell.reason, []).append(table.labels.model(cell.key.block.model))
    found = [
        f"{', '.join(dict.fromkeys(models))}: not comparable with the thesis's values ({reason})."
        for reason, models in reasons.items()
    ]
    missing = len(table.with_status("missing"))
    return found + ([f"{_plural(missing, 'cell is', 'cells are')} missing."] if missing else [])


def _tiles(table: Table) -> list[View]:
    """The report's sums: cells, images, values outside their interval, verdicts."""
    measured = table.with_status("measured")
    compared = [cell for cell in measured if not np.isnan(cell.printed) and not cell.reason]
    images = max((cell.n + sum(cell.excluded.values()) for cell in measured), default=0)
    tiles = [
        {"value": str(len(measured)), "label": "cells measured"},
        {"value": str(len(table.with_status("skipped"))), "label": "impossible cells, skipped"},
        {"value": str(images), "label": "images in the largest cell"},
    ]
    if compared:
        outside = sum(cell.outside for cell in compared)
        tiles.append({"value": f"{outside} of {len(compared)}", "label": "thesis values outside the interval"})
    for verdict, count in render_text.verdict_counts(table.claims).items():
        tiles.append({"value": f"{count} of {len(table.claims)}", "label": f"claims {verdict}"})
    return tiles


def _group(table: Table, blocks: Sequence[Block]) -> View:
    """One data set under one protocol."""
    dataset = table.labels.dataset(blocks[0].dataset)
    title = f"{dataset}, protocol {blocks[0].protocol}"
    return {
        "title": title,
        "blocks": [_block(table, block) for block in blocks],
        "notes": render_text.notes(table, blocks),
    }


def _block(table: Table, block: Block) -> View:
    """One model's table: methods are rows, metrics are columns."""
    metrics = table.metrics_of(block)
    scales = {metric: _scale(table, table.line(block, metric)) for metric in metrics}
    return {
        "title": f"{table.labels.model(block.model)} on {table.labels.dataset(block.dataset)}",
        "metrics": [_metric_head(table, metric) for metric in metrics],
        "rows": [_row(table, block, method, scales) for method in table.methods_of(block)],
    }


def _metric_head(table: Table, metric: str) -> View:
    direction = table.directions.get(metric, True)
    label = f"{table.labels.metric(metric)} {render_text.arrow(direction)}".strip()
    return {"label": label, "first": "ascending" if direction is False else "descending"}


def _scale(table: Table, cells: Iterable[Cell]) -> tuple[float, float]:
    """The range of everything that a column's small charts show; controls have none."""
    shown = [cell for cell in cells if cell.status == "measured" and cell.key.method not in table.controls]
    values = [x for cell in shown for x in (cell.value, cell.low, cell.high, cell.printed)]
    finite = [value for value in values if not np.isnan(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _role(table: Table, method: str) -> str:
    return "ours" if method in table.proposed else "control" if method in table.controls else ""


def _row(table: Table, block: Block, method: str, scales: Mapping[str, tuple[float, float]]) -> View:
    mean, lines, of = table.mean_ranks[block, method]
    return {
        "label": table.labels.method(method),
        "role": _role(table, method),
        "cells": [_cell(table, table.cell(block, method, metric), scale) for metric, scale in scales.items()],
        "rank": decimals(mean),
        "rank_sort": sort_key(mean),
        "rank_note": f"{lines} of {of} lines" if lines not in (0, of) else "",
    }


def _cell(table: Table, cell: Cell, scale: tuple[float, float]) -> View:
    """One score with its interval, the thesis's value and the test."""
    if cell.status != "measured":
        return {"gap": render_text.UNMEASURED[cell.status] or " ", "reason": cell.reason}
    drawn = not np.isnan(cell.low)
    return {
        "gap": "",
        "value": decimals(cell.value),
        "sort": sort_key(cell.value),
        "place": " best" if cell.best else " second" if cell.second else "",
        "hint": _hint(cell),
        "interval": f"{decimals(cell.low)} to {decimals(cell.high)}" if drawn else "",
        "forest": Markup(forest(cell, scale)) if drawn and cell.key.method not in table.controls else "",
        "thesis": _thesis(cell),
        "outside": cell.outside,
        "test": _test(table, cell),
    }


def _hint(cell: Cell) -> str:
    """What the cell's tooltip says: counts, and why there is no interval."""
    reasons = [f"{count} excluded: {reason}" for reason, count in cell.excluded.items()]
    rank = [] if np.isnan(cell.rank) else [f"rank {cell.rank:g}"]
    return "; ".join([f"n = {cell.n}", *reasons, *rank, *([cell.note] if cell.note else [])])


def _thesis(cell: Cell) -> str:
    if np.isnan(cell.printed):
        return ""
    return f"{decimals(cell.printed)} ({signed(cell.difference)}){render_text.mark(cell)}"


def _test(table: Table, cell: Cell) -> str:
    return f"p {p_value(cell.p)} vs {table.labels.method(cell.rival)}" if cell.rival else ""


def _claims(table: Table) -> View | None:
    """The verdicts counted for each block, and every claim."""
    if not table.claims:
        return None
    verdicts = list(render_text.verdict_counts(table.claims))
    blocks = dict.fromkeys(claim.block for claim in table.claims)
    return {
        "rule": render_text.claim_rule(table),
        "verdicts": verdicts,
        "summary": [_verdict_row(table, block, verdicts) for block in blocks],
        "rows": [_claim_row(table, claim) for claim in table.claims],
    }


def _verdict_row(table: Table, block: Block, verdicts: Sequence[str]) -> View:
    own = [claim for claim in table.claims if claim.block == block]
    counts = render_text.verdict_counts(own)
    return {
        "dataset": table.labels.dataset(block.dataset),
        "model": table.labels.model(block.model),
        "total": len(own),
        "counts": [
            {
                "n": counts.get(name, 0),
                "tone": TONES.get(name, ""),
                "percent": f"{100 * counts.get(name, 0) / len(own):.4g}",
            }
            for name in verdicts
        ],
    }


def _claim_row(table: Table, claim: Claim) -> View:
    return {
        "dataset": table.labels.dataset(claim.block.dataset),
        "model": table.labels.model(claim.block.model),
        "claim": render_text.statement(table, claim),
        "verdict": claim.verdict,
        "printed": signed(claim.printed),
        "printed_sort": sort_key(claim.printed),
        "lead": signed(claim.lead),
        "lead_sort": sort_key(claim.lead),
        "interval": "" if np.isnan(claim.low) else f"{signed(claim.low)} to {signed(claim.high)}",
        "n": claim.n,
        "p": p_value(claim.p),
        "p_sort": sort_key(claim.p),
    }


def _curve_order(table: Table) -> list[str]:
    """Methods in the order in which colours are given out: the proposed ones first, the last of them foremost."""
    ours = [method for method in reversed(table.layout.methods) if method in table.proposed]
    return ours + [method for method in table.layout.methods if method not in ours]


def _legend(table: Table, curves: Sequence[CurvePanel]) -> list[View]:
    order = _curve_order(table)
    drawn = {line.method for panel in curves for line in panel.lines}
    return [
        {
            "index": order.index(method),
            "label": table.labels.method(method),
            "style": curve_style(order.index(method), method in table.proposed),
            "ours": method in table.proposed,
        }
        for method in table.layout.methods
        if method in drawn
    ]


def _curve_groups(table: Table, curves: Sequence[CurvePanel]) -> list[View]:
    """The panels of each block."""
    order = {method: index for index, method in enumerate(_curve_order(table))}
    groups: dict[Block, list[View]] = {}
    for panel in curves:
        svg = Markup(curve_chart(panel, order, table.proposed))
        label = render_text.metric_label(table, panel.metric)
        groups.setdefault(panel.block, []).append({"title": label, "svg": svg})
    return [
        {
            "title": f"{table.labels.model(b.model)} on {table.labels.dataset(b.dataset)}, protocol {b.protocol}",
            "panels": p,
        }
        for b, p in groups.items()
    ]


def _example(table: Table, item: GalleryItem) -> View:
    """One photo's maps and scores."""
    metrics = list(dict.fromkeys(metric for scores in item.scores.values() for metric in scores))
    return {
        "image_id": item.image_id,
        "label": item.label,
        "photo": image_uri(item.photo_png),
        "maps": [
            {
                "uri": image_uri(data),
                "label": table.labels.method(name),
                "alt": f"{table.labels.method(name)}: {item.label}",
            }
            for name, data in item.overlays.items()
        ],
        "metrics": [_metric_head(table, metric) for metric in metrics],
        "rows": [
            {
                "label": table.labels.method(method),
                "role": _role(table, method),
                "scores": [_score(scores.get(metric, np.nan)) for metric in metrics],
            }
            for method, scores in item.scores.items()
        ],
    }


def _score(number: float) -> View:
    return {"sort": sort_key(number), "text": decimals(number)}


def _provenance(about: Mapping[str, Any]) -> list[View]:
    """Every fact but the cost, one part for each of the mapping's keys."""
    return [
        {"title": TITLES.get(name, str(name).replace("_", " ").capitalize()), "facts": list(render_text.flatten(value))}
        for name, value in about.items()
        if name != "cost" and value
    ]


def _identities(table: Table) -> list[tuple[str, str]]:
    names = ("protocol", "dataset", "model", "method", "metric")
    return [
        (" / ".join(str(cell[name]) for name in names if name in cell), render_text.facts(cell.get("identity", {})))
        for cell in table.identities
    ]


def _cost(cost: Any) -> View | None:
    """The cost as a table: one row for each mapping of a list, or one for each fact."""
    if not cost:
        return None
    records = cost if isinstance(cost, Sequence) and not isinstance(cost, str) else _cost_facts(cost)
    names = list(dict.fromkeys(name for record in records for name in record))
    return {
        "columns": [
            {
                "label": str(name).replace("_", " "),
                "numeric": all(isinstance(record.get(name), int | float) for record in records),
            }
            for name in names
        ],
        "rows": [[_cost_cell(record.get(name)) for name in names] for record in records],
    }


def _cost_facts(cost: Any) -> list[dict[str, Any]]:
    if not isinstance(cost, Mapping):
        return [{"cost": str(cost)}]
    if all(isinstance(value, Mapping) for value in cost.values()):
        return [{"what": name, **value} for name, value in cost.items()]
    return [dict(cost)]


def _cost_cell(value: Any) -> View:
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
        return {"text": text, "sort": sort_key(float(value))}
    return {"text": "" if value is None else render_text.facts(value), "sort": ""}
