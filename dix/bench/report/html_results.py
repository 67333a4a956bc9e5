"""What the page's template is given of a table's results and claims; the template escapes every text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from dix.bench.report import notes
from dix.bench.report.charts import forest
from dix.bench.report.notes import decimals, p_value, signed
from dix.bench.report.sensitivity import sensitivity
from dix.bench.tables.beside import Beside, beside
from dix.bench.tables.samples import Block
from dix.bench.tables.table import BETTER, CONFIRMED, REFUTED, UNDECIDED, VERDICTS, WORSE, Claim, Table, TableCell

TONES = dict.fromkeys(VERDICTS, "") | {
    CONFIRMED: "good",
    BETTER: "good",
    REFUTED: "bad",
    WORSE: "bad",
    UNDECIDED: "open",
}

View = dict[str, Any]


def sort_key(number: float) -> str:
    """What the page sorts a cell by; nothing for NaN, which sorts last."""
    return "" if np.isnan(number) else f"{number:.{notes.DIGITS}g}"


def _plural(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def subtitle(table: Table) -> str:
    blocks = table.layout.blocks
    counts = (
        _plural(len({block.model for block in blocks}), "model"),
        _plural(len({block.dataset for block in blocks}), "data set"),
        _plural(len(table.layout.methods), "method"),
        _plural(len(table.layout.metrics), "metric"),
        f"protocol {', '.join(dict.fromkeys(block.protocol for block in blocks))}",
    )
    return " · ".join(counts)


def warnings(table: Table) -> list[str]:
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


def tiles(table: Table) -> list[View]:
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
    for verdict, count in notes.verdict_counts(table.claims).items():
        tiles.append({"value": f"{count} of {len(table.claims)}", "label": f"claims {verdict}"})
    return tiles


def group(table: Table, blocks: Sequence[Block]) -> View:
    """One data set under one protocol."""
    dataset = table.labels.dataset(blocks[0].dataset)
    title = f"{dataset}, protocol {blocks[0].protocol}"
    return {
        "title": title,
        "blocks": [_block(table, block) for block in blocks],
        "notes": notes.notes(table, blocks),
    }


def _block(table: Table, block: Block) -> View:
    """One model's table: methods are rows, metrics are columns."""
    metrics = table.metrics_of(block)
    scales = {metric: _scale(table, table.line(block, metric)) for metric in metrics}
    return {
        "title": f"{table.labels.model(block.model)} on {table.labels.dataset(block.dataset)}",
        "metrics": [metric_head(table, metric) for metric in metrics],
        "rows": [_row(table, block, method, scales) for method in table.methods_of(block)],
    }


def metric_head(table: Table, metric: str) -> View:
    direction = table.directions.get(metric, True)
    label = f"{table.labels.metric(metric)} {notes.arrow(direction)}".strip()
    return {"label": label, "first": "ascending" if direction is False else "descending"}


