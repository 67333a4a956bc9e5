"""What the page's template is given besides results: curves, pictures, provenance and cost."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from dix.bench.report import notes
from dix.bench.report.charts import curve_chart, curve_style
from dix.bench.report.html_results import View, metric_head, role, sort_key
from dix.bench.report.notes import decimals
from dix.bench.report.styles import styles
from dix.bench.tables.curves import CurvePanel
from dix.bench.tables.samples import Block
from dix.bench.tables.table import Table

SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
#: Headings of provenance keys that do not speak for themselves.
TITLES = {"incomparable": "Not comparable with the thesis"}


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


def image_uri(data: bytes) -> Markup:
    """An image as a `data:` address; raises ValueError unless it is PNG, JPEG or WebP."""
    for signature, kind in SIGNATURES.items():
        if data.startswith(signature):
            return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")
    raise ValueError(f"expected PNG, JPEG or WebP bytes for the gallery, got {data[:8]!r}")


def downloads(documents: Mapping[str, str]) -> list[View]:
    """Documents as addresses that hold them, so that the page still offers them where it is sent to others."""
    return [{"name": name, "uri": Markup(_address(text))} for name, text in documents.items() if text]


def _address(text: str) -> str:
    return f"data:text/plain;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def legend(table: Table, curves: Sequence[CurvePanel]) -> list[View]:
    """Every method that is drawn, in the order of the tables."""
    looks = styles(table.layout.methods, table.labels.colours)
    drawn = {line.method for panel in curves for line in panel.lines}
    return [
        {
            "index": number,
            "label": table.labels.method(method),
            "style": Markup(curve_style(looks[method], method in table.proposed)),
            "ours": method in table.proposed,
        }
        for number, method in enumerate(looks)
        if method in drawn
    ]


def curve_groups(table: Table, curves: Sequence[CurvePanel]) -> list[View]:
    """The panels of each block."""
    looks = styles(table.layout.methods, table.labels.colours)
    groups: dict[Block, list[View]] = {}
    for panel in curves:
        svg = Markup(curve_chart(panel, looks, table.proposed))
        label = notes.metric_label(table, panel.metric)
        groups.setdefault(panel.block, []).append({"title": label, "svg": svg, "clean": _clean(panel)})
    return [
        {
            "title": f"{table.labels.model(b.model)} on {table.labels.dataset(b.dataset)}, protocol {b.protocol}",
            "panels": p,
        }
        for b, p in groups.items()
    ]


def _clean(panel: CurvePanel) -> str:
    """What the curve of the clean images is of; nothing where there is none."""
    if panel.reference is None:
        return ""
    return f"the images as they are: the {panel.reference.n} of {panel.images} that some method's mask made less sure"


def example(table: Table, item: GalleryItem) -> View:
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
        "metrics": [metric_head(table, metric) for metric in metrics],
        "rows": [
            {
                "label": table.labels.method(method),
                "role": role(table, method),
                "scores": [_score(scores.get(metric, np.nan)) for metric in metrics],
            }
            for method, scores in item.scores.items()
        ],
    }


def _score(number: float) -> View:
    return {"sort": sort_key(number), "text": decimals(number)}


def provenance(about: Mapping[str, Any]) -> list[View]:
    """Every fact but the cost, one part for each of the mapping's keys."""
    return [
        {"title": TITLES.get(name, str(name).replace("_", " ").capitalize()), "facts": list(notes.flatten(value))}
        for name, value in about.items()
        if name != "cost" and value
    ]


def identities(table: Table) -> list[tuple[str, str]]:
    names = ("protocol", "dataset", "model", "method", "metric")
    return [
        (" / ".join(str(cell[name]) for name in names if name in cell), notes.facts(cell.get("identity", {})))
        for cell in table.identities
    ]


def cost(cost: Any) -> View | None:
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
    return {"text": "" if value is None else notes.facts(value), "sort": ""}
