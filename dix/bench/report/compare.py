"""Two result sets side by side: every cell that both have, or that differs in one name, with the difference.

What differs in the cells' identities is named too.
"""

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
from dix.bench.tables import samples, signflip, statistics
from dix.bench.tables.samples import Key, Sample
from dix.bench.tables.table import Evidence, Plan, Table, TableCell

FIELDS = (
    "protocol", "dataset", "model", "method", "metric", "n_first", "n_second", "first", "second", "difference",
    "outside", "shared_images", "largest_image_difference", "p", "p_wilcoxon", "protocol_second", "dataset_second",
    "model_second", "method_second", "metric_second", "differs",
)  # fmt: skip


#: What cells are named by, in the order in which pairs that differ in one of them are looked for.
NAMES = ("protocol", "dataset", "model", "method", "metric")


@dataclass(frozen=True)
class ResultSet:
    """One of two result sets: its table, what it was built from, and by protocol how its metrics reduce."""

    table: Table
    evidence: Evidence
    plans: Mapping[str, Plan]


@dataclass(frozen=True)
class Pair:
    """One cell in two result sets.

    difference: second - first. outside: the second score is outside the first one's interval. shared: images that count
    in both; largest: the largest difference of one image among them; p: of the paired test that both scores are equal
    over them, uncorrected; p_rank: of Wilcoxon's. differs: what their identities disagree on, a line each.
    """

    first: TableCell
    second: TableCell
    shared: int
    largest: float
    p: float
    p_rank: float
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
    """pairs: the cells that both sets have, or that differ in one name only.

    across: that name, and its values in the first set and in the second; "" where the cells have the same names.
    only_first, only_second: measured in one of them alone.
    """

    pairs: tuple[Pair, ...]
    across: tuple[str, str, str]
    only_first: tuple[Key, ...]
    only_second: tuple[Key, ...]


def compare_runs(first: ResultSet, second: ResultSet) -> RunComparison:
    """Pair the measured cells of two result sets: those of the same names, or else those that differ in one."""
    cells = [{cell.key: cell for cell in found.table.with_status("measured")} for found in (first, second)]
    across, partners = partners_of(list(cells[0]), list(cells[1]))
    rows = [_samples(found) for found in (first, second)]
    identities = [_identities(found.evidence) for found in (first, second)]
    pairs = []
    for key, other in partners.items():
        paired = _paired((first, rows[0].get(key), key), (second, rows[1].get(other), other))
        differs = differing(identities[0].get(key, {}), identities[1].get(other, {}))
        pairs.append(Pair(cells[0][key], cells[1][other], *paired, tuple(differs)))
    only_first = tuple(key for key in cells[0] if key not in partners)
    only_second = tuple(key for key in cells[1] if key not in set(partners.values()))
    return RunComparison(tuple(pairs), across, only_first, only_second)


def partners_of(first: Sequence[Key], second: Sequence[Key]) -> tuple[tuple[str, str, str], dict[Key, Key]]:
    """Which cell of the second set stands beside which of the first, and the one name in which all pairs differ.

    Cells of the same names, where there are any. Else those that differ in one name of which each set has a single
    value: two protocols, for one.
    """
    same = {key: key for key in first if key in set(second)}
    if same or not first or not second:
        return ("", "", ""), same
    for place, name in enumerate(NAMES):
        values = [{_flat(key)[place] for key in keys} for keys in (first, second)]
        if len(values[0]) == len(values[1]) == 1:
            rest = {_without(key, place): key for key in second}
            partners = {key: rest[_without(key, place)] for key in first if _without(key, place) in rest}
            if partners:
                return (name, values[0].pop(), values[1].pop()), partners
    return ("", "", ""), {}


def _flat(key: Key) -> tuple[str, ...]:
    return (*key.block, key.method, key.metric)


def _without(key: Key, place: int) -> tuple[str, ...]:
    names = _flat(key)
    return names[:place] + names[place + 1 :]


def _samples(found: ResultSet) -> dict[Key, Sample]:
    stored = samples.read(found.evidence.rows)
    return stored | samples.derive(
        stored, {name: m for plan in found.plans.values() for name, m in plan.metrics.items()}
    )


def _identities(evidence: Evidence) -> dict[Key, Mapping[str, Any]]:
    names = ("protocol", "dataset", "model")
    return {
        Key(samples.Block(*(str(cell[name]) for name in names)), str(cell["method"]), str(cell["metric"])): cell[
            "identity"
        ]
        for cell in evidence.cells
    }


#: A result set with one cell's sample and names.
_Side = tuple[ResultSet, Sample | None, Key]


def _paired(first: _Side, second: _Side) -> tuple[int, float, float, float]:
    """Shared images, the largest difference of one, and the tests of the scores and of the ranks."""
    if first[1] is None or second[1] is None:
        return 0, np.nan, np.nan, np.nan
    images = samples.common([first[1].kept, second[1].kept])
    a, b = (sample.only(images) for sample in (first[1], second[1]))
    if not len(images):
        return 0, np.nan, np.nan, np.nan
    largest = float(np.abs(b.value - a.value).max())
    if len(images) < 2:
        return 1, largest, np.nan, np.nan
    bootstrap = first[0].table.bootstrap
    columns = [
        sample.column(side[0].plans[side[2].block.protocol].metrics[side[2].metric])
        for side, sample in ((first, a), (second, b))
    ]
    draws = statistics.resample(columns, bootstrap)
    p = signflip.paired_test(draws[1], draws[0], bootstrap).p
    return len(images), largest, p, signflip.wilcoxon(b.value, a.value).p


def comparison_csv(comparison: RunComparison) -> str:
    """Every pair as one line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows([_plain(item) for item in _record(pair)] for pair in comparison.pairs)
    return text.getvalue()


def _record(pair: Pair) -> Sequence[object]:
    a, b = pair.first, pair.second
    numbers = (a.n, b.n, a.value, b.value, pair.difference, int(pair.outside), pair.shared, pair.largest)
    tests = (pair.p, pair.p_rank)
    return (*_flat(a.key), *numbers, *tests, *_flat(b.key), "; ".join(pair.differs))


def _plain(item: object) -> str:
    if isinstance(item, float):
        return "" if np.isnan(item) else f"{item:.{DIGITS}g}"
    return str(item)


def comparison_markdown(comparison: RunComparison, tables: tuple[Table, Table], names: tuple[str, str]) -> str:
    """The comparison for people: what differs in general, then every cell."""
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
    ]
    body = markdown_table(header, (_row(pair, tables[0]) for pair in comparison.pairs), 4)
    return "\n\n".join([f"# {first} and {second}", *_summary(comparison, first, second), body]) + "\n"


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
    ]
