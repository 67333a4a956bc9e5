"""`dix verify`: recompute a random sample of stored rows and compare."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dix.bench.run.job import Job
from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.run.verify import Checked, sample, verify
from dix.bench.store.cells import Group, group_of
from dix.bench.store.conflicts import ABSOLUTE, RELATIVE
from dix.bench.store.results import ResultStore
from dix.cli.report import results_folder
from dix.cli.session import open_job

#: Packages whose classes a results folder may name without being asked.
OWN = ("dix.",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to verify."""
    parser.add_argument("results", help="a results folder, or its name under results/")
    parser.add_argument("--sample", type=int, default=10, metavar="K", help="rows to recompute (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of rows")
    parser.add_argument("--trust", action="store_true", help="also run classes of other packages that the folder names")


def main(arguments: argparse.Namespace) -> int:
    """Print every row beside its recomputed self; 1 where one differs."""
    store = ResultStore(results_folder(arguments.results))
    records: dict[Group, list[dict[str, Any]]] = {}
    for record in store.read_json("provenance"):
        records.setdefault(group_of(record), []).append(record)
    names = sample(store.rows(), arguments.sample, arguments.seed)

    def job(group: Group, methods: Sequence[str], metrics: Sequence[str]) -> Job:
        if group not in records:
            raise ValueError(f"{arguments.results} holds no provenance of {group.title}; its run did not end")
        return _job(records[group], methods, metrics, arguments.trust)

    faults = 0
    for checked in verify(store, names, job):
        print(_line(checked), flush=True)
        faults += bool(checked.fault)
    print(
        f"{len(names) - faults} of {len(names)} rows are the same (within {ABSOLUTE:g} + {RELATIVE:g} of the value)"
        + (f"; {faults} differ" if faults else "")
    )
    return 1 if faults else 0


def _job(records: Sequence[Mapping[str, Any]], methods: Sequence[str], metrics: Sequence[str], trust: bool) -> Job:
    config = OmegaConf.create(dict(records[-1]["config"]))
    config.protocol = OmegaConf.merge(OmegaConf.structured(ScoreProtocol), config.protocol)
    config.run = OmegaConf.merge(OmegaConf.structured(Run), config.run)
    config.method = _nodes("method", records, methods)
    config.metric = _nodes("metric", records, metrics)
    foreign = sorted({target for target in _targets(config) if not target.startswith(OWN)})
    if foreign and not trust:
        raise ValueError(f"the results name {', '.join(foreign)}, which is not this suite's; --trust runs it")
    return open_job(config)


def _nodes(group: str, records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The recorded configuration of each name, from whichever run had it."""
    known = {name: node for record in records for name, node in record["config"][group].items()}
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(
            f"the folder's provenance does not say what {group} {', '.join(absent)} was; its run did not end"
        )
    return {name: known[name] for name in names}


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping | DictConfig):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            yield from _targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from _targets(value)


def _line(checked: Checked) -> str:
    name = checked.name
    what = f"{name.group.title} {name.method} {name.metric} {name.image}"
    return f"{'differs' if checked.fault else 'same':<8}{what}: {checked.stored:.6g}, again {checked.again:.6g}" + (
        f" ({checked.fault})" if checked.fault else ""
    )
