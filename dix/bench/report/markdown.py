"""A table as Markdown: wide, as the thesis prints it, with every interval and test folded away below."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dix.bench.report.notes import (
    NOTHING,
    UNMEASURED,
    cells_of,
    claim_images,
    claim_rule,
    columns_of,
    decimals,
    groups,
    head,
    mark,
    marks,
    mean_rank,
    metric_label,
    notes,
    p_value,
    signed,
    statement,
    verdict_counts,
)
from dix.bench.report.sensitivity import Section, sensitivity
from dix.bench.tables.beside import beside
from dix.bench.tables.samples import Block
from dix.bench.tables.table import Claim, Table, TableCell

TITLE = "What the protocol decides"


def markdown_escape(text: str) -> str:
    """Text that Markdown and the HTML inside it print as it is, in one line."""
    escaped = re.sub(r"([\\`*_|\[\]~$#])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render_markdown(table: Table) -> str:
    """The table as the thesis prints it, then the same with the thesis's values, the evidence, and the claims."""
    parts = [f"# {markdown_escape(table.title)}"] if table.title else []
    parts += ["\n".join(f"- {markdown_escape(line)}" for line in head(table))] if head(table) else []
    for (protocol, dataset), blocks in groups(table).items():
        parts.append(f"## {markdown_escape(f'{table.labels.dataset(dataset)}, protocol {protocol}')}")
        parts.append(_markdown_wide(table, blocks, _markdown_value, ranks=True))
        parts.append("\n".join(f"- {markdown_escape(note)}" for note in notes(table, blocks)))
        if any(not np.isnan(cell.printed) and cell.status == "measured" for cell in cells_of(table, blocks)):
            parts.append("The thesis's value, and measured minus printed:")
            parts.append(_markdown_wide(table, blocks, _markdown_printed, ranks=False))
        parts.append(_markdown_evidence(table, blocks))
    parts += _markdown_claims(table)
    parts += _markdown_beside(table)
    section = sensitivity(table)
    parts += [f"## {TITLE}", *markdown_section(section)] if section else []
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table whose first `left` columns are words."""
    rule = [":--"] * left + ["--:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _markdown_wide(table: Table, blocks: Sequence[Block], show: Callable[[TableCell], str], ranks: bool) -> str:
    """Lines are model and metric, columns are methods; a last line of each block with the mean ranks."""
    methods = columns_of(table, blocks)
    rows = []
    for block in blocks:
        model = markdown_escape(table.labels.model(block.model))
        for metric in table.metrics_of(block):
            cells = [show(table.cell(block, method, metric)) for method in methods]
            rows.append([model, markdown_escape(metric_label(table, metric)), *cells])
        if ranks:
            rows.append([model, "mean rank", *(mean_rank(table, block, method) for method in methods)])
    return markdown_table(["Model", "Metric", *(markdown_escape(table.labels.method(m)) for m in methods)], rows, 2)


def _markdown_value(cell: TableCell) -> str:
    if cell.status != "measured":
        return UNMEASURED[cell.status]
    text = decimals(cell.value)
    emphasised = f"**{text}**" if cell.best else f"<u>{text}</u>" if cell.second else text
    return emphasised + marks(cell)


def _markdown_printed(cell: TableCell) -> str:
    if np.isnan(cell.printed):
        return ""
    if cell.status != "measured":
        return decimals(cell.printed)
    return f"{decimals(cell.printed)} ({signed(cell.difference)}){mark(cell)}"


def _markdown_evidence(table: Table, blocks: Sequence[Block]) -> str:
    """Every measured cell with its interval, its test and its rank, folded away."""
    header = ["Model", "Metric", "Method", "n", "value", "low", "high", "thesis", "difference", "rank", "shared n"]
    header += ["best baseline", "lead over it", "p", "p alone", "p Wilcoxon", "note"]
    rows = [_evidence_row(table, cell) for cell in cells_of(table, blocks) if cell.status == "measured"]
    body = markdown_table(header, rows, 3)
    return f"<details><summary>Intervals, tests and ranks of every cell</summary>\n\n{body}\n\n</details>"


def _evidence_row(table: Table, cell: TableCell) -> list[str]:
    names = (
        table.labels.model(cell.key.block.model),
        table.labels.metric(cell.key.metric),
        table.labels.method(cell.key.method),
    )
    numbers = (cell.value, cell.low, cell.high, cell.printed)
    rank = (NOTHING, NOTHING) if np.isnan(cell.rank) else (f"{cell.rank:g}", str(cell.shared))
    return [
        *map(markdown_escape, names),
        str(cell.n),
        *map(decimals, numbers),
        f"{signed(cell.difference)}{mark(cell)}",
        *rank,
        markdown_escape(table.labels.method(cell.rival) if cell.rival else NOTHING),
        lead_text(cell),
        *map(p_value_md, (cell.p, cell.p_alone, cell.p_rank)),
        markdown_escape(cell.note),
    ]


def _markdown_beside(table: Table) -> list[str]:
    """Every score once more, with a column for each protocol, where there are several."""
    parts = []
    for sheet in beside(table):
        model, dataset = table.labels.model(sheet.model), table.labels.dataset(sheet.dataset)
        rows = []
        for line in sheet.lines:
            names = (metric_label(table, line.metric), table.labels.method(line.method))
            shown = ("" if cell is None else _markdown_value(cell) for cell in line.cells)
            rows.append([*map(markdown_escape, names), *shown])
        header = ["Metric", "Method", *map(markdown_escape, sheet.protocols)]
        parts += [f"### {markdown_escape(f'{model} on {dataset}')}", markdown_table(header, rows, 2)]
    return ["## Protocols side by side", *parts] if parts else []


def markdown_section(section: Section) -> list[str]:
    """What the protocol decides: its sentences and tables; the long ones are folded away."""
    parts = [markdown_escape(line) for line in section.lines]
    for sheet in section.sheets:
        rows = [[markdown_escape(text) for text in row] for row in sheet.rows]
        body = markdown_table([markdown_escape(text) for text in sheet.header], rows, sheet.words)
        title = markdown_escape(sheet.title)
        folded = f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
        parts += [folded] if sheet.folded else [f"### {title}", body]
    return parts


def lead_text(cell: TableCell) -> str:
    """How much better than the best baseline, positive where it is, with the interval."""
    drawn = not np.isnan(cell.lead_low)
    return signed(cell.lead) + (f" [{signed(cell.lead_low)}, {signed(cell.lead_high)}]" if drawn else "")


def _markdown_claims(table: Table) -> list[str]:
    if not table.claims:
        return []
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(table.claims).items())
    header = ["Data set", "Model", "Claim", "printed lead", "measured lead", "low", "high", "n", "p", "verdict"]
    rows = [_claim_row(table, claim) for claim in table.claims]
    return ["## Claims", f"{len(table.claims)} claims: {counts}. {claim_rule(table)}", markdown_table(header, rows, 3)]


def _claim_row(table: Table, claim: Claim) -> list[str]:
    names = (
        table.labels.dataset(claim.block.dataset),
        table.labels.model(claim.block.model),
        statement(table, claim),
    )
    leads = (claim.printed, claim.lead, claim.low, claim.high)
    return [*map(markdown_escape, names), *map(signed, leads), claim_images(claim), p_value_md(claim.p), claim.verdict]


def p_value_md(p: float) -> str:
    """A p-value that Markdown prints as it is."""
    return markdown_escape(p_value(p))
