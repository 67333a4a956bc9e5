"""Put a results folder, or some groups of it, into one file, and take it out again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dix import __version__
from dix.bench.share import container
from dix.bench.share.container import BadPack, Pack
from dix.bench.share.summaries import Summary
from dix.bench.store.amend import at_rest, check_quiet
from dix.bench.store.cells import Group, group_of
from dix.bench.store.columns import SCHEMA, codes, plain
from dix.bench.store.conflicts import fingerprints
from dix.bench.store.doubts import doubts
from dix.bench.store.foreign import check_foreign, pictures
from dix.bench.store.results import ResultStore
from dix.bench.store.rows import ROWS_A_PART
from dix.bench.store.status import survey
from dix.datasets.unpack import unpack as unpack_archive
from dix.files import write_atomic

#: Kinds of records that travel. What a sweep was started with does not.
KINDS = ("cells", "jobs", "skips", "failures", "unread", "clean", "provenance", "orders", "sequences")
#: What stands for the path of a file or folder of the machine that packed. It is a path itself, so that whoever
#: recomputes rows is told to give one of their own.
ELSEWHERE = "~"
#: What a manifest is called beside an unpacked store.
UNPACKED = "pack.json"


def pack(
    store: ResultStore,
    target: Path,
    name: str,
    summaries: Sequence[Summary],
    groups: Collection[Group] | None = None,
    with_pictures: bool = False,
) -> Pack:
    """Write a store's groups (None: all) with their records into one file; paths of this machine stay behind.

    summaries: of the groups' cells; see `summaries_of`. with_pictures: also what lies below `images/`, which may be
    under somebody's licence.

    Raises ValueError where a job is running, nothing is stored, or what is stored cannot be trusted.
    """
    check_quiet(store)
    wanted = sorted(store.groups() if groups is None else groups)
    status = survey(store)
    if not wanted or not status.sound:
        why = "; ".join(doubts(status)) or "it holds no rows"
        raise ValueError(f"{store.folder.parent}: nothing was packed: {why}")
    with tempfile.TemporaryDirectory(prefix="dix-pack-") as scratch:
        copy = ResultStore(scratch)
        about = [_copied(store, copy, group) for group in wanted]
        missing = {group: sum(cell.missing for cell in status.cells if cell.group == group) for group in wanted}
        if with_pictures:
            _copy_pictures(store.folder.parent, Path(scratch), wanted)
        own = [one for one in summaries if group_of(one) in wanted]
        told = [{**one, "missing": missing[group]} for one, group in zip(about, wanted, strict=True)]
        manifest = {"name": name, "writer": f"dix-bench {__version__}", "groups": told, "summaries": own}
        return container.write(target, _files(Path(scratch)), manifest)


def _copied(store: ResultStore, into: ResultStore, group: Group) -> dict[str, Any]:
    """Copy one group's cells, rows and records; what the manifest says of it."""
    cells = [cell for cell in store.cells() if group_of(cell) == group]
    table = store.table(group, columns=SCHEMA.names)
    for start in range(0, len(table), ROWS_A_PART):
        into.append_table(group, plain(table.slice(start, ROWS_A_PART)))
    for kind in KINDS:
        for key, record in store.records.all(kind).items():
            if _belongs(record, group):
                into.write_json(kind, key, _as_it_travels(kind, record))
    for key in table["origin"].unique().to_pylist():
        origin = store.json("origins", key)
        if origin is not None:
            into.write_json("origins", key, origin)
    return {**group._asdict(), **_said_of(cells, table)}


def _said_of(cells: Sequence[Mapping[str, Any]], table: pa.Table) -> dict[str, Any]:
    versions = {str(cell["identity"].get("protocol", {}).get("version", 0)) for cell in cells}
    return {
        "protocol_version": int(max(versions, key=int)),
        "methods": sorted({str(cell["method"]) for cell in cells}),
        "metrics": sorted({str(cell["metric"]) for cell in cells}),
        "images": len(table["image"].unique()),
        "rows": len(table),
        "digest": rows_digest(table),
    }


