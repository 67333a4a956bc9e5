"""Change what a store holds on its owner's word: take cells out with all that belongs to them, or rename a method.

Both go through the store once and can be repeated: where they were interrupted, the same call finishes the work. No row
is without a record in between: a reader sees the old cells, the new ones, or rows that are there twice and count once.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dix.bench.store.cells import Group, StoredCell, cell_of, checked_name, group_of
from dix.bench.store.columns import ENCODED, SCHEMA, codes, without
from dix.bench.store.ledger import RUNNING, STOPPED, jobs, lives
from dix.bench.store.results import ResultStore

#: Kinds of records that name a method of a group.
OF_METHOD = ("skips", "failures")
#: Kinds of records that mean nothing without cells of their group.
OF_GROUP = ("unread", "sequences")
#: Kinds of records that a job keeps under its own key.
OF_JOB = ("jobs", "clean", "provenance", "failures")


@dataclass(frozen=True)
class Amended:
    """What was changed: cells, and rows that lay in parts (one that lay there twice counts twice)."""

    cells: int
    rows: int


def announced(store: ResultStore) -> list[StoredCell]:
    """Every cell that a store has a record of."""
    return [cell_of(record) for record in store.cells()]


def check_quiet(store: ResultStore) -> None:
    """Raise ValueError where a job is writing into the store."""
    busy = sorted(key for key, record in jobs(store).items() if lives(store, key, record))
    if busy:
        raise ValueError(f"{store.folder.parent}: nothing was changed, because {busy[0]} is running there")


def remove(store: ResultStore, wanted: Callable[[StoredCell], bool]) -> Amended:
    """Take cells out of a store: rows, records, and a method's pictures where nothing of it is left in a group."""
    check_quiet(store)
    cells = announced(store)
    gone = [cell for cell in cells if wanted(cell)]
    kept = [cell for cell in cells if not wanted(cell)]
    digests = {cell.digest for cell in gone}
    groups = sorted({cell.group for cell in gone})
    rows = sum(store.parts.rewrite(group, lambda table: without(table, digests)) for group in groups)
    left = {(cell.group, cell.method) for cell in kept}
    for group, method in sorted({(cell.group, cell.method) for cell in gone} - left):
        _forget_method(store, group, method)
    for group in sorted(set(groups) - {cell.group for cell in kept}):
        _forget(store, OF_GROUP, partial(_names, group=group))
    _take_from_jobs(store, digests)
    for cell in gone:  # last: with its record a cell's rows would be found again by a second call
        store.forget("cells", cell.key)
    return Amended(len(gone), rows)


def rename(store: ResultStore, old: str, new: str, label: str = "") -> Amended:
    """Call a method by another name in all that a store holds. label: its new name in tables; "": as before.

    Raises ValueError where the store has no such method, or another one by the new name.
    """
    check_quiet(store)
    checked_name(new, "the new name")
    cells = announced(store)
    known = {cell.key: cell for cell in cells}
    changed = [(cell, _renamed(cell, new, label)) for cell in cells if cell.method == old]
    if not changed:
        raise ValueError(f"{store.folder.parent} has no method {old!r}; it has {_listed(c.method for c in cells)}")
    taken = [cell for _, cell in changed if cell.key in known and known[cell.key].digest != cell.digest]
    if taken:
        raise ValueError(f"{store.folder.parent} holds {taken[0].title} already, with other settings")
    for _, cell in changed:
        store.write_json("cells", cell.key, cell.record())
    digests = {cell.digest: renamed.digest for cell, renamed in changed}
    groups = sorted({cell.group for cell, _ in changed})
    rows = sum(store.parts.rewrite(group, lambda table: _called(table, digests)) for group in groups)
    for group in groups:
        for picture in _pictures(store, group, old):
            os.replace(picture, picture.with_name(f"{new}{picture.suffix}"))
    _rename_in_records(store, old, new, digests)
    for cell, _ in changed:
        store.forget("cells", cell.key)
    return Amended(len(changed), rows)


def _renamed(cell: StoredCell, method: str, label: str) -> StoredCell:
    printed = {**cell.printed, "label": label} if label else cell.printed
    return dataclasses.replace(cell, method=method, printed=printed)


