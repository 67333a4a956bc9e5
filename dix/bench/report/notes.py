"""What every format prints in the same words: numbers, marks, claims, and the notes under a table.

Nothing here reads the clock, the environment or the store: the same table gives the same bytes every time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dix.bench.store.cells import Group
from dix.bench.tables.samples import Block
from dix.bench.tables.statistics import FEW
from dix.bench.tables.table import VERDICTS, Claim, Table, TableCell

OUTSIDE = "†"
INCOMPARABLE = "‡"
APART = "§"
NOTHING = "–"
UNMEASURED = {"skipped": NOTHING, "missing": "missing", "absent": ""}

#: Significant digits of CSV numbers: more would differ between machines in the order of their sums.
DIGITS = 12


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


def mark(cell: TableCell) -> str:
    """The sign of a thesis value outside the interval, or of one that must not be compared."""
    if cell.reason and cell.status == "measured":
        return INCOMPARABLE
    return OUTSIDE if cell.outside else ""


def marks(cell: TableCell) -> str:
    """The signs behind a score: that of its thesis value, and that it is over fewer images than others of its line."""
    return mark(cell) + (APART if cell.lacks else "")


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


def cells_of(table: Table, blocks: Iterable[Block]) -> list[TableCell]:
    """All cells of some blocks, line by line."""
    return [cell for block in blocks for metric in table.metrics_of(block) for cell in table.line(block, metric)]


def columns_of(table: Table, blocks: Sequence[Block]) -> tuple[str, ...]:
    """The methods that some block of a group can have."""
    possible = {method for block in blocks for method in table.methods_of(block)}
    return tuple(method for method in table.layout.methods if method in possible)


def head(table: Table) -> list[str]:
    """What a file of results says before its first number: the machine, the code and the versions."""
    about = table.provenance
    facts_of = {"measured on": about.get("machine"), "code": about.get("commit"), "versions": about.get("versions")}
    return [f"{name}: {facts(value)}" for name, value in facts_of.items() if value]


def mean_rank(table: Table, block: Block, method: str) -> str:
    """The mean rank, with the lines it is over where the method lacks some."""
    mean, lines, of = table.mean_ranks[block, method]
    return decimals(mean) if lines in (0, of) else f"{decimals(mean)} ({lines} of {of})"


def claim_rule(table: Table) -> str:
    """How a claim gets its verdict, in words."""
    return (
        "A lead is positive where the claimed method is better. It is decided where the sign-flip test of the two "
        f"scores, corrected for all claims of the protocol, has p < {1 - table.bootstrap.level:.2g} and the lead's "
        "interval leaves out 0. A lead that the thesis prints is then confirmed or not confirmed; without a printed "
        "value the claimed method is better or worse; otherwise it is undecided at this n. Few images are fewer than "
        f"{FEW}: the interval may cover less than {100 * table.bootstrap.level:g} %."
    )


def claim_images(claim: Claim) -> str:
    """Over how many images a lead is, and whether these are few."""
    return f"{claim.n} (few)" if 1 < claim.n < FEW else str(claim.n)


def notes(table: Table, blocks: Sequence[Block]) -> list[str]:
    """What stands under a group of blocks: n, exclusions, protocol, weights, machine, marks, skips and gaps."""
    cells = cells_of(table, blocks)
    lines = [
        _count_note(table, cells),
        *_exclusion_notes(table, cells),
        *_flag_notes(table, cells),
        *_rank_notes(table, blocks),
        interval_note(table),
        *_mark_notes(cells),
        *_provenance_notes(table, blocks),
        *_mixture_notes(table, blocks),
        *_gap_notes(table, cells),
    ]
    return [line for line in lines if line]


def _count_note(table: Table, cells: Sequence[TableCell]) -> str:
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


def _exclusion_notes(table: Table, cells: Sequence[TableCell]) -> list[str]:
    """How many images each metric excludes for each reason; a span where models or methods differ."""
    found: dict[tuple[str, str], set[int]] = {}
    for cell in cells:
        for reason, count in cell.excluded.items():
            found.setdefault((cell.key.metric, reason), set()).add(count)
    return [
        f"excluded from {table.labels.metric(metric)}: {_images(counts)} ({reason})"
        for (metric, reason), counts in found.items()
    ]


def _flag_notes(table: Table, cells: Sequence[TableCell]) -> list[str]:
    """Remarks on images that count, once for all metrics of a method."""
    found: dict[str, int] = {}
    for cell in cells:
        where = f"{table.labels.method(cell.key.method)} on {table.labels.model(cell.key.block.model)}"
        for remark, count in cell.flagged.items():
            name = f"{where}: {remark}"
            found[name] = max(count, found.get(name, 0))
    return [f"flagged: {name}, {_images({count})}" for name, count in found.items()]


def _rank_notes(table: Table, blocks: Sequence[Block]) -> list[str]:
    """Lines whose ranks are over fewer images than some of their scores, and methods that are not ranked."""
    found: dict[str, list[str]] = {}
    for block in blocks:
        for metric in table.metrics_of(block):
            line = [cell for cell in table.line(block, metric) if cell.status == "measured" and cell.n]
            for text in _line_notes(table, metric, line):
                where = f"{table.labels.metric(metric)} on {table.labels.model(block.model)}"
                found.setdefault(text, []).append(where)
    return [f"{', '.join(where)}: {text}" for text, where in found.items()]


def _line_notes(table: Table, metric: str, line: Sequence[TableCell]) -> list[str]:
    if table.directions[metric] is None:
        return []
    found = []
    lacking = [f"{table.labels.method(cell.key.method)} {_lacks(cell)}" for cell in line if cell.lacks]
    if lacking:
        n = max(cell.shared for cell in line)
        found.append(f"ranks, marks and p are over the {n} images that all ranked methods have ({'; '.join(lacking)})")
    unranked = [c for c in line if np.isnan(c.rank) and c.key.method not in table.controls]
    if unranked:
        names = ", ".join(table.labels.method(cell.key.method) for cell in unranked)
        found.append(f"not ranked, for too few shared images: {names} (n = {_span({cell.n for cell in unranked})})")
    return found


def _lacks(cell: TableCell) -> str:
    """How many images a method lacks that others have, and why."""
    reasons = list(cell.excluded)
    missing = cell.lacks - sum(cell.excluded.values())
    return f"lacks {cell.lacks}: {', '.join(reasons + ['not stored'] * (missing > 0))}"


def interval_note(table: Table) -> str:
    """How intervals and p-values are computed, and what the emphasis means."""
    b = table.bootstrap
    return (
        f"intervals: {100 * b.level:g} % BCa bootstrap over images ({b.resamples} resamples, seed {b.seed}), exact "
        f"(Clopper-Pearson) for shares of images; p: sign-flip test ({b.flips} flips) of the printed score against the "
        "best baseline's, corrected for all methods, metrics and models of the protocol; bold is the best of a line, "
        "underlined the second, over the images that all ranked methods have; equal scores share rank and mark"
    )


def _mark_notes(cells: Sequence[TableCell]) -> list[str]:
    reasons = sorted({cell.reason for cell in cells if cell.reason and cell.status == "measured"})
    lines = [f"{INCOMPARABLE} not comparable with the thesis's value: {reason}" for reason in reasons]
    if any(cell.outside for cell in cells):
        lines.append(f"{OUTSIDE} the thesis's value is outside the interval")
    if any(cell.lacks for cell in cells):
        lines.append(f"{APART} over fewer images than other scores of its line")
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


def _mixture_notes(table: Table, blocks: Sequence[Block]) -> list[str]:
    """Cells whose rows were not all computed by the same device, batch grid, chunk, threads and versions."""
    titles = tuple(f"{Group(block.model, block.dataset, block.protocol).title}: " for block in blocks)
    return [f"mixed: {line}" for line in table.provenance.get("mixed", ()) if line.startswith(titles)]


def _gap_notes(table: Table, cells: Sequence[TableCell]) -> list[str]:
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
