"""Two result sets side by side: every cell that both have, with the difference and what differs in its identity."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dix.bench.report.markdown import markdown_escape, markdown_table, p_value_md
from dix.bench.report.notes import DIGITS, decimals, signed
from dix.bench.store.errors import differing
from dix.bench.tables import samples, statistics
from dix.bench.tables.samples import Key, Sample
from dix.bench.tables.table import Evidence, Table, TableCell

FIELDS = (
    "protocol", "dataset", "model", "method", "metric", "n_first", "n_second", "first", "second", "difference",
    "outside", "shared_images", "largest_image_difference", "p", "differs",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One cell in two result sets.

    difference: second - first. outside: the second score is outside the first one's interval. shared: images that count
    in both; largest: the largest difference of one image among them; p: Wilcoxon's paired test over them.
    differs: what their identities disagree on, a line each.
    """

    first: TableCell
    second: TableCell
    shared: int
    largest: float
    p: float
    differs: tuple[str, ...]

    @property
    def difference(self) -> float:
        """The second score minus the first."""
        return self.second.value - self.first.value

    @property
    def outside(self) -> bool:
        """Whether the second score is outside the first one's interval."""
        return bool(self.second.value < self.first.low or self.second.value > self.first.high)


@dataclass(frozen=True)
class RunComparison:
    """pairs: the cells that both sets have. only_first, only_second: measured in one of them alone."""

    pairs: tuple[Pair, ...]
    only_first: tuple[Key, ...]
    only_second: tuple[Key, ...]


def compare_runs(tables: tuple[Table, Table], evidence: tuple[Evidence, Evidence]) -> RunComparison:
    """Pair the measured cells of two tables. evidence: what each was built from."""
    cells = [{cell.key: cell for cell in table.with_status("measured")} for table in tables]
    rows = [samples.read(found.rows) for found in evidence]
    identities = [_identities(found) for found in evidence]
    both = [key for key in cells[0] if key in cells[1]]
    pairs = []
    for key in both:
        shared, largest, p = _paired(*(found.get(key) for found in rows))
        differs = differing(identities[0].get(key, {}), identities[1].get(key, {}))
        pairs.append(Pair(cells[0][key], cells[1][key], shared, largest, p, tuple(differs)))
    first, second = (tuple(key for key in own if key not in other) for own, other in (cells, cells[::-1]))
    return RunComparison(tuple(pairs), first, second)


def _identities(evidence: Evidence) -> dict[Key, Mapping[str, Any]]:
    names = ("protocol", "dataset", "model")
    return {
        Key(samples.Block(*(str(cell[name]) for name in names)), str(cell["method"]), str(cell["metric"])): cell[
            "identity"
        ]
        for cell in evidence.cells
    }


def _paired(first: Sample | None, second: Sample | None) -> tuple[int, float, float]:
    """Shared images, the largest difference of one, and the paired test; derived cells have no rows of their own."""
    if first is None or second is None:
        return 0, np.nan, np.nan
    images = samples.common([first.kept, tuple(sorted(second.kept))])
    a, b = (sample.only(images).value for sample in (first, second))
    if not len(images):
        return 0, np.nan, np.nan
    return len(images), float(np.abs(b - a).max()), statistics.wilcoxon(b, a).p


def comparison_csv(comparison: RunComparison) -> str:
    """Every pair as one line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows([_plain(item) for item in _record(pair)] for pair in comparison.pairs)
    return text.getvalue()


def _record(pair: Pair) -> Sequence[object]:
    a, b = pair.first, pair.second
    numbers = (a.n, b.n, a.value, b.value, pair.difference, int(pair.outside), pair.shared, pair.largest, pair.p)
    return (*a.key.block, a.key.method, a.key.metric, *numbers, "; ".join(pair.differs))


def _plain(item: object) -> str:
    if isinstance(item, float):
        return "" if np.isnan(item) else f"{item:.{DIGITS}g}"
    return str(item)


def comparison_markdown(comparison: RunComparison, tables: tuple[Table, Table], names: tuple[str, str]) -> str:
    """The comparison for people: what differs in general, then every cell."""
    first, second = map(markdown_escape, names)
    header = ["Data set", "Model", "Metric", "Method", "n", first, second, "difference", "largest of an image", "p"]
    body = markdown_table(header, (_row(pair, tables[0]) for pair in comparison.pairs), 4)
    return "\n\n".join([f"# {first} and {second}", *_summary(comparison, first, second), body]) + "\n"


def _summary(comparison: RunComparison, first: str, second: str) -> Iterator[str]:
    pairs = comparison.pairs
    same = sum(pair.difference == 0 and not pair.largest > 0 for pair in pairs)
    outside = sum(pair.outside for pair in pairs)
    lines = [
        f"{len(pairs)} cells are in both, {same} of them equal; in {outside} the score of {second} is outside the "
        f"interval of {first} (†)",
        f"{len(comparison.only_first)} cells are only in {first}, {len(comparison.only_second)} only in {second}",
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
    return [*map(markdown_escape, names), n, *scores, difference, decimals(pair.largest), p_value_md(pair.p)]
