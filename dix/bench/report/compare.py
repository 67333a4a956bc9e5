"""Result sets side by side: every cell that two have, or that differs in one name, with the difference.

What differs in the cells' identities is named too. Scores are paired image by image only where they mean the same: of
one metric with one probe, for one kind of target on images prepared alike. Others stand beside each other, with the
reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dix.bench.report.notes import DIGITS
from dix.bench.store.errors import differing
from dix.bench.tables import samples, signflip, statistics
from dix.bench.tables.samples import Block, Derived, Key, Sample
from dix.bench.tables.signflip import Paired
from dix.bench.tables.statistics import Floats
from dix.bench.tables.table import BETTER, UNDECIDED, WORSE, Evidence, Plan, Table, TableCell

FIELDS = (
    "protocol", "dataset", "model", "method", "metric", "n_first", "n_second", "first", "second", "difference",
    "outside", "shared_images", "largest_image_difference", "p", "p_wilcoxon", "protocol_second", "dataset_second",
    "model_second", "method_second", "metric_second", "differs", "p_corrected", "verdict", "not_paired",
)  # fmt: skip


#: Parts of a cell's identity that say what its score means, and the choices of a protocol that do not.
MEANING = ("metric", "probe", "preprocess", "protocol")
BESIDES = ("name", "seed", "dtype", "tf32")
#: Verdicts on a pair besides those of claims.
EQUAL, APART = "equal", "not paired"
#: What cells are named by, in the order in which pairs that differ in one of them are looked for.
NAMES = ("protocol", "dataset", "model", "method", "metric")


@dataclass(frozen=True)
class ResultSet:
    """One of several result sets: its table, what it was built from, and by protocol how its metrics reduce.

    contents: by block, the digest of what was read for each image that says it.
    """

    table: Table
    evidence: Evidence
    plans: Mapping[str, Plan]
    contents: Mapping[Block, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """One cell in two result sets.

    difference: second - first. outside: the second score is outside the first one's interval. shared: images that count
    in both and are the same; largest: the largest difference of one image among them; p: of the paired test that both
    scores are equal over them, uncorrected; p_rank: of Wilcoxon's. differs: what their identities disagree on, a line
    each. reason: why the scores are not paired, or "". corrected: p for all pairs of the comparison together. verdict:
    on the second score, seen from the first.
    """

    first: TableCell
    second: TableCell
    shared: int
    largest: float
    p: float
    p_rank: float
    differs: tuple[str, ...]
    reason: str = ""
    corrected: float = np.nan
    verdict: str = ""

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
    found = []
    for key, other in partners.items():
        ours, theirs = identities[0].get(key, {}), identities[1].get(other, {})
        reason = _apart((first, identities[0], key), (second, identities[1], other))
        sides = ((first, rows[0].get(key), key), (second, rows[1].get(other), other))
        paired = _paired(*sides, test=not reason)
        pair = Pair(cells[0][key], cells[1][other], *paired[:4], tuple(differing(ours, theirs)), reason)
        found.append((pair, paired[4]))
    pairs = _judged(found, first.table)
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


def other_meaning(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Why scores of two identities do not mean the same, or ""."""
    mine, theirs = ({part: _meant(identity, part) for part in MEANING} for identity in (first, second))
    lines = differing(mine, theirs)
    return "; ".join(line.split(":")[0] for line in lines)


def _meant(identity: Mapping[str, Any], part: str) -> Any:
    said = identity.get(part)
    besides = BESIDES if part == "protocol" else ()
    return {name: value for name, value in said.items() if name not in besides} if isinstance(said, Mapping) else said


#: A result set with its identities and one cell's names.
_Named = tuple[ResultSet, Mapping[Key, Mapping[str, Any]], Key]


def _apart(first: _Named, second: _Named) -> str:
    """Why two cells are not paired, or ""; of a derived metric, by what it is derived from."""
    sources = [[known.get(key, {}) for key in _sources(found, cell)] for found, known, cell in (first, second)]
    reasons = (other_meaning(ours, theirs) for ours, theirs in zip(*sources, strict=False))
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _sources(found: ResultSet, key: Key) -> list[Key]:
    """The stored cells that a cell's score is made of."""
    metric = found.plans[key.block.protocol].metrics[key.metric]
    return [key._replace(metric=name) for name in (metric.inputs if isinstance(metric, Derived) else (key.metric,))]


#: A result set with one cell's sample and names.
_Side = tuple[ResultSet, Sample | None, Key]
#: A test with the strength that each flip gives it, where there is one.
_Test = tuple[Paired, Floats] | None


def _paired(first: _Side, second: _Side, test: bool) -> tuple[int, float, float, float, _Test]:
    """Shared images, the largest difference of one, and the tests of the scores and of the ranks."""
    if first[1] is None or second[1] is None:
        return 0, np.nan, np.nan, np.nan, None
    images = _same_images(first, second)
    if not len(images) or not test:
        return len(images), np.nan, np.nan, np.nan, None
    a, b = (sample.only(images) for sample in (first[1], second[1]))
    largest = float(np.abs(b.value - a.value).max())
    if len(images) < 2:
        return 1, largest, np.nan, np.nan, None
    bootstrap = first[0].table.bootstrap
    columns = [
        sample.column(side[0].plans[side[2].block.protocol].metrics[side[2].metric])
        for side, sample in ((first, a), (second, b))
    ]
    draws = statistics.resample(columns, bootstrap)
    found = signflip.paired_test(draws[1], draws[0], bootstrap)
    tested = (found, signflip.largest(draws, [(0, 1)], bootstrap))
    return len(images), largest, found.p, signflip.wilcoxon(b.value, a.value).p, tested


def _same_images(first: _Side, second: _Side) -> tuple[str, ...]:
    """Images that count in both cells, without those of one name whose content is known to differ."""
    assert first[1] is not None
    assert second[1] is not None
    mine, theirs = (side[0].contents.get(side[2].block, {}) for side in (first, second))
    images = samples.common([first[1].kept, second[1].kept])
    return tuple(i for i in images if mine.get(i, "") == theirs.get(i, "") or not (mine.get(i) and theirs.get(i)))


def _judged(found: Sequence[tuple[Pair, _Test]], table: Table) -> list[Pair]:
    """The pairs with their p-values corrected together, and their verdicts."""
    maxima = np.zeros(table.bootstrap.flips)
    for _, test in found:
        maxima = maxima if test is None else np.maximum(maxima, test[1])
    return [_judge(pair, test, maxima, table) for pair, test in found]


def _judge(pair: Pair, test: _Test, maxima: Floats, table: Table) -> Pair:
    """The verdict is on the shared images, which the scores of the whole cells need not agree with."""
    p = np.nan if test is None else signflip.corrected(test[0], maxima)
    way = table.directions.get(pair.first.key.metric)
    if pair.reason or not pair.shared:
        verdict = APART
    elif pair.largest == 0:
        verdict = EQUAL
    elif way is None or test is None or not p < 1 - table.bootstrap.level:
        verdict = UNDECIDED
    else:
        verdict = BETTER if (test[0].sign > 0) == way else WORSE
    return replace(pair, corrected=p, verdict=verdict)


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
    judged = (pair.corrected, pair.verdict, pair.reason)
    return (*_flat(a.key), *numbers, *tests, *_flat(b.key), "; ".join(pair.differs), *judged)


def _plain(item: object) -> str:
    if isinstance(item, float):
        return "" if np.isnan(item) else f"{item:.{DIGITS}g}"
    return str(item)
