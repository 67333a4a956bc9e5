"""A table as CSV, one line for each cell or claim, for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from dix.bench.report.notes import DIGITS
from dix.bench.tables.beside import beside, protocols_of
from dix.bench.tables.table import Claim, Table, TableCell

_NUMBERS = ("value", "low", "high", "printed", "difference")
_CELL_FIELDS = ("protocol", "dataset", "model", "method", "metric", "label", "status", "n", "excluded", *_NUMBERS)
_VERDICT_FIELDS = (
    "outside",
    "best",
    "second",
    "rank",
    "shared",
    "lacks",
    "rival",
    "lead",
    "lead_low",
    "lead_high",
    "p",
    "p_alone",
    "p_wilcoxon",
    "note",
    "reason",
    "excluded_reasons",
    "flagged",
)
_CLAIM_FIELDS = (
    "protocol", "dataset", "model", "metric", "better", "worse", "printed_lead", "lead", "low", "high", "n",
    "p", "p_alone", "p_wilcoxon", "verdict",
)  # fmt: skip


def render_csv(table: Table) -> str:
    """Every cell as one line, with all that is known of it."""
    return as_csv((*_CELL_FIELDS, *_VERDICT_FIELDS), (_cell_record(table, cell) for cell in table.cells.values()))


def render_claims_csv(table: Table) -> str:
    """Every claim as one line, with its evidence and its verdict."""
    return as_csv(_CLAIM_FIELDS, (_claim_record(claim) for claim in table.claims))


def render_protocols_csv(table: Table) -> str:
    """Every metric and method of each model as one line, with a column for each protocol; "" for fewer than two."""
    protocols, sheets = protocols_of(table), beside(table)
    if not sheets:
        return ""
    records = []
    for sheet in sheets:
        for line in sheet.lines:
            values = {p: cell.value for p, cell in zip(sheet.protocols, line.cells, strict=True) if cell is not None}
            numbers = (values.get(protocol, np.nan) for protocol in protocols)
            records.append((sheet.dataset, sheet.model, line.metric, line.method, *numbers))
    return as_csv(("dataset", "model", "metric", "method", *protocols), records)


def as_csv(header: Sequence[str], records: Iterable[Sequence[object]]) -> str:
    """Records as comma-separated lines, numbers with DIGITS digits, nothing for NaN."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_plain(item) for item in record] for record in records)
    return text.getvalue()


def _plain(item: object) -> str:
    if isinstance(item, bool):
        return "1" if item else "0"
    if isinstance(item, float):
        return "" if np.isnan(item) else f"{item:.{DIGITS}g}"
    return str(item)


def _cell_record(table: Table, cell: TableCell) -> tuple[object, ...]:
    reasons, remarks = (
        "; ".join(f"{text}: {count}" for text, count in counts.items()) for counts in (cell.excluded, cell.flagged)
    )
    return (
        *cell.key.block,
        cell.key.method,
        cell.key.metric,
        f"{table.labels.method(cell.key.method)} {table.labels.metric(cell.key.metric)}",
        cell.status,
        cell.n,
        sum(cell.excluded.values()),
        *(cell.value, cell.low, cell.high, cell.printed, cell.difference, cell.outside, cell.best, cell.second),
        *(cell.rank, cell.shared, cell.lacks, cell.rival, cell.lead, cell.lead_low, cell.lead_high),
        *(cell.p, cell.p_alone, cell.p_rank, cell.note, cell.reason, reasons, remarks),
    )


def _claim_record(claim: Claim) -> tuple[object, ...]:
    numbers = (claim.printed, claim.lead, claim.low, claim.high, claim.n)
    tests = (claim.p, claim.p_alone, claim.p_rank)
    return (*claim.block, claim.metric, claim.better, claim.worse, *numbers, *tests, claim.verdict)
