"""What the choice of a protocol decides: the thesis's claims and the methods' order under each stored protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from dix.bench.tables.beside import protocols_of
from dix.bench.tables.samples import Block, Key
from dix.bench.tables.table import Claim, Table

#: Settings that name a protocol and choose nothing.
NAMES = ("name", "version")


class Subject(NamedTuple):
    """What a claim is about, whatever the protocol."""

    dataset: str
    model: str
    metric: str
    better: str
    worse: str


@dataclass(frozen=True)
class Change:
    """What differs between two protocols.

    fields: of their settings. tau: Kendall's tau-b between their orders of the methods, the mean over all lines that
    both have; NaN where there is none. changed, shared: claims with another verdict, and claims that both judge.
    moved: the mean absolute change of a claim's lead, in the metric's unit.
    """

    first: str
    second: str
    fields: tuple[str, ...]
    tau: float
    changed: int
    shared: int
    moved: float


def verdicts(table: Table) -> dict[Subject, dict[str, Claim]]:
    """Each claim under every protocol that the table holds it for."""
    found: dict[Subject, dict[str, Claim]] = {}
    for claim in table.claims:
        block = claim.block
        subject = Subject(block.dataset, block.model, claim.metric, claim.better, claim.worse)
        found.setdefault(subject, {})[block.protocol] = claim
    return found


def changes(table: Table, settings: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Every pair of the table's protocols: those that differ in fewer fields first, then the most changed verdicts.

    settings: the protocols' choices, by name.
    """
    claims = verdicts(table)
    pairs = [_change(table, claims, first, second, settings) for first, second in combinations(protocols_of(table), 2)]
    return sorted(pairs, key=lambda change: (len(change.fields), -change.changed / max(change.shared, 1)))


def _change(
    table: Table,
    claims: Mapping[Subject, Mapping[str, Claim]],
    first: str,
    second: str,
    settings: Mapping[str, Mapping[str, Any]],
) -> Change:
    both = [(by[first], by[second]) for by in claims.values() if first in by and second in by]
    judged = [(one, other) for one, other in both if one.n and other.n]
    moved = [abs(one.lead - other.lead) for one, other in judged]
    return Change(
        first,
        second,
        tuple(differing(settings.get(first, {}), settings.get(second, {}))),
        agreement(table, first, second),
        sum(one.verdict != other.verdict for one, other in judged),
        len(judged),
        float(np.mean(moved)) if moved else np.nan,
    )


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields of two protocols' settings that are not equal, with both values; one that a side lacks counts."""
    keys = [key for key in dict.fromkeys([*one, *other]) if key not in NAMES]
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def single(pairs: Sequence[Change]) -> list[Change]:
    """Pairs that differ in one field and judge claims, the one that decides most first; one pair for each field.

    Of several pairs of a field counts the one with the most changed verdicts.
    """
    known = [pair for pair in pairs if len(pair.fields) == 1 and pair.shared]
    ordered = sorted(known, key=lambda pair: (-pair.changed / pair.shared, -pair.moved))
    first: dict[str, Change] = {}
    for pair in ordered:
        first.setdefault(pair.fields[0], pair)
    return list(first.values())


def agreement(table: Table, first: str, second: str) -> float:
    """Kendall's tau-b between two protocols' orders of the methods: the mean over models, data sets and metrics."""
    taus = []
    for block in table.layout.blocks:
        if block.protocol != first:
            continue
        for metric in table.layout.metrics:
            values = [_values(table, Block(name, block.dataset, block.model), metric) for name in (first, second)]
            taus.append(tau(*values))
    known = [value for value in taus if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of scores, over the places where both have one; NaN for fewer than two."""
    x, y = np.array(one, dtype=float), np.array(other, dtype=float)
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < 2 or len(set(x[there])) < 2 or len(set(y[there])) < 2:
        return np.nan
    return float(kendalltau(x[there], y[there]).statistic)


def _values(table: Table, block: Block, metric: str) -> list[float]:
    keys = [Key(block, method, metric) for method in table.layout.methods]
    return [table.cells[key].value if key in table.cells else np.nan for key in keys]
