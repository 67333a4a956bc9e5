"""A table as CSV (long, for programs), Markdown and LaTeX (wide, as the thesis prints it); the same bytes every time.

All three take a `tables.Table`; nothing here reads the clock, the environment or the store.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dix.bench.tables.build import VERDICTS, Cell, Claim, Table
from dix.bench.tables.samples import Block

OUTSIDE = "†"
INCOMPARABLE = "‡"
NOTHING = "–"
UNMEASURED = {"skipped": NOTHING, "missing": "missing", "absent": ""}

#: Significant digits of CSV numbers: more would differ between machines in the order of their sums.
DIGITS = 12

_NUMBERS = ("value", "low", "high", "printed", "difference")
_CELL_FIELDS = ("protocol", "dataset", "model", "method", "metric", "label", "status", "n", "excluded", *_NUMBERS)
_VERDICT_FIELDS = (
    "outside",
    "best",
    "second",
    "rank",
    "p_holm",
    "rival",
    "note",
    "reason",
    "excluded_reasons",
    "flagged",
)
_CLAIM_FIELDS = ("protocol", "dataset", "model", "metric", "better", "worse", "printed_lead", "lead", "low", "high")


def decimals(number: float, digits: int = 2) -> str:
    """A number as tables print it, a dash for none."""
    if np.isnan(number):
        return NOTHING
    text = f"{number:.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")


def signed(number: float, digits: int = 2) -> str:
    """A difference with its sign, zero without one."""
    text = decimals(number, digits)
    return f"+{text}" if not np.isnan(number) and float(f"{number:.{digits}f}") > 0 else text


def p_value(p: float) -> str:
    """A p-value to three decimals, a dash for none."""
    if np.isnan(p):
        return NOTHING
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def arrow(direction: bool | None) -> str:
    """Which way is better: up, down, or nothing."""
    return {True: "↑", False: "↓", None: ""}[direction]


def metric_label(table: Table, metric: str) -> str:
    """The metric's printed name with its direction."""
    return f"{table.labels.metric(metric)} {arrow(table.directions[metric])}".strip()


def mark(cell: Cell) -> str:
    """The sign of a thesis value outside the interval, or of one that must not be compared."""
    if cell.reason and cell.status == "measured":
        return INCOMPARABLE
    return OUTSIDE if cell.outside else ""


def statement(table: Table, claim: Claim) -> str:
    """A claim in words."""
    better, worse = table.labels.method(claim.better), table.labels.method(claim.worse)
    return f"{better} better than {worse} on {table.labels.metric(claim.metric)}"