def _listed(names: Any) -> str:
    return ", ".join(sorted(set(names))) or "none"


def _called(table: pa.Table, digests: Mapping[str, str]) -> pa.Table:
    """The same rows with new digests of cells."""
    places, known = codes(table, "cell")
    if not digests.keys() & set(known):
        return table
    names = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), [digests.get(d, d) for d in known])
    return table.set_column(SCHEMA.get_field_index("cell"), ENCODED.field("cell"), names)


def _names(record: Mapping[str, Any], group: Group) -> bool:
    return group_of(record) == group


def _forget_method(store: ResultStore, group: Group, method: str) -> None:
    _forget(store, OF_METHOD, lambda record: _names(record, group) and record["method"] == method)
    for picture in _pictures(store, group, method):
        picture.unlink()


def _forget(store: ResultStore, kinds: Collection[str], wanted: Callable[[Mapping[str, Any]], bool]) -> None:
    for kind in kinds:
        for name, record in store.records.all(kind).items():
            if wanted(record):
                store.forget(kind, name)


def _pictures(store: ResultStore, group: Group, method: str) -> Iterator[Path]:
    """A method's pictures and maps of a group; names are compared, since one may mean something to a pattern."""
    for path in (store.folder.parent / "images" / group.folder).glob("*/*.*"):
        if path.suffix in (".png", ".npz") and path.stem == method:
            yield path


def _take_from_jobs(store: ResultStore, digests: Collection[str]) -> None:
    """Jobs are not to compute what was taken out; a job with nothing left is forgotten with its other records."""
    for key, record in jobs(store).items():
        cells = [digest for digest in record["cells"] if digest not in digests]
        if not cells:
            for kind in OF_JOB:
                store.forget(kind, key)
        elif len(cells) < len(record["cells"]):
            ends = _ends(record, {cell: cell for cell in cells})
            store.write_json("jobs", key, {**record, "cells": cells, **ends, **at_rest(record)})


def _ends(record: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Where decided cells of a job end, by their digests' new spelling; without those that have none."""
    ends = {"needed", "kept"} & record.keys()
    return {end: {digests[d]: count for d, count in record[end].items() if d in digests} for end in ends}


def _rename_in_records(store: ResultStore, old: str, new: str, digests: Mapping[str, str]) -> None:
    for kind, change in _CHANGES.items():
        for name, record in store.records.all(kind).items():
            renamed = {**record, **change(record, old, new, digests)}
            if renamed != record:
                store.write_json(kind, _name(name, old, new) if "method" in record else name, renamed)
                if "method" in record:
                    store.forget(kind, name)


def _name(name: str, old: str, new: str) -> str:
    """The name of a method's record: a list of names, the method's last (see `run.records`)."""
    words = json.loads(name)
    return json.dumps([*words[:-1], new if words[-1] == old else words[-1]])


def _in_job(record: Mapping[str, Any], old: str, new: str, digests: Mapping[str, str]) -> dict[str, Any]:
    spelt = {digest: digests.get(digest, digest) for digest in record["cells"]}
    return {"cells": sorted(spelt.values()), **_ends(record, spelt), **at_rest(record)}


def at_rest(record: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a job that is not running: a record that is written now must not pass for a sign of life."""
    return {"state": STOPPED} if record["state"] == RUNNING else {}


def _in_sequence(record: Mapping[str, Any], old: str, new: str, digests: Mapping[str, str]) -> dict[str, Any]:
    return {"comparisons": [[*(new if m == old else m for m in c[:2]), *c[2:]] for c in record["comparisons"]]}


def _in_provenance(record: Mapping[str, Any], old: str, new: str, digests: Mapping[str, str]) -> dict[str, Any]:
    methods = record["config"].get("method", {})
    return {"config": {**record["config"], "method": {new if m == old else m: node for m, node in methods.items()}}}


def _of_method(record: Mapping[str, Any], old: str, new: str, digests: Mapping[str, str]) -> dict[str, Any]:
    return {"method": new} if record["method"] == old else {}


#: By kind, the fields of a record in which a method is named, as they are afterwards.
_CHANGES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "jobs": _in_job,
    "sequences": _in_sequence,
    "provenance": _in_provenance,
    "skips": _of_method,
    "failures": _of_method,
}
