"""`dix sensitivity`: the thesis's claims under every protocol that a results folder holds, and what decides them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from dix.bench.store.results import ResultStore
from dix.bench.tables.sensitivity import Change, Subject, changes, verdicts
from dix.bench.tables.table import Claim, Table
from dix.cli.options import add_config_dir, folders_of
from dix.cli.report import result_set, results_folder
from dix.files import write_atomic

HOW = (
    "A single field's weight shows between two protocols that differ in it alone: "
    "dix run protocol=thesis protocol.fill=model_mean protocol.name=thesis_mean run.name=NAME"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results."""
    parser.add_argument("results", help="a results folder that holds several protocols, or its name under results/")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the matrix and keep it as sensitivity.md in the folder."""
    folder = results_folder(arguments.results)
    store = ResultStore(folder)
    table = result_set(store, folders_of(arguments)).table
    settings = {r["config"]["protocol"]["name"]: r["config"]["protocol"] for r in store.read_json("provenance")}
    text = markdown(table, settings)
    print(text)
    write_atomic(folder / "sensitivity.md", text)
    print(folder / "sensitivity.md")
    return 0


def markdown(table: Table, settings: Mapping[str, Mapping[str, object]]) -> str:
    """The whole page. Raises ValueError where fewer than two protocols are there to compare."""
    protocols = list(dict.fromkeys(block.protocol for block in table.layout.blocks))
    if len(protocols) < 2:
        raise ValueError(f"dix sensitivity: expected results of at least two protocols, got {', '.join(protocols)}")
    claims, pairs = verdicts(table), changes(table, settings)
    parts = ["# What the protocol decides", _matrix(table, claims, protocols), _summary(claims, protocols)]
    return "\n\n".join([*parts, _pairs(pairs), _decisive(pairs)]) + "\n"


def _matrix(table: Table, claims: Mapping[Subject, Mapping[str, Claim]], protocols: Sequence[str]) -> str:
    lines = [_row(["data set", "model", "claim", *protocols]), _row(["---"] * (3 + len(protocols)))]
    for subject, by in claims.items():
        names = [table.labels.method(name) for name in (subject.better, subject.worse)]
        claim = f"{names[0]} > {names[1]} on {subject.metric}"
        cells = [_cell(by[name]) if name in by else "" for name in protocols]
        lines.append(_row([subject.dataset, subject.model, claim, *cells]))
    return "\n".join(lines)


def _cell(claim: Claim) -> str:
    if not claim.n:
        return "not measured"
    return f"{claim.verdict} {claim.lead:+.2f} [{claim.low:+.2f}, {claim.high:+.2f}]"


def _summary(claims: Mapping[Subject, Mapping[str, Claim]], protocols: Sequence[str]) -> str:
    """How many claims get the same verdict under every protocol, by verdict."""
    whole = [by for by in claims.values() if len(by) == len(protocols) and all(claim.n for claim in by.values())]
    same = [next(iter(by.values())).verdict for by in whole if len({claim.verdict for claim in by.values()}) == 1]
    counts = ", ".join(f"{same.count(verdict)} {verdict}" for verdict in dict.fromkeys(same))
    return f"{len(same)} of {len(whole)} claims have the same verdict under all {len(protocols)} protocols: {counts}."


def _pairs(pairs: Sequence[Change]) -> str:
    head = ["protocols", "verdicts that differ", "mean change of a lead", "Kendall's tau", "fields that differ"]
    lines = [_row(head), _row(["---"] * len(head))]
    for pair in pairs:
        share = f"{pair.changed} of {pair.shared}"
        names = f"{pair.first}, {pair.second}"
        lines.append(_row([names, share, _number(pair.moved), _number(pair.tau), ", ".join(pair.fields) or "none"]))
    return "\n".join(lines)


def _decisive(pairs: Sequence[Change]) -> str:
    single = [pair for pair in pairs if len(pair.fields) == 1 and pair.shared]
    if not single:
        return HOW
    most = max(single, key=lambda pair: (pair.changed / pair.shared, pair.moved))
    share = f"{most.changed} of {most.shared} verdicts, leads by {_number(most.moved)} on average"
    return f"Of single fields {most.fields[0]} decides most: {share} ({most.first} beside {most.second})."


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
