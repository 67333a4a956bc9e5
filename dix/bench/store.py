"""Per-image rows on disk: appended atomically, never lost, never counted twice.

A results folder holds
    cells/NAMES.json        what a cell (model, data set, method, metric, protocol) means: its whole identity
    rows/NAMES/part-*.parquet   rows of one model, data set and protocol, a file per append
    skips/, failures/, provenance/   a JSON file each
    damaged/                files that could not be read, set aside
Files appear complete or not at all, so a killed run leaves nothing half-written and concurrent runs cannot collide.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dix.bench.errors import StaleResults, differing

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


@dataclass(frozen=True)
class Cell:
    """One cell of a table: five names, and everything that defines its scores.

    identity: nested plain values; equal identities give equal scores.
    """

    model: str
    dataset: str
    method: str
    metric: str
    protocol: str
    identity: Mapping[str, Any]

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

    def open(self, cells: Iterable[Cell]) -> None:
        """Announce cells before their rows are written."""
        for cell in cells:
            stored = self._identity(cell)
            if stored is None:
                record = {name: getattr(cell, name) for name in NAMES} | {
                    "cell": cell.digest,
                    "identity": cell.identity,
                }
                self.write_json("cells", cell.key, record)
                stored = self._identity(cell)
            lines = differing(stored, json.loads(json.dumps(cell.identity)))
            if lines:
                raise StaleResults(
                    f"{self.folder.parent} holds {cell.key} under another identity:\n  "
                    + "\n  ".join(lines[:12])
                    + "\n"
                    "nothing stored was touched; use another folder (run.name=NAME or run.results=PATH), or remove it"
                )

    def append(self, group: str, rows: Sequence[Row]) -> None:
        """Add rows of one group, all or none of them."""
        if not rows:
            return
        columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
        columns["parts"], columns["curve"] = ([list(v) for v in columns[name]] for name in ("parts", "curve"))
        table = pa.table(columns, schema=SCHEMA)
        folder = self._make("rows", group)
        with _atomic(folder / f"part-{uuid.uuid4().hex}.parquet") as part:
            pq.write_table(table, part, compression="zstd")

    def done(self, group: str) -> dict[str, set[str]]:
        """Image ids that are stored, by cell digest."""
        table = self._read(group, ["cell", "image"])
        done: dict[str, set[str]] = {}
        for cell, images in table.groupby("cell")["image"]:
            done[str(cell)] = set(images)
        return done

    def groups(self) -> list[str]:
        """Names of the groups that have rows."""
        return sorted(path.name for path in (self.folder / "rows").glob("*") if path.is_dir())

    def cells(self) -> list[dict[str, Any]]:
        """Every announced cell: names, digest and identity."""
        return self.read_json("cells")

    def rows(self) -> pd.DataFrame:
        """Each (cell, image) once, with the cell's names as columns; sorted, so equal stores give equal frames."""
        frames = [self._read(group, SCHEMA.names) for group in self.groups()]
        rows = pd.concat(frames) if frames else pd.DataFrame(columns=SCHEMA.names)
        names = pd.DataFrame([{k: c[k] for k in ("cell", *NAMES)} for c in self.cells()], columns=["cell", *NAMES])
        rows = rows.merge(names, on="cell", how="inner").sort_values(["cell", "image"], kind="stable")
        return rows.drop_duplicates(["cell", "image"]).reset_index(drop=True)

    def write_json(self, kind: str, name: str, record: Mapping[str, Any]) -> None:
        """Put one JSON file in place, replacing an older one."""
        with _atomic(self._make(kind) / f"{name}.json") as path:
            path.write_text(json.dumps(record, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")

    def read_json(self, kind: str) -> list[dict[str, Any]]:
        """All JSON files of a kind, by name; damaged ones are set aside."""
        found = (self._load(path) for path in sorted((self.folder / kind).glob("*.json")))
        return [record for record in found if record is not None]

    def forget(self, kind: str, name: str) -> None:
        """Remove a JSON file, if it is there."""
        (self.folder / kind / f"{name}.json").unlink(missing_ok=True)

    def damaged(self) -> list[str]:
        """Names of the files that were set aside."""
        return sorted(path.name for path in (self.folder / "damaged").glob("*"))

    def _identity(self, cell: Cell) -> Any:
        path = self.folder / "cells" / f"{cell.key}.json"
        record = self._load(path) if path.is_file() else None
        return None if record is None else record["identity"]

    def _load(self, path: Path) -> dict[str, Any] | None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            self._set_aside(path)
            return None
        return record if isinstance(record, dict) else None

    def _read(self, group: str, columns: Sequence[str]) -> pd.DataFrame:
        tables = [t for t in self._parts(group, columns) if t is not None]
        schema = pa.schema([SCHEMA.field(name) for name in columns])
        return pa.concat_tables(tables or [schema.empty_table()]).to_pandas()

    def _parts(self, group: str, columns: Sequence[str]) -> Iterator[pa.Table | None]:
        for path in sorted((self.folder / "rows" / group).glob("part-*.parquet")):
            try:
                yield pq.read_table(path, columns=list(columns))
            except (pa.ArrowInvalid, OSError):
                self._set_aside(path)

    def _set_aside(self, path: Path) -> None:
        os.replace(path, self._make("damaged") / path.name)

    def _make(self, *names: str) -> Path:
        folder = self.folder.joinpath(*names)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"run.results: cannot write to {folder} ({error.strerror}); name another folder"
            ) from error
        return folder


class _atomic:
    """Write to a temporary name beside `path`; put it in place, on disk, when the block ends well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self.temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise ValueError(f"run.results: cannot write {self.path} ({error.strerror})") from error
            return
        descriptor = os.open(self.temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(self.temporary, self.path)
