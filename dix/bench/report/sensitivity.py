"""What the choice of a protocol decides, in plain tables that every format prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from dix.bench.report.notes import NOTHING, decimals, signed
from dix.bench.tables.beside import protocols_of
from dix.bench.tables.sensitivity import Change, Subject, changes, differing, single, verdicts
from dix.bench.tables.table import VERDICTS, Claim, Table

HOW = (
    "A single field's weight shows between two protocols that differ in it alone, such as thesis and thesis_fill: "
    "dix run protocol=[thesis,thesis_fill]"
)


class Sheet(NamedTuple):
    """A table of plain texts. words: how many columns are words; the others are numbers. folded: shown on demand."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    folded: bool = False


class Section(NamedTuple):
    """The whole section: sentences, then sheets."""

    lines: tuple[str, ...]
    sheets: tuple[Sheet, ...]


def sensitivity(table: Table) -> Section | None:
    """What the protocol decides; None where the table has fewer than two protocols."""
    protocols = protocols_of(table)
    if len(protocols) < 2:
        return None
    settings = table.provenance.get("protocol", {})
    claims, pairs = verdicts(table), changes(table, settings)
    sheets = [
        _counts(claims, protocols),
        _fields(single(pairs), settings),
        _taus(pairs, protocols),
        _pairs(pairs),
        _matrix(table, claims, protocols),
    ]
    lines = [_agreed(claims, protocols), _decisive(single(pairs))]
    return Section(tuple(line for line in lines if line), tuple(sheet for sheet in sheets if sheet.rows))


def _agreed(claims: Mapping[Subject, Mapping[str, Claim]], protocols: Sequence[str]) -> str:
    """How many claims get the same verdict under every protocol, by verdict."""
    whole = [by for by in claims.values() if len(by) == len(protocols) and all(claim.n for claim in by.values())]
    same = [next(iter(by.values())).verdict for by in whole if len({claim.verdict for claim in by.values()}) == 1]
    counts = ", ".join(f"{same.count(verdict)} {verdict}" for verdict in dict.fromkeys(same))
    said = f"{len(same)} of {len(whole)} claims have the same verdict under all {len(protocols)} protocols"
    return f"{said}: {counts}." if counts else f"{said}."


def _decisive(pairs: Sequence[Change]) -> str:
    if not pairs:
        return HOW
    most = pairs[0]
    share = f"{most.changed} of {most.shared} verdicts, leads by {decimals(most.moved)} on average"
    return f"Of single fields {most.fields[0]} decides most: {share} ({most.first} beside {most.second})."


def _counts(claims: Mapping[Subject, Mapping[str, Claim]], protocols: Sequence[str]) -> Sheet:
    """The verdicts under each protocol."""
    found = {name: Counter(by[name].verdict for by in claims.values() if name in by) for name in protocols}
    verdict = [each for each in VERDICTS if any(counts[each] for counts in found.values())]
    rows = tuple((name, *(str(found[name][each]) for each in verdict)) for name in protocols if verdict)
    return Sheet("Verdicts under each protocol", ("protocol", *verdict), rows, 1)


def _fields(pairs: Sequence[Change], settings: Mapping[str, Mapping[str, object]]) -> Sheet:
    header = ("field", "values", "protocols", "verdicts that differ", "mean change of a lead", "Kendall's tau")
    rows = []
    for pair in pairs:
        [(field, (one, other))] = differing(settings[pair.first], settings[pair.second]).items()
        rows.append((field, f"{one}, {other}", f"{pair.first}, {pair.second}", *_measured(pair)))
    return Sheet("What a single field decides", header, tuple(rows), 3)


def _measured(pair: Change) -> tuple[str, str, str]:
    return f"{pair.changed} of {pair.shared}", decimals(pair.moved), decimals(pair.tau)


def _taus(pairs: Sequence[Change], protocols: Sequence[str]) -> Sheet:
    """Kendall's tau of every two protocols, above the diagonal."""
    found = {frozenset((pair.first, pair.second)): decimals(pair.tau) for pair in pairs}
    above = set(combinations(protocols, 2))
    rows = tuple(
        (one, *(found[frozenset((one, other))] if (one, other) in above else "" for other in protocols[1:]))
        for one in protocols[:-1]
    )
    title = (
        "Agreement of two protocols on the methods' order (Kendall's tau-b, mean over data sets, models and metrics)"
    )
    return Sheet(title, ("", *protocols[1:]), rows, 1)


def _pairs(pairs: Sequence[Change]) -> Sheet:
    header = ("protocols", "fields that differ", "verdicts that differ", "mean change of a lead", "Kendall's tau")
    rows = tuple((f"{p.first}, {p.second}", ", ".join(p.fields) or "none", *_measured(p)) for p in pairs)
    return Sheet("Every two protocols", header, rows, 2, folded=True)


def _matrix(table: Table, claims: Mapping[Subject, Mapping[str, Claim]], protocols: Sequence[str]) -> Sheet:
    rows = []
    for subject, by in claims.items():
        better, worse = (table.labels.method(name) for name in (subject.better, subject.worse))
        rows.append(
            (
                table.labels.dataset(subject.dataset),
                table.labels.model(subject.model),
                f"{better} > {worse} on {table.labels.metric(subject.metric)}",
                *(_cell(by[name]) if name in by else "" for name in protocols),
            )
        )
    title = "Every claim under every protocol: verdict, lead and its interval (positive in favour of the first)"
    return Sheet(title, ("data set", "model", "claim", *protocols), tuple(rows), 3 + len(protocols), folded=True)


def _cell(claim: Claim) -> str:
    if not claim.n:
        return claim.verdict
    drawn = "" if np.isnan(claim.low) else f" [{signed(claim.low)}, {signed(claim.high)}]"
    return f"{claim.verdict} {signed(claim.lead)}{drawn}" if not np.isnan(claim.lead) else NOTHING
