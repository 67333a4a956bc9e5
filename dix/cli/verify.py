"""`dix verify`: recompute a random sample of stored rows and compare."""

from __future__ import annotations

import argparse
import copy
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dix.bench.run import runtime
from dix.bench.run.job import Job
from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.run.verify import Checked, sample, verify
from dix.bench.share.pack import looked_into
from dix.bench.share.verification import Row, missed, percent, write_record
from dix.bench.store.cells import Group, group_of
from dix.bench.store.conflicts import ABSOLUTE, RELATIVE
from dix.bench.store.doubts import doubts
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey
from dix.cli.config import explained, parsed_overrides
from dix.cli.construct import KINDS, TARGET
from dix.cli.folders import results_folder
from dix.cli.options import add_overrides, folders_of
from dix.cli.session import open_job
from dix.cli.trust import Untrusted, settings, vetted

#: How to go on where a folder asks for what it may not decide.
ADVICE = "give a value of your own as KEY=VALUE, or, where you trust the folder's author, --trust runs what it names"
#: Settings of the recorded run that decide which images are computed together; the others are this process's own.
GRID = ("batch_size", "chunk", "limit", "deterministic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to verify."""
    parser.add_argument("results", metavar="NAME", help="a results folder, its name under results/, or a pack")
    parser.add_argument("--sample", type=int, default=10, metavar="K", help="rows to recompute (default 10)")
    parser.add_argument(
        "--seed", type=int, help="of the choice of rows (default 0; of a pack's, one nobody knows before)"
    )
    parser.add_argument("--trust", action="store_true", help="also run code and open files that the folder names")
    add_overrides(parser, "settings to use instead of the recorded ones, as in dataset.root=FOLDER")


def main(arguments: argparse.Namespace) -> int:
    """Print every row and its recomputed value; 1 where one differs, or where the store itself is in doubt.

    What was recomputed of a pack is written beside it, as a record for a collection.
    """
    path = Path(arguments.results)
    if not path.is_file():
        store = ResultStore(results_folder(arguments.results))
        found = _verified(store, arguments, arguments.seed or 0)
        return _judged(store, found)
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    with looked_into(path) as (pack, store):
        found = _verified(store, arguments, seed)
        if not found:
            raise ValueError("--sample: expected at least 1 row")
        rows = [Row(one.name._asdict(), one.stored, one.again, one.fault) for one in found]
        here = runtime.machine(runtime.choose_device("auto"))
        print(write_record(pack, store, rows, seed, here, runtime.versions()))
        total = sum(one["rows"] for one in pack.manifest["groups"])
        if not any(row.fault for row in rows) and len(rows) < total:
            print(
                f"were {percent(missed(len(rows)))} of the {total:,} rows altered, 95 % of such samples would show it"
            )
        return _judged(store, found)


def _verified(store: ResultStore, arguments: argparse.Namespace, seed: int) -> list[Checked]:
    """A sample of rows, each printed when it has been recomputed."""

    def job(group: Group, methods: Sequence[str], metrics: Sequence[str]) -> Job:
        return _job(store, group, methods, metrics, arguments)

    found = []
    for checked in verify(store, sample(store.rows(), arguments.sample, seed), job):
        print(_line(checked), flush=True)
        found.append(checked)
    return found


def _judged(store: ResultStore, found: Sequence[Checked]) -> int:
    """Say how many rows are the same, and what else is in doubt."""
    faults = sum(bool(checked.fault) for checked in found)
    print(
        f"{len(found) - faults} of {len(found)} rows are the same (within {ABSOLUTE:g} + {RELATIVE:g} of the value)"
        + (f"; {faults} differ" if faults else "")
    )
    status = survey(store)
    for line in doubts(status):
        print(line)
    return 0 if status.sound and not faults else 1


def _job(store: ResultStore, group: Group, methods: Sequence[str], metrics: Sequence[str], arguments: Any) -> Job:
    """The job that a group's records describe, as far as they may; see `dix.cli.trust`."""
    records = [record for record in store.read_json("provenance") if group_of(record) == group]
    if not records:
        raise ValueError(f"{arguments.results} holds no provenance of {group.title}; its run did not end")
    made = completed(_nodes("method", records, methods), identities(store, group))
    nodes = {"method": made, "metric": _nodes("metric", records, metrics)}
    recorded, given = {**records[-1]["config"], **nodes}, overrides(arguments.overrides)
    if arguments.trust:
        parts, protocol = {kind: recorded[kind] for kind in KINDS}, recorded["protocol"]
    else:
        known = without(recorded, given)
        try:
            parts, protocol = vetted(known, folders_of(arguments)), settings(known.get("protocol"), "protocol")
        except Untrusted as error:
            raise ValueError(f"{error}; {ADVICE}") from error
    run = {key: value for key, value in recorded["run"].items() if key in GRID}
    return open_job(_configuration(parts, protocol, run | {"chunk": run.get("chunk") or _chunk(store, group)}, given))


def _chunk(store: ResultStore, group: Group) -> int:
    """The rows in one pass that a group's run, left to choose, took; 0, today's choice, where its rows differ in it."""
    origins = {origin for counts in store.origins(group).values() for origin in counts}
    found = [(store.json("origins", origin) or {}).get("chunk") for origin in sorted(origins)]
    return found[0] if found and isinstance(found[0], int) and found.count(found[0]) == len(found) else 0


def _configuration(parts: Any, protocol: Any, run: Any, given: Mapping[str, Any]) -> DictConfig:
    config = OmegaConf.create(parts)
    try:
        config.protocol = OmegaConf.merge(OmegaConf.structured(ScoreProtocol), protocol)
        config.run = OmegaConf.merge(OmegaConf.structured(Run), run)
        for key, value in given.items():
            OmegaConf.update(config, key, value, force_add=True)
    except OmegaConfBaseException as error:
        raise ValueError(explained(error)) from error
    return config


def overrides(words: Sequence[str]) -> dict[str, Any]:
    """The values of words KEY=VALUE by key. Raises ValueError for a key that is a whole group."""
    found = {str(o.key_or_group): o.value() for o in parsed_overrides(words)}
    whole = [key for key in found if "." not in key]
    if whole:
        raise ValueError(f"{whole[0]}: expected a setting of a part, such as dataset.root=FOLDER")
    return found


def without(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration without the settings that the user gives instead."""
    left: dict[str, Any] = copy.deepcopy(dict(recorded))
    for key in given:
        *path, last = key.split(".")
        place: Any = left
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)
    return left


def _nodes(group: str, records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The recorded configuration of each name, from whichever run had it."""
    known = {name: node for record in records for name, node in record["config"][group].items()}
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(
            f"the folder's provenance does not say what {group} {', '.join(absent)} was; its run did not end"
        )
    return {name: known[name] for name in names}


def identities(store: ResultStore, group: Group) -> dict[str, Mapping[str, Any]]:
    """What each method of a group was, by its name."""
    cells = [cell for cell in store.cells() if group_of(cell) == group]
    return {cell["method"]: cell["identity"]["method"] for cell in cells}


def completed(nodes: Mapping[str, Any], stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Recorded nodes with the settings that were left to the class's defaults, as the rows' identity has them.

    A default may have changed since. Only plain settings are filled in, and only where the node names the class itself.
    """
    return {name: {**_left_out(node, stored.get(name, {})), **node} for name, node in nodes.items()}


def _left_out(node: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    if str(node.get(TARGET, "")).rpartition(".")[2] != identity.get("class"):
        return {}
    about = ("class", "version", "field version")
    return {key: value for key, value in identity.items() if key not in about and not isinstance(value, Mapping | list)}


def _line(checked: Checked) -> str:
    name = checked.name
    what = f"{name.group.title} {name.method} {name.metric} {name.image}"
    return f"{'differs' if checked.fault else 'same':<8}{what}: {checked.stored:.6g}, again {checked.again:.6g}" + (
        f" ({checked.fault})" if checked.fault else ""
    )