def rows_digest(table: pa.Table) -> str:
    """SHA-256 of rows that are sorted by cell and image: of which they are and of all that they found."""
    digest = hashlib.sha256()
    for name in ("cell", "image"):
        places, texts = codes(table, name)
        used = sorted(set(texts[np.unique(places)].tolist())) if len(places) else []
        rank = {text: place for place, text in enumerate(used)}
        digest.update(json.dumps(used).encode())
        digest.update(np.array([rank.get(text, 0) for text in texts], dtype="<i4")[places].tobytes())
    digest.update(fingerprints(table).astype("<u8").tobytes())
    return digest.hexdigest()


def _belongs(record: Mapping[str, Any], group: Group) -> bool:
    """Whether a record names nothing that is another group's."""
    own = group._asdict()
    return all(record[key] == own[key] for key in Group._fields if key in record)


def _as_it_travels(kind: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record for other machines: without this one's paths, and no sign of a job that runs; cells as they are."""
    rest = at_rest(record) if kind == "jobs" else {}
    return record if kind == "cells" else {**_without_paths(record), **rest}


def _without_paths(value: Any) -> Any:
    """A record without the paths of the machine that wrote it."""
    if isinstance(value, Mapping):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return ELSEWHERE if isinstance(value, str) and re.match(r"[/~\\]|[A-Za-z]:[\\/]|file:", value) else value


def _copy_pictures(source: Path, into: Path, groups: Collection[Group]) -> None:
    check_foreign(source)
    for path in pictures(source):
        if path.parts[1] in {group.folder for group in groups}:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, into / path)


def _files(folder: Path) -> dict[str, Path]:
    """By name in the pack, the files of a folder; a store's own marks of time stay behind."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if container.fits(name)}


def unpack(path: Path, into: Path) -> Pack:
    """Make a results folder of a pack, complete or not at all.

    Raises BadPack where any byte of the pack is not what was packed, and ValueError where `into` exists.
    """
    if os.path.lexists(into):
        raise ValueError(f"{into} is there already; give another name, or remove it")
    found = container.read(path)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=into.parent) as scratch:
        half = Path(scratch, "half")
        _extract(found, half)
        os.replace(half, into)
    return found


@contextmanager
def looked_into(path: Path) -> Iterator[tuple[Pack, ResultStore]]:
    """A pack with its store, in a folder that goes when the block ends. Raises BadPack as `unpack` does."""
    with tempfile.TemporaryDirectory(prefix="dix-pack-") as scratch:
        found = container.read(path)
        _extract(found, Path(scratch, "pack"))
        yield found, ResultStore(Path(scratch, "pack"))


def _extract(found: Pack, folder: Path) -> None:
    """Write a pack's files below a folder, and check that it is the store that its manifest describes."""
    unpack_archive(found.path, folder, lambda name: name if container.fits(name) else None)
    write_atomic(folder / UNPACKED, json.dumps(found.manifest, indent=1, sort_keys=True) + "\n")
    try:
        check_foreign(folder)
        _check_store(ResultStore(folder), found.manifest)
    except ValueError as error:
        raise BadPack(f"{found.path}: {error}") from error


def _check_store(store: ResultStore, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless the store holds the groups that are told, readable to the last row."""
    told = {group_of(one): one for one in manifest["groups"]}
    held = store.groups()
    if sorted(told) != held or store.parts.strangers(held):
        raise ValueError("its rows are of other models, data sets or protocols than it says")
    for group, one in told.items():
        cells = [cell for cell in store.cells() if group_of(cell) == group]
        table = store.table(group, columns=SCHEMA.names)
        raw = sum(len(part) for part in store.parts.each(group, ("cell",)).values())
        if raw != len(table) or {**one, **_said_of(cells, table)} != dict(one):
            raise ValueError(f"{group.title}: its rows are not those that it says")
    damaged = store.damaged()
    if damaged:
        raise ValueError(f"not what was written: {', '.join(damaged[:5])}")
