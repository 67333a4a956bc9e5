"""Per-image rows on disk: appended atomically, never lost, never counted twice.

A results folder holds
    cells/NAMES.json        what a cell (model, data set, method, metric, protocol) means: its whole identity
    rows/NAMES/part-*.parquet   rows of one model, data set and protocol, a file per append
    jobs/, skips/, failures/, provenance/   a JSON file each
    damaged/                files that could not be read, set aside
Files appear complete or not at all, so a killed run leaves nothing half-written and concurrent runs cannot collide:
nobody waits for anybody, and a row that two processes stored counts once. A process replaces only files of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dix.bench.store.errors import StaleResults, differing
from dix.files import HALF_WRITTEN, atomic, write_atomic

SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("image", pa.string()),
        ("value", pa.float64()),
        ("parts", pa.list_(pa.float64())),
        ("curve", pa.list_(pa.float32())),
        ("reason", pa.string()),
        ("note", pa.string()),
    ]
)
NAMES = ("model", "dataset", "method", "metric", "protocol")
#: Columns with few distinct texts: kept as numbers into a list of them.
TEXTS = ("cell", "image", "reason", "note")
#: A process puts so many of its own small parts together into one.
SMALL_PARTS = 64
#: Parts read at a time: a network folder answers slowly, but to many at once.
READERS = 4
#: Seconds after which a half-written file belongs to nobody any more.
ABANDONED = 3600.0


@dataclass(frozen=True)
class Cell:
    """One cell of a table: five names, and everything that defines its scores.

    identity: nested plain values; equal identities give equal scores.
    printed: how tables show the cell: the method's "label" and "role" and the metric's "metric_label".
    """

    model: str
    dataset: str
    method: str
    metric: str
    protocol: str
    identity: Mapping[str, Any]
    printed: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The five names in one."""
        return "--".join(getattr(self, name) for name in NAMES)

    @property
    def group(self) -> str:
        """The folder of its rows."""
        return "--".join((self.model, self.dataset, self.protocol))

    @property
    def digest(self) -> str:
        """A hash of names and identity, which rows carry."""
        content = json.dumps([self.key, self.identity], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Row:
    """What one image scored in one cell (see metrics.api.Scores). note: remarks that do not exclude it."""

    cell: str
    image: str
    value: float
    parts: Sequence[float] = ()
    curve: Sequence[float] = ()
    reason: str = ""
    note: str = ""


class ResultStore:
    """The rows under one results folder.

    Raises ValueError where the folder cannot be written, StaleResults where it holds other results by the same names.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / "store"
        self._own: dict[str, list[Path]] = {}
        self._unreadable: set[str] = set()

    def open(self, cells: Iterable[Cell]) -> None:
        """Announce cells before their rows are written."""
        self.sweep_up()
        for cell in cells:
            stored = self._identity(cell)
            if stored is None:
                record = {name: getattr(cell, name) for name in NAMES} | {
                    "cell": cell.digest,
                    "identity": cell.identity,
                    "printed": dict(cell.printed),
                }
                self.write_json("cells", cell.key, record)
                stored = self._identity(cell)
            lines = self.conflicts(cell.key, stored, json.loads(json.dumps(cell.identity)))
            if lines:
                raise StaleResults(
                    "\n  ".join(lines) + "\n"
                    "nothing stored was touched; use another folder (run.name=NAME or run.results=PATH), or remove it"
                )

    def conflicts(self, key: str, stored: Any, wanted: Any) -> list[str]:
        """How a cell's stored identity differs from another: a heading and some lines, or nothing."""
        lines = differing(stored, wanted)
        return [f"{self.folder.parent} holds {key} under another identity:", *lines[:12]] if lines else []

    def append(self, group: str, rows: Sequence[Row]) -> None:
        """Add rows of one group, all or none of them."""
        if not rows:
            return
        columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
        columns["parts"], columns["curve"] = ([list(v) for v in columns[name]] for name in ("parts", "curve"))
        self.append_table(group, pa.table(columns, schema=SCHEMA))

    def append_table(self, group: str, table: pa.Table) -> None:
        """Add rows of one group that are a table already, all or none of them."""
        part = self.folder / "rows" / group / f"part-{uuid.uuid4().hex}.parquet"
        with _named(), atomic(part) as temporary:
            pq.write_table(table.cast(SCHEMA), temporary, compression="zstd", write_page_checksum=True)
        own = self._own.setdefault(group, [])
        own.append(part)
        if len(own) >= SMALL_PARTS:
            self.compact(group)

    def compact(self, group: str) -> None:
        """Put the small parts that this process wrote together into one; other processes' files are left alone.

        The new part is in place before the old ones go: in between, rows are there twice and count once.
        """
        parts = self._own.pop(group, [])
        if len(parts) < 2:
            self._own[group] = parts
            return
        tables = [self._part(path, SCHEMA.names) for path in parts]
        if any(table is None for table in tables):
            return
        self.append_table(group, pa.concat_tables(tables))
        self._own.pop(group)
        for path in parts:
            path.unlink(missing_ok=True)

    def done(
        self, group: str, cells: Collection[str] | None = None, images: Collection[str] | None = None
    ) -> dict[str, set[str]]:
        """Image ids that are stored, by cell digest; only some cells and images, where they are given."""
        table = _among(self._read(group, ("cell", "image")), cell=cells, image=images)
        cell, image = (table[name].combine_chunks() for name in ("cell", "image"))
        names = np.array(image.dictionary.to_pylist(), dtype=object)
        codes, order = image.indices.to_numpy(), np.argsort(cell.indices.to_numpy(), kind="stable")
        counts = np.bincount(cell.indices.to_numpy(), minlength=len(cell.dictionary))
        found = np.split(names[codes[order]], np.cumsum(counts)[:-1]) if len(names) else []
        pairs = zip(cell.dictionary.to_pylist(), found, strict=False)
        return {digest: set(own.tolist()) for digest, own in pairs if len(own)}

    def counts(self, group: str) -> dict[str, int]:
        """How many images are stored, by cell digest."""
        table = self._read(group, ("cell", "image"))
        cell, image = (table[name].combine_chunks() for name in ("cell", "image"))
        images = 1 + len(image.dictionary)
        pairs = np.unique(cell.indices.to_numpy().astype(np.int64) * images + image.indices.to_numpy())
        counts = np.bincount(pairs // images, minlength=len(cell.dictionary))
        return dict(zip(cell.dictionary.to_pylist(), counts.tolist(), strict=True))

    def groups(self) -> list[str]:
        """Names of the groups that have rows."""
        return sorted(path.name for path in (self.folder / "rows").glob("*") if path.is_dir())

    def cells(self) -> list[dict[str, Any]]:
        """Every announced cell: names, digest and identity."""
        return self.read_json("cells")

    def table(
        self, group: str, cells: Collection[str] | None = None, images: Collection[str] | None = None
    ) -> pa.Table:
        """Each announced (cell, image) of a group once, sorted by both, texts as dictionaries.

        Of two rows that differ, the one with the lower value counts, so that equal stores give equal tables.
        """
        announced = {str(record["cell"]) for record in self.cells()}
        wanted = announced if cells is None else announced & set(cells)
        return _unique(_among(self._read(group, SCHEMA.names), cell=wanted, image=images))

    def rows(self, images: Collection[str] | None = None) -> pd.DataFrame:
        """Each (cell, image) once, with the cell's names as columns; sorted, so equal stores give equal frames.

        images: only these. A frame of all rows of a large store takes some kB a row; `table` takes a tenth of it.
        """
        tables = [_plain(self.table(group, images=images)) for group in self.groups()]
        rows = pa.concat_tables(tables or [SCHEMA.empty_table()]).to_pandas()
        names = pd.DataFrame([{k: c[k] for k in ("cell", *NAMES)} for c in self.cells()], columns=["cell", *NAMES])
        rows = rows.merge(names, on="cell", how="inner").sort_values(["cell", "image"], kind="stable")
        return rows.reset_index(drop=True)

    def write_json(self, kind: str, name: str, record: Mapping[str, Any]) -> None:
        """Put one JSON file in place, replacing an older one."""
        with _named():
            text = json.dumps(record, indent=1, sort_keys=True, default=str) + "\n"
            write_atomic(self.folder / kind / f"{name}.json", text)

    def names(self, kind: str) -> list[str]:
        """The names of all JSON files of a kind."""
        return sorted(path.stem for path in (self.folder / kind).glob("*.json"))

    def read_json(self, kind: str) -> list[dict[str, Any]]:
        """All JSON files of a kind, by name; damaged ones are set aside."""
        found = (self._load(path) for path in sorted((self.folder / kind).glob("*.json")))
        return [record for record in found if record is not None]

    def json(self, kind: str, name: str) -> dict[str, Any] | None:
        """One JSON file, or None where there is none."""
        return self._load(self.folder / kind / f"{name}.json")

    def forget(self, kind: str, name: str) -> None:
        """Remove a JSON file, if it is there."""
        (self.folder / kind / f"{name}.json").unlink(missing_ok=True)

    def touch(self, kind: str, name: str) -> None:
        """Say that the file's owner is alive: sets its time by the folder's own clock. Never fails."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / kind / f"{name}.json")

    def age(self, kind: str, name: str) -> float:
        """Seconds since a JSON file was written or touched, by the folder's own clock where it can be asked."""
        return max(0.0, self.clock() - (self.folder / kind / f"{name}.json").stat().st_mtime)

    def clock(self) -> float:
        """The time of the machine that keeps the folder, which all times of its files are by."""
        probe = self.folder / f".clock-{uuid.uuid4().hex}.tmp"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    def sweep_up(self) -> None:
        """Remove half-written files that killed processes left behind long ago."""
        halves = [path for level in ("*", "rows/*") for path in self.folder.glob(f"{level}/.*{HALF_WRITTEN}")]
        now = self.clock() if halves else 0.0
        for path in halves:
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > ABANDONED:
                    path.unlink()

    def damaged(self) -> list[str]:
        """Names of the files that were set aside, and of those that could not even be moved."""
        return sorted({path.name for path in (self.folder / "damaged").glob("*")} | self._unreadable)

    def _identity(self, cell: Cell) -> Any:
        record = self.json("cells", cell.key)
        return None if record is None else record["identity"]

    def _load(self, path: Path) -> dict[str, Any] | None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            self._set_aside(path)
            return None
        return record if isinstance(record, dict) else None

    def _read(self, group: str, columns: Sequence[str]) -> pa.Table:
        """All rows of a group, texts as dictionaries that all parts share."""
        tables = self._parts(group, columns)
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        table = pa.concat_tables(tables) if tables else _encoded(schema.empty_table())
        tables.clear()
        return table.unify_dictionaries().combine_chunks()

    def _parts(self, group: str, columns: Sequence[str]) -> list[pa.Table]:
        """Every part of a group; listed again where one went away because its owner put its parts together."""
        read: dict[Path, pa.Table | None] = {}
        with ThreadPoolExecutor(READERS) as pool:
            while True:
                listed = set((self.folder / "rows" / group).glob("part-*.parquet")) - set(read)
                new = sorted(path for path in listed if path.name not in self._unreadable)
                tables = list(pool.map(lambda path: self._part(path, columns), new))
                read |= {path: table for path, table in zip(new, tables, strict=True) if table is not None}
                if all(table is not None for table in tables):
                    return [table for table in read.values() if table is not None]

    def _part(self, path: Path, columns: Sequence[str]) -> pa.Table | None:
        """One part, or None where it is gone or damaged. Raises StaleResults where its columns are others."""
        names: list[str] = []
        try:
            with pq.ParquetFile(path, read_dictionary=list(TEXTS), page_checksum_verification=True) as part:
                names = part.schema_arrow.names
                if names == SCHEMA.names:
                    return part.read(columns=list(columns), use_threads=False)
        except KeyError:
            names = pq.read_schema(path).names  # a column of texts is not there
        except FileNotFoundError:
            return None
        except (pa.ArrowInvalid, OSError) as error:
            if getattr(error, "errno", None):
                raise
            self._set_aside(path)
            return None
        raise StaleResults(
            f"{path} was written by another version of this program: expected the columns "
            f"{', '.join(SCHEMA.names)}, got {', '.join(names)}; nothing stored was touched"
        )

    def _set_aside(self, path: Path) -> None:
        """Move a damaged file out of the way; where that is not allowed, only remember it."""
        try:
            folder = self.folder / "damaged"
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / path.name
            os.replace(path, folder / f"{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}" if target.exists() else target)
        except FileNotFoundError:
            return  # somebody else did
        except OSError:
            self._unreadable.add(path.name)


def _encoded(table: pa.Table) -> pa.Table:
    """The table with its texts as dictionaries, as parts are read."""
    for i, name in enumerate(table.column_names):
        if name in TEXTS:
            table = table.set_column(i, name, pc.dictionary_encode(table[name]))
    return table


def _plain(table: pa.Table) -> pa.Table:
    """The table with its texts as texts."""
    return table.cast(SCHEMA)


def _among(table: pa.Table, **wanted: Collection[str] | None) -> pa.Table:
    """The rows whose text is among the wanted ones, for each column that is given."""
    for name, texts in wanted.items():
        if texts is not None:
            column = table[name].combine_chunks()
            chosen = set(texts)
            keep = np.array([text in chosen for text in column.dictionary.to_pylist()], dtype=bool)
            if not keep.all():
                table = table.filter(pa.array(keep[column.indices.to_numpy()] if len(keep) else [], pa.bool_()))
    return table


def _unique(table: pa.Table) -> pa.Table:
    """One row for each (cell, image), sorted by both."""
    key = row_keys(table)
    order = np.argsort(key, kind="stable")
    if len(key) and not np.diff(key[order]).all():
        order = np.lexsort((table["value"].to_numpy(), key))
        order = order[np.append(True, np.diff(key[order]) != 0)]
    return table.take(order)


def row_keys(table: pa.Table) -> np.ndarray:
    """A number for each row that orders rows by cell and image, equal for equal pairs: [n] int64."""
    cell, image = (_ranks(table[name].combine_chunks()) for name in ("cell", "image"))
    return cell * (1 + image.max(initial=0)) + image


def _ranks(column: pa.DictionaryArray) -> np.ndarray:
    """Each text's place among the sorted texts: [n] int64."""
    texts = np.array(column.dictionary.to_pylist(), dtype=object)
    places = np.empty(len(texts), dtype=np.int64)
    places[np.argsort(texts)] = np.arange(len(texts))
    return places[column.indices.to_numpy()] if len(texts) else np.zeros(0, dtype=np.int64)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Say which setting leads to a folder that cannot be written."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"run.results: {error}; name another folder or make room") from error
