"""What somebody recomputed of a pack: a record beside it, bound to the pack's bytes and to each row's content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dix.bench.share.container import Pack
from dix.bench.share.shape import misfit, schema
from dix.bench.store.cells import NAMES
from dix.bench.store.columns import SCHEMA
from dix.bench.store.conflicts import fingerprints
from dix.bench.store.results import ResultStore
from dix.files import write_atomic

FORMAT, VERSION = "dix-verification", 1
#: The chance at which the share of altered rows is stated that a sample would miss.
CHANCE = 0.05
#: Bytes of the largest record that is read.
LARGEST = 2**24


@dataclass(frozen=True)
class Row:
    """A recomputed row: its names, what is stored, what came out, and what differs ("" where it is the same)."""

    names: Mapping[str, str]
    stored: float
    again: float
    fault: str


@dataclass(frozen=True)
class Verification:
    """A record that holds for a pack. rows: how many were recomputed; the same, all of them."""

    rows: int
    of: int
    machine: str
    versions: Mapping[str, str]

    @property
    def said(self) -> str:
        """It in words."""
        return f"{self.rows:,} of {self.of:,} rows recomputed alike on {self.machine or 'an unnamed machine'}: " + (
            "nothing is left unseen"
            if self.rows == self.of
            else f"had {percent(missed(self.rows))} of all rows been altered, 95 % of such samples would have shown one"
        )


def missed(rows: int) -> float:
    """The largest share of altered rows that a random sample misses with probability 5 %: 1 - 0.05^(1/k)."""
    return 1.0 if rows < 1 else 1 - CHANCE ** (1 / rows)


def percent(share: float) -> str:
    """A share with as many digits as it needs, rounded up: a bound must not be told too small."""
    digits = 1 if share >= 0.001 else 4
    return f"{math.ceil(100 * share * 10**digits) / 10**digits:g} %"


def write_record(
    pack: Pack, store: ResultStore, rows: Sequence[Row], seed: int, machine: str, versions: Mapping[str, str]
) -> Path:
    """Write what was recomputed beside the pack; the file's name is its pack's with the record's own digest."""
    sums = row_sums(store)
    total = sum(one["rows"] for one in pack.manifest["groups"])
    listed = [_row(row, sums) for row in rows]
    record = {
        "format": FORMAT,
        "version": VERSION,
        "pack": pack.digest,
        "of": total,
        "seed": seed,
        "missed": missed(len(rows)) if len(rows) < total else 0.0,
        "same": not any(row.fault for row in rows),
        "machine": machine,
        "versions": dict(versions),
        "rows": listed,
    }
    content = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    path = pack.path.with_name(f"{pack.path.stem}.verified-{digest}.json")
    write_atomic(path, content + "\n")
    return path


def _row(row: Row, sums: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    names = {name: row.names[name] for name in (*NAMES, "image")}
    numbers = {"stored": _plain(row.stored), "again": _plain(row.again)}
    return {**names, **numbers, "fault": row.fault[:1000], "sum": sums[tuple(names.values())]}


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def row_sums(store: ResultStore) -> dict[tuple[str, ...], str]:
    """By a row's five names and image, the fingerprint of all that it found."""
    names = {cell["cell"]: tuple(str(cell[name]) for name in NAMES) for cell in store.cells()}
    found: dict[tuple[str, ...], str] = {}
    for group in store.groups():
        table = store.table(group, columns=SCHEMA.names)
        cells, images = (_texts(table, name) for name in ("cell", "image"))
        prints = fingerprints(table).tolist()
        found |= {(*names[c], i): f"{p:016x}" for c, i, p in zip(cells, images, prints, strict=True)}
    return found


def _texts(table: pa.Table, name: str) -> list[str]:
    return list(table[name].to_pylist())


def records_of(pack: Pack, store: ResultStore) -> tuple[list[Verification], list[str]]:
    """The records beside a pack that hold for it, and what is wrong with the others, a line each."""
    paths = sorted(pack.path.parent.glob(f"{_escaped(pack.path.stem)}.verified-*.json"))
    sums = row_sums(store) if paths else {}
    held, faults = [], []
    for path in paths:
        record, fault = _judged(path, pack, sums)
        if fault:
            faults.append(f"{path.name}: {fault}")
        else:
            rows = {tuple(row[name] for name in (*NAMES, "image")) for row in record["rows"]}
            held.append(Verification(len(rows), len(sums), record["machine"], record["versions"]))
    return held, faults


def _escaped(stem: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in stem)


def _judged(path: Path, pack: Pack, sums: Mapping[tuple[str, ...], str]) -> tuple[dict[str, Any], str]:
    """A record, and why it does not hold, or ""."""
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST:
            return {}, "a link, or too large"
        record = json.loads(path.read_bytes())
        version = record.get("version") if isinstance(record, dict) else None
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"not a record: {error}"
    if isinstance(version, int) and version > VERSION:
        return {}, f"written by a newer version of this program (format {version})"
    return record, misfit(record, schema("verification")) or _objection(record, pack, sums)


def _objection(record: Mapping[str, Any], pack: Pack, sums: Mapping[tuple[str, ...], str]) -> str:
    if record["pack"] != pack.digest:
        return "it is about other bytes than this pack's"
    differing = [row for row in record["rows"] if row["fault"]]
    if differing or not record["same"]:
        return f"{len(differing)} of {len(record['rows'])} rows came out differently"
    for row in record["rows"]:
        if sums.get(tuple(row[name] for name in (*NAMES, "image"))) != row["sum"]:
            return f"the pack has no such row: {row['method']} {row['metric']} {row['image']}"[:300]
    return ""
