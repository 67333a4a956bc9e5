"""A comparison of result sets for people: what they were made with, what they share, and every pair of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dix.bench.report.compare import Pair, RunComparison
from dix.bench.report.markdown import markdown_escape, markdown_table, p_value_md
from dix.bench.report.notes import decimals, signed
from dix.bench.report.unlike import unlike
from dix.bench.tables.table import Evidence, Table


def made_with(sets: Sequence[Evidence], names: Sequence[str]) -> str:
    """The facts in which result sets differ, as a table; a line where there are none."""
    rows = [[markdown_escape(name), *map(markdown_escape, texts)] for name, texts in unlike(sets)]
    if not rows:
        return "## What differs\n\nNothing: protocols, versions, weights, images, machine and code are the same.\n"
    table = markdown_table(["", *map(markdown_escape, names)], rows, len(names) + 1)
    return f"## What differs\n\n{table}\n"


def comparison_markdown(comparison: RunComparison, table: Table, names: tuple[str, str]) -> str:
    """Two sets: what differs in general, then every cell. table: the first set's."""
    first, second = map(markdown_escape, names)
    header = [
        "Data set",
        "Model",
        "Metric",
        "Method",
        "n",
        first,
        second,
        "difference",
        "largest of an image",
        "p",
        "p Wilcoxon",
        f"{second} is",
    ]
    body = markdown_table(header, (_row(pair, table) for pair in comparison.pairs), 4)
    return "\n\n".join([f"## {first} and {second}", *_summary(comparison, first, second), body]) + "\n"


def _summary(comparison: RunComparison, first: str, second: str) -> Iterator[str]:
    pairs = comparison.pairs
    same = sum(pair.difference == 0 and not pair.largest > 0 for pair in pairs)
    outside = sum(pair.outside for pair in pairs)
    name, mine, theirs = map(markdown_escape, comparison.across)
    paired = f"differ in the {name} alone ({first}: {mine}, {second}: {theirs})" if name else "are in both"
    lines = [
        f"{len(pairs)} cells {paired}, {same} of them equal; in {outside} the score of {second} is outside the "
        f"interval of {first} (†)",
        f"{len(comparison.only_first)} cells are only in {first}, {len(comparison.only_second)} only in {second}",
    ]
    lines += [f"{verdict}: {count} cells" for verdict, count in Counter(pair.verdict for pair in pairs).items()]
    apart = Counter(pair.reason for pair in pairs if pair.reason)
    lines += [
        f"{count} cells stand side by side and are not paired, since their scores mean something else: "
        + markdown_escape(reason)
        for reason, count in apart.items()
    ]
    causes: dict[str, int] = {}
    for pair in pairs:
        for line in pair.differs:
            causes[line] = causes.get(line, 0) + 1
    lines += [
        f"differs in {count} cells: {markdown_escape(line.replace('stored', first).replace('wanted', second))}"
        for line, count in causes.items()
    ]
    yield "\n".join(f"- {line}" for line in lines)


def _row(pair: Pair, table: Table) -> list[str]:
    key, labels = pair.first.key, table.labels
    names = (
        labels.dataset(key.block.dataset),
        labels.model(key.block.model),
        labels.metric(key.metric),
        labels.method(key.method),
    )
    n = str(pair.first.n) if pair.first.n == pair.second.n else f"{pair.first.n}, {pair.second.n}"
    difference = signed(pair.difference) + ("†" if pair.outside else "")
    scores = (decimals(pair.first.value), decimals(pair.second.value))
    return [
        *map(markdown_escape, names),
        n,
        *scores,
        difference,
        decimals(pair.largest),
        *map(p_value_md, (pair.p, pair.p_rank)),
        pair.verdict,
    ]