def verdict_counts(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims have each verdict, of those verdicts that occur."""
    counts = Counter(claim.verdict for claim in claims)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (dotted name, text), in their own order."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for position, item in enumerate(value):
            yield from flatten(item, f"{name}.{position}" if name else str(position))
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)


def facts(value: Any) -> str:
    """Nested facts in one line."""
    return "; ".join(f"{name} = {text}" if name else text for name, text in flatten(value))


def groups(table: Table) -> dict[tuple[str, str], tuple[Block, ...]]:
    """The blocks of each (protocol, data set): one printed table each."""
    names = dict.fromkeys((block.protocol, block.dataset) for block in table.layout.blocks)
    return {
        (protocol, dataset): tuple(b for b in table.layout.blocks if (b.protocol, b.dataset) == (protocol, dataset))
        for protocol, dataset in names
    }


def cells_of(table: Table, blocks: Iterable[Block]) -> list[Cell]:
    """All cells of some blocks, line by line."""
    return [cell for block in blocks for metric in table.metrics_of(block) for cell in table.line(block, metric)]


def columns_of(table: Table, blocks: Sequence[Block]) -> tuple[str, ...]:
    """The methods that some block of a group can have."""
    possible = {method for block in blocks for method in table.methods_of(block)}
    return tuple(method for method in table.layout.methods if method in possible)


def notes(table: Table, blocks: Sequence[Block]) -> list[str]:
    """What stands under a group of blocks: n, exclusions, protocol, weights, machine, marks, skips and gaps."""
    cells = cells_of(table, blocks)
    lines = [
        _count_note(table, cells),
        *_exclusion_notes(table, cells),
        *_flag_notes(table, cells),
        interval_note(table),
        *_mark_notes(cells),
        *_provenance_notes(table, blocks),
        *_gap_notes(table, cells),
    ]
    return [line for line in lines if line]


def _count_note(table: Table, cells: Sequence[Cell]) -> str:
    counts = {cell.n for cell in cells if cell.status == "measured"}
    if not counts:
        return "nothing is measured yet"
    if len(counts) == 1:
        return f"n = {_images(counts)} in every cell"
    by_model: dict[str, set[int]] = {}
    for cell in cells:
        if cell.status == "measured":
            by_model.setdefault(cell.key.block.model, set()).add(cell.n)
    if all(len(own) == 1 for own in by_model.values()):
        return "n = " + ", ".join(f"{_images(n)} ({table.labels.model(name)})" for name, n in by_model.items())
    by_metric: dict[str, set[int]] = {}
    for cell in cells:
        if cell.status == "measured":
            by_metric.setdefault(cell.key.metric, set()).add(cell.n)
    return "n = " + ", ".join(f"{_images(n)} ({table.labels.metric(name)})" for name, n in by_metric.items())


def _images(counts: set[int]) -> str:
    return f"{_span(counts)} {'image' if counts == {1} else 'images'}"


def _span(counts: set[int]) -> str:
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)}–{max(counts)}"


def _exclusion_notes(table: Table, cells: Sequence[Cell]) -> list[str]:
    """How many images each metric excludes for each reason; a span where models or methods differ."""
    found: dict[tuple[str, str], set[int]] = {}
    for cell in cells:
        for reason, count in cell.excluded.items():
            found.setdefault((cell.key.metric, reason), set()).add(count)
    return [
        f"excluded from {table.labels.metric(metric)}: {_images(counts)} ({reason})"
        for (metric, reason), counts in found.items()
    ]


def _flag_notes(table: Table, cells: Sequence[Cell]) -> list[str]:
    """Remarks on images that count, once for all metrics of a method."""
    found: dict[str, int] = {}
    for cell in cells:
        where = f"{table.labels.method(cell.key.method)} on {table.labels.model(cell.key.block.model)}"
        for remark, count in cell.flagged.items():
            name = f"{where}: {remark}"
            found[name] = max(count, found.get(name, 0))
    return [f"flagged: {name}, {_images({count})}" for name, count in found.items()]


def interval_note(table: Table) -> str:
    """How intervals and p-values are computed, and what the emphasis means."""
    b = table.bootstrap
    return (
        f"intervals: {100 * b.level:g} % BCa bootstrap over images ({b.resamples} resamples, seed {b.seed}); "
        "p: Wilcoxon signed-rank test against the best baseline, Holm-corrected over the line's methods; "
        "bold is the best of a line, underlined the second"
    )


def _mark_notes(cells: Sequence[Cell]) -> list[str]:
    reasons = sorted({cell.reason for cell in cells if cell.reason and cell.status == "measured"})
    lines = [f"{INCOMPARABLE} not comparable with the thesis's value: {reason}" for reason in reasons]
    if any(cell.outside for cell in cells):
        lines.append(f"{OUTSIDE} the thesis's value is outside the interval")
    return lines


def _provenance_notes(table: Table, blocks: Sequence[Block]) -> list[str]:
    """The choices of these blocks' protocol, their models' weights, their data, and the machine."""
    about = table.provenance
    protocol = blocks[0].protocol
    choices = about.get("protocol", {})
    choices = choices.get(protocol, choices) if isinstance(choices, Mapping) else choices
    weights = about.get("weights", {})
    known = isinstance(weights, Mapping)
    mine = {b.model: weights[b.model] for b in blocks if b.model in weights} if known else weights
    images = about.get("images", {})
    images = images.get(blocks[0].dataset, "") if isinstance(images, Mapping) else images
    clean = about.get("clean top-1", {}).get(blocks[0].dataset, {})
    right = {b.model: clean[b.model] for b in blocks if b.model in clean}
    parts = {
        "weights": mine,
        "images": images,
        "clean top-1": right,
        "machine": about.get("machine"),
        "versions": about.get("versions"),
    }
    lines = [f"protocol {protocol}: {facts(choices)}" if choices else f"protocol {protocol}"]
    return lines + [f"{name}: {facts(value)}" for name, value in parts.items() if value]


def _gap_notes(table: Table, cells: Sequence[Cell]) -> list[str]:
    """Skipped cells by reason, and what is missing."""
    skipped: dict[str, list[str]] = {}
    missing: dict[str, list[str]] = {}
    for cell in cells:
        where = f"{table.labels.method(cell.key.method)} on {table.labels.model(cell.key.block.model)}"
        if cell.status == "skipped":
            skipped.setdefault(cell.reason, []).append(where)
        elif cell.status == "missing":
            missing.setdefault(where, []).append(table.labels.metric(cell.key.metric))
    lines = [f"skipped: {', '.join(dict.fromkeys(where))} ({reason})" for reason, where in skipped.items()]
    return lines + [f"missing: {where}: {', '.join(metrics)}" for where, metrics in missing.items()]


def render_csv(table: Table) -> str:
    """Every cell as one line, with all that is known of it."""
    return _csv((*_CELL_FIELDS, *_VERDICT_FIELDS), (_cell_record(table, cell) for cell in table.cells.values()))


def render_claims_csv(table: Table) -> str:
    """Every claim as one line, with its evidence and its verdict."""
    return _csv((*_CLAIM_FIELDS, "n", "p_holm", "verdict"), (_claim_record(claim) for claim in table.claims))


def _csv(header: Sequence[str], records: Iterable[Sequence[object]]) -> str:
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


def _cell_record(table: Table, cell: Cell) -> tuple[object, ...]:
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
        *(cell.rank, cell.p, cell.rival, cell.note, cell.reason, reasons, remarks),
    )


def _claim_record(claim: Claim) -> tuple[object, ...]:
    numbers = (claim.printed, claim.lead, claim.low, claim.high, claim.n, claim.p)
    return (*claim.block, claim.metric, claim.better, claim.worse, *numbers, claim.verdict)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown_escape(text: str) -> str:
    """Text that Markdown and the HTML inside it print as it is, in one line."""
    escaped = re.sub(r"([\\`*_|\[\]~$#])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render_markdown(table: Table) -> str:
    """The table as the thesis prints it, then the same beside the thesis's values, the evidence, and the claims."""
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
    return "\n\n".join(parts) + "\n"


def head(table: Table) -> list[str]:
    """What a file of results says before its first number: the machine, the code and the versions."""
    about = table.provenance
    facts_of = {"measured on": about.get("machine"), "code": about.get("commit"), "versions": about.get("versions")}
    return [f"{name}: {facts(value)}" for name, value in facts_of.items() if value]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table whose first `left` columns are words."""
    rule = [":--"] * left + ["--:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _markdown_wide(table: Table, blocks: Sequence[Block], show: Callable[[Cell], str], ranks: bool) -> str:
    """Lines are model and metric, columns are methods; a last line of each block with the mean ranks."""
    methods = columns_of(table, blocks)
    rows = []
    for block in blocks:
        model = markdown_escape(table.labels.model(block.model))
        for metric in table.metrics_of(block):
            cells = [show(table.cell(block, method, metric)) for method in methods]
            rows.append([model, markdown_escape(metric_label(table, metric)), *cells])
        if ranks:
            rows.append([model, "mean rank", *(_mean_rank(table, block, method) for method in methods)])
    return markdown_table(["Model", "Metric", *(markdown_escape(table.labels.method(m)) for m in methods)], rows, 2)


def _mean_rank(table: Table, block: Block, method: str) -> str:
    """The mean rank, with the lines it is over where the method lacks some."""
    mean, lines, of = table.mean_ranks[block, method]
    return decimals(mean) if lines in (0, of) else f"{decimals(mean)} ({lines} of {of})"


def _markdown_value(cell: Cell) -> str:
    if cell.status != "measured":
        return UNMEASURED[cell.status]
    text = decimals(cell.value)
    emphasised = f"**{text}**" if cell.best else f"<u>{text}</u>" if cell.second else text
    return emphasised + mark(cell)


def _markdown_printed(cell: Cell) -> str:
    if np.isnan(cell.printed):
        return ""
    if cell.status != "measured":
        return decimals(cell.printed)
    return f"{decimals(cell.printed)} ({signed(cell.difference)}){mark(cell)}"


def _markdown_evidence(table: Table, blocks: Sequence[Block]) -> str:
    """Every measured cell with its interval, its test and its rank, folded away."""
    header = ["Model", "Metric", "Method", "n", "value", "low", "high", "thesis", "difference", "rank", "p", "note"]
    rows = [_evidence_row(table, cell) for cell in cells_of(table, blocks) if cell.status == "measured"]
    body = markdown_table(header, rows, 3)
    return f"<details><summary>Intervals, tests and ranks of every cell</summary>\n\n{body}\n\n</details>"


def _evidence_row(table: Table, cell: Cell) -> list[str]:
    names = (
        table.labels.model(cell.key.block.model),
        table.labels.metric(cell.key.metric),
        table.labels.method(cell.key.method),
    )
    numbers = (cell.value, cell.low, cell.high, cell.printed)
    rank = NOTHING if np.isnan(cell.rank) else f"{cell.rank:g}"
    versus = f" (against {table.labels.method(cell.rival)})" if cell.rival else ""
    return [
        *map(markdown_escape, names),
        str(cell.n),
        *map(decimals, numbers),
        f"{signed(cell.difference)}{mark(cell)}",
        rank,
        markdown_escape(f"{p_value(cell.p)}{versus}"),
        markdown_escape(cell.note),
    ]


def _markdown_claims(table: Table) -> list[str]:
    if not table.claims:
        return []
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(table.claims).items())
    header = ["Data set", "Model", "Claim", "printed lead", "measured lead", "low", "high", "n", "p", "verdict"]
    rows = [_claim_row(table, claim) for claim in table.claims]
    return ["## Claims", f"{len(table.claims)} claims: {counts}. {claim_rule(table)}", markdown_table(header, rows, 3)]


def claim_rule(table: Table) -> str:
    """How a claim gets its verdict, in words."""
    return (
        "A lead is positive where the claimed method is better. A claim is confirmed, or not confirmed, where the "
        f"Holm-corrected Wilcoxon test (p < {1 - table.bootstrap.level:.2g}) and the interval of the lead agree on its "
        "direction; otherwise it is undecided at this n."
    )


def _claim_row(table: Table, claim: Claim) -> list[str]:
    names = (
        table.labels.dataset(claim.block.dataset),
        table.labels.model(claim.block.model),
        statement(table, claim),
    )
    leads = (claim.printed, claim.lead, claim.low, claim.high)
    return [*map(markdown_escape, names), *map(signed, leads), str(claim.n), p_value_md(claim.p), claim.verdict]


def p_value_md(p: float) -> str:
    """A p-value that Markdown prints as it is."""
    return markdown_escape(p_value(p))


# --- LaTeX ------------------------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "·": r"$\cdot$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it is, in one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def render_latex(table: Table) -> str:
    """The table as the thesis prints it, one float for each data set; needs the packages booktabs and graphicx."""
    head = "% needs \\usepackage{booktabs,graphicx,textcomp}\n"
    return head + "\n".join(_latex_float(table, blocks) for blocks in groups(table).values())


def _latex_float(table: Table, blocks: Sequence[Block]) -> str:
    methods = columns_of(table, blocks)
    columns = ["", "", *(latex_escape(table.labels.method(method)) for method in methods)]
    caption = f"{table.title or 'Results'}: {table.labels.dataset(blocks[0].dataset)}."
    body = "\\midrule\n".join(_latex_block(table, block, methods) for block in blocks)
    below = "\\\\\n".join(latex_escape(note) for note in notes(table, blocks))
    return (
        f"\\begin{{table*}}\n\\centering\n\\caption{{{latex_escape(caption)}}}\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n\\begin{{tabular}}{{ll{'r' * len(methods)}}}\n\\toprule\n"
        f"{' & '.join(columns)} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}}}\n\n"
        f"\\medskip\\raggedright\\footnotesize\n{below}\n\\end{{table*}}\n"
    )


def _latex_block(table: Table, block: Block, methods: Sequence[str]) -> str:
    """The lines of one model, which is named on the first, and its mean ranks."""
    lines = []
    for position, metric in enumerate(table.metrics_of(block)):
        model = latex_escape(table.labels.model(block.model)) if position == 0 else ""
        cells = [_latex_value(table.cell(block, method, metric)) for method in methods]
        lines.append([model, latex_escape(metric_label(table, metric)), *cells])
    lines.append(["", "mean rank", *(latex_escape(_mean_rank(table, block, method)) for method in methods)])
    return "".join(f"{' & '.join(line)} \\\\\n" for line in lines)


def _latex_value(cell: Cell) -> str:
    if cell.status != "measured":
        return latex_escape(UNMEASURED[cell.status])
    text = latex_escape(decimals(cell.value))
    emphasised = f"\\textbf{{{text}}}" if cell.best else f"\\underline{{{text}}}" if cell.second else text
    sign = mark(cell)
    return f"{emphasised}\\textsuperscript{{{latex_escape(sign)}}}" if sign else emphasised
