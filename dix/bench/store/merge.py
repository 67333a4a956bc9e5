"""Put the rows of several results folders into one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dix.bench.store.errors import StaleResults
from dix.bench.store.ledger import FINISHED
from dix.bench.store.rows import NAMES, ResultStore, row_keys
from dix.files import atomic

#: Rows in one part of a merged store.
PART = 1_000_000
#: Records that are copied where the name is free.
COPIED = ("skips", "unread", "failures")


@dataclass
class Merged:
    """What a merge did, in rows: added, there already, and there with another value (the one there stays).

    examples: some (cell, image) with another value.
    """

    added: int = 0
    same: int = 0
    differing: int = 0
    examples: list[str] = field(default_factory=list)


def merge(sources: Sequence[ResultStore], into: ResultStore) -> Merged:
    """Add what the sources hold and `into` does not.

    Raises StaleResults that names the cells which two of the folders hold under different identities; nothing is
    written then.
    """
    _check([into, *sources])
    merged = Merged()
    for source in sources:
        for record in source.cells():
            key = "--".join(record[name] for name in NAMES)
            if into.json("cells", key) is None:
                into.write_json("cells", key, record)
        for group in source.groups():
            _merge_rows(source, into, group, merged)
        _merge_records(source, into)
        _copy_pictures(source.folder.parent / "images", into.folder.parent / "images")
    return merged


def _check(stores: Sequence[ResultStore]) -> None:
    known: dict[str, tuple[ResultStore, Any]] = {}
    lines = []
    for store in stores:
        for name in store.names("cells"):
            record = store.json("cells", name)
            first, identity = known.setdefault(name, (store, record and record["identity"]))
            if record is not None and first is not store:
                found = first.conflicts(name, identity, record["identity"])
                lines += [f"{store.folder.parent} and {line}" if line is found[0] else f"  {line}" for line in found]
    if lines:
        raise StaleResults(
            "\n".join(["the folders hold cells under different identities; nothing was written", *lines])
        )


def _merge_rows(source: ResultStore, into: ResultStore, group: str, merged: Merged) -> None:
    mine, theirs = into.table(group), source.table(group)
    keys = row_keys(pa.concat_tables([mine, theirs]).unify_dictionaries().combine_chunks())
    own, other = keys[: len(mine)], keys[len(mine) :]
    place = np.minimum(np.searchsorted(own, other), max(len(own) - 1, 0))
    known = own[place] == other if len(own) else np.zeros(len(other), dtype=bool)
    before, after = mine["value"].to_numpy()[place[known]], theirs["value"].to_numpy()[known]
    differ = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    merged.same += int((~differ).sum())
    merged.differing += int(differ.sum())
    images = theirs["image"].to_pylist() if differ.any() else []
    for i in np.flatnonzero(differ)[: 5 - len(merged.examples)]:
        image = images[np.flatnonzero(known)[i]]
        merged.examples.append(f"{group} {image}: kept {float(before[i])!r}, not {float(after[i])!r}")
    rows = theirs.filter(pa.array(~known, pa.bool_()))
    for start in range(0, len(rows), PART):
        into.append_table(group, rows.slice(start, PART))
    merged.added += len(rows)


def _merge_records(source: ResultStore, into: ResultStore) -> None:
    """Copy records; what two folders say under one name is kept from both, or from the one that knows more."""
    for kind in COPIED:
        for name in source.names(kind):
            if into.json(kind, name) is None:
                into.write_json(kind, name, source.json(kind, name) or {})
    for name in source.names("jobs"):
        mine, theirs = into.json("jobs", name), source.json("jobs", name)
        if theirs and (mine is None or theirs["state"] == FINISHED):
            into.write_json("jobs", name, theirs)
    for name in source.names("clean"):
        mine, theirs = into.json("clean", name), source.json("clean", name)
        if theirs:
            into.write_json("clean", name, theirs | {"right": theirs["right"] | (mine or theirs)["right"]})
    for name in source.names("provenance"):
        mine, theirs = into.json("provenance", name), source.json("provenance", name)
        if theirs and theirs != mine:
            content = json.dumps(theirs, sort_keys=True)
            other = f"{name}--{hashlib.sha256(content.encode()).hexdigest()[:6]}"
            into.write_json("provenance", name if mine is None else other, theirs)


def _copy_pictures(source: Path, into: Path) -> None:
    for path in sorted(source.rglob("*")):
        target = into / path.relative_to(source)
        if path.is_file() and not target.exists():
            with atomic(target) as half:
                shutil.copyfile(path, half)
