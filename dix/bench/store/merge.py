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

from dix.bench.store.cells import NAMES, Group
from dix.bench.store.columns import SCHEMA, among, codes, joined, row_keys
from dix.bench.store.conflicts import SHOWN, differ, fingerprints
from dix.bench.store.errors import StaleResults
from dix.bench.store.foreign import check_foreign, pictures
from dix.bench.store.ledger import FINISHED
from dix.bench.store.results import ResultStore
from dix.bench.store.rows import ROWS_A_PART
from dix.files import atomic

#: Records that are copied where the name is free.
COPIED = ("skips", "unread", "failures", "origins", "orders", "sequences")


@dataclass
class Merged:
    """What a merge did, in rows: added, there already, and there with another value.

    Rows that contradict others are added as well, so that which of them counts does not depend on the order of merging.
    examples: some (cell, image) with another value.
    """

    added: int = 0
    same: int = 0
    differing: int = 0
    examples: list[str] = field(default_factory=list)


def merge(sources: Sequence[ResultStore], into: ResultStore) -> Merged:
    """Add what the sources hold and `into` does not.

    Raises StaleResults that names the cells which two of the folders hold under different identities, and ValueError
    that names what a source must not hold (see `foreign`); nothing is written then.
    """
    for source in sources:
        check_foreign(source.folder.parent)
    _check([into, *sources])
    merged = Merged()
    for source in sources:
        for name, record in source.records.all("cells").items():
            if into.json("cells", name) is None:
                into.write_json("cells", name, record)
        for group in source.groups():
            _merge_rows(source, into, group, merged)
        _merge_records(source, into)
        _copy_pictures(source.folder.parent, into.folder.parent)
    return merged


def _check(stores: Sequence[ResultStore]) -> None:
    known: dict[tuple[str, ...], tuple[ResultStore, Any]] = {}
    lines = []
    for store in stores:
        for cell in store.cells():
            names = tuple(str(cell[name]) for name in NAMES)
            first, identity = known.setdefault(names, (store, cell["identity"]))
            found = first.stale(" \u00b7 ".join(names), identity, cell["identity"])
            lines += [f"{store.folder.parent} and {line}" if line is found[0] else f"  {line}" for line in found]
    if lines:
        raise StaleResults(
            "\n".join(["the folders hold cells under different identities; nothing was written", *lines])
        )


def _merge_rows(source: ResultStore, into: ResultStore, group: Group, merged: Merged) -> None:
    """Add the rows that are not there bit by bit."""
    mine = into.parts.read(group, SCHEMA.names)
    theirs = among(source.parts.read(group, SCHEMA.names), cell={cell["cell"] for cell in source.cells()})
    both = joined([mine, theirs], SCHEMA.names)
    keys, prints = row_keys(both), fingerprints(both)
    fresh = _first_of_each(keys, prints)
    fresh[: len(mine)] = False
    merged.same += len(theirs) - int(fresh.sum())
    known = _place_among(keys[: len(mine)], keys)
    contested = np.flatnonzero(fresh & (known >= 0))
    first, second = both.take(known[contested]), both.take(contested)
    wrong = np.flatnonzero(differ(first, second))
    merged.differing += len(wrong)
    merged.added += int(fresh.sum())
    images, texts = codes(second, "image")
    for i in wrong[: SHOWN - len(merged.examples)]:
        values = [float(table["value"][i].as_py()) for table in (first, second)]
        merged.examples.append(f"{group.title} {texts[images[i]]}: {values[0]!r} and {values[1]!r}")
    rows = both.filter(pa.array(fresh, pa.bool_()))
    for start in range(0, len(rows), ROWS_A_PART):
        into.append_table(group, rows.slice(start, ROWS_A_PART))


def _first_of_each(keys: np.ndarray, prints: np.ndarray) -> np.ndarray:
    """[n] True for the first row of each place and content."""
    order = np.lexsort((prints, keys))
    fresh = np.append(True, (np.diff(keys[order]) != 0) | (np.diff(prints[order]) != 0))[: len(keys)]
    found = np.zeros(len(keys), dtype=bool)
    found[order] = fresh
    return found


def _place_among(own: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """[n] where each key stands first among `own`, -1 where it does not."""
    order = np.argsort(own, kind="stable")
    place = np.minimum(np.searchsorted(own[order], keys), max(len(own) - 1, 0))
    return np.where(own[order][place] == keys, order[place], -1) if len(own) else np.full(len(keys), -1)


def _merge_records(source: ResultStore, into: ResultStore) -> None:
    """Copy records; what two folders say under one name is kept from both, or from the one that knows more."""
    for kind in COPIED:
        for name, record in source.records.all(kind).items():
            if into.json(kind, name) is None:
                into.write_json(kind, name, record)
    for name, theirs in source.records.all("jobs").items():
        if into.json("jobs", name) is None or theirs["state"] == FINISHED:
            into.write_json("jobs", name, theirs)
    for name, theirs in source.records.all("clean").items():
        mine = into.json("clean", name) or theirs
        into.write_json("clean", name, theirs | {"right": theirs["right"] | mine["right"]})
    for name, theirs in source.records.all("provenance").items():
        known = into.json("provenance", name)
        if theirs != known:
            content = json.dumps(theirs, sort_keys=True)
            other = f"{name} {hashlib.sha256(content.encode()).hexdigest()[:6]}"
            into.write_json("provenance", name if known is None else other, theirs)


def _copy_pictures(source: Path, into: Path) -> None:
    for path in pictures(source):
        if not (into / path).exists():
            with atomic(into / path) as half:
                shutil.copyfile(source / path, half)