def _scale(table: Table, cells: Iterable[TableCell]) -> tuple[float, float]:
    """The range of everything that a column's small charts show; controls have none."""
    shown = [cell for cell in cells if cell.status == "measured" and cell.key.method not in table.controls]
    values = [x for cell in shown for x in (cell.value, cell.low, cell.high, cell.printed)]
    finite = [value for value in values if not np.isnan(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def role(table: Table, method: str) -> str:
    return "ours" if method in table.proposed else "control" if method in table.controls else ""


def _row(table: Table, block: Block, method: str, scales: Mapping[str, tuple[float, float]]) -> View:
    mean, lines, of = table.mean_ranks[block, method]
    return {
        "label": table.labels.method(method),
        "role": role(table, method),
        "cells": [_cell(table, table.cell(block, method, metric), scale) for metric, scale in scales.items()],
        "rank": decimals(mean),
        "rank_sort": sort_key(mean),
        "rank_note": f"{lines} of {of} lines" if lines not in (0, of) else "",
    }


def _cell(table: Table, cell: TableCell, scale: tuple[float, float]) -> View:
    """One score with its interval, the thesis's value and the test."""
    if cell.status != "measured":
        return {"gap": notes.UNMEASURED[cell.status] or " ", "reason": cell.reason}
    drawn = not np.isnan(cell.low)
    return {
        "gap": "",
        "value": decimals(cell.value) + (notes.APART if cell.lacks else ""),
        "sort": sort_key(cell.value),
        "place": " best" if cell.best else " second" if cell.second else "",
        "hint": _hint(cell),
        "interval": f"{decimals(cell.low)} to {decimals(cell.high)}" if drawn else "",
        "forest": Markup(forest(cell, scale)) if drawn and cell.key.method not in table.controls else "",
        "thesis": _thesis(cell),
        "outside": cell.outside,
        "test": _test(table, cell),
    }


def _hint(cell: TableCell) -> str:
    """What the cell's tooltip says: counts, and why there is no interval."""
    reasons = [f"{count} excluded: {reason}" for reason, count in cell.excluded.items()]
    rank = [] if np.isnan(cell.rank) else [f"rank {cell.rank:g}"]
    rank += [f"over {cell.shared} shared images"] if cell.lacks else []
    return "; ".join([f"n = {cell.n}", *reasons, *rank, *([cell.note] if cell.note else [])])


def _thesis(cell: TableCell) -> str:
    if np.isnan(cell.printed):
        return ""
    return f"{decimals(cell.printed)} ({signed(cell.difference)}){notes.mark(cell)}"


def _test(table: Table, cell: TableCell) -> str:
    rival = table.labels.method(cell.rival)
    return f"{signed(cell.lead)} than {rival}, p {p_value(cell.p)}" if cell.rival else ""


def protocols(table: Table) -> View | None:
    """Scores with a column for each protocol, and what the protocol decides; None for a single protocol."""
    section = sensitivity(table)
    if section is None:
        return None
    return {
        "blocks": [_beside(table, sheet) for sheet in beside(table)],
        "lines": section.lines,
        "sheets": [sheet._asdict() for sheet in section.sheets],
    }


def _beside(table: Table, sheet: Beside) -> View:
    """One model's lines; no small charts, since scales differ by protocol."""
    rows = []
    for line in sheet.lines:
        shown = [
            {"gap": " ", "reason": ""} if cell is None else _cell(table, cell, (0.0, 1.0)) | {"forest": "", "test": ""}
            for cell in line.cells
        ]
        names = {"metric": notes.metric_label(table, line.metric), "label": table.labels.method(line.method)}
        rows.append({**names, "role": role(table, line.method), "cells": shown})
    title = f"{table.labels.model(sheet.model)} on {table.labels.dataset(sheet.dataset)}"
    return {"title": title, "protocols": sheet.protocols, "rows": rows}


def claims(table: Table) -> View | None:
    """The verdicts counted for each block, and every claim."""
    if not table.claims:
        return None
    verdicts = list(notes.verdict_counts(table.claims))
    blocks = dict.fromkeys(claim.block for claim in table.claims)
    return {
        "rule": notes.claim_rule(table),
        "verdicts": verdicts,
        "summary": [_verdict_row(table, block, verdicts) for block in blocks],
        "rows": [_claim_row(table, claim) for claim in table.claims],
    }


def _verdict_row(table: Table, block: Block, verdicts: Sequence[str]) -> View:
    own = [claim for claim in table.claims if claim.block == block]
    counts = notes.verdict_counts(own)
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
        "claim": notes.statement(table, claim),
        "verdict": claim.verdict,
        "printed": signed(claim.printed),
        "printed_sort": sort_key(claim.printed),
        "lead": signed(claim.lead),
        "lead_sort": sort_key(claim.lead),
        "interval": "" if np.isnan(claim.low) else f"{signed(claim.low)} to {signed(claim.high)}",
        "n": notes.claim_images(claim),
        "n_sort": claim.n,
        "p": p_value(claim.p),
        "p_sort": sort_key(claim.p),
    }
