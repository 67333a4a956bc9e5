"""A results folder's store: everything that runs have written, as others read it.

cells/      what a cell (model, data set, method, metric, protocol) means: its whole identity
rows/       a folder for each model, data set and protocol, with a file an append
jobs/, skips/, failures/, unread/, clean/, provenance/, origins/, sweeps/, orders/, sequences/,
validations/   JSON records
damaged/    files that are not what they should be, set aside
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dix.bench.store import clock
from dix.bench.store.cells import NAMES, Group, StoredCell, cell_of
from dix.bench.store.columns import ENCODED, FINDINGS, SCHEMA, Row, among, codes, counted, different, plain, table_of
from dix.bench.store.conflicts import Conflicts, settled, usable
from dix.bench.store.errors import StaleResults, differing
from dix.bench.store.quarantine import Quarantine
from dix.bench.store.records import Records
from dix.bench.store.rows import Parts

if TYPE_CHECKING:
    import pandas as pd

#: What a row without a usable number is reported with.
NO_NUMBER = "the stored value is not a number"


@dataclass(frozen=True)
class Overview:
    """A group's rows in numbers, by cell digest: images, rows by origin, images with contradicting rows."""

    counts: Mapping[str, int]
    origins: Mapping[str, Mapping[str, int]]
    conflicts: Conflicts


class ResultStore:
    """The rows and records under one results folder.

    Raises ValueError where the folder cannot be written, StaleResults where it holds other results by the same names.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / "store"
        self.quarantine = Quarantine(self.folder)
        self.records = Records(self.folder, self.quarantine)
        self.parts = Parts(self.folder, self.quarantine)

    # Cells

    def open(self, cells: Iterable[StoredCell]) -> None:
        """Announce cells before their rows are written. How a known cell is printed follows the last who announces it.

        Rows of a cell whose record somebody removed do not come back: their parts are set aside.
        """
        clock.sweep_up(self.folder)
        known = self._cells()
        wanted = list(cells)
        self._retire([cell for cell in wanted if cell.key not in known])
        for cell in wanted:
            if cell.key not in known:
                self.records.write("cells", cell.key, cell.record())
            stored = self.records.get("cells", cell.key) or cell.record()
            lines = self.stale(cell.title, stored["identity"], json.loads(json.dumps(cell.identity)))
            if lines:
                raise StaleResults(
                    "\n  ".join(lines) + "\n"
                    "nothing stored was touched; use another folder (run.name=NAME or run.results=PATH), or remove it"
                )
            if stored["printed"] != dict(cell.printed):
                self.records.write("cells", cell.key, {**stored, "printed": dict(cell.printed)})

    def stale(self, title: str, stored: Any, wanted: Any) -> list[str]:
        """How a cell's stored identity differs from another: a heading and some lines, or nothing."""
        lines = differing(stored, wanted)
        return [f"{self.folder.parent} holds {title} under another identity:", *lines[:12]] if lines else []

    def cells(self) -> list[dict[str, Any]]:
        """Every announced cell: names, digest and identity."""
        return [cell.record() for cell in self._cells().values()]

    def groups(self) -> list[Group]:
        """The groups that have rows."""
        groups = {cell.group for cell in self._cells().values()}
        return sorted(group for group in groups if (self.parts.folder / group.folder).is_dir())

    def _cells(self) -> dict[str, StoredCell]:
        """Announced cells by key; a record that is not what it says is set aside."""
        found = {}
        for name, record in self.records.all("cells").items():
            try:
                cell = cell_of(record)
                if cell.key != name:
                    raise ValueError(f"{cell.title}: a record of another name")
                found[name] = cell
            except ValueError:
                self.quarantine.set_aside(self.records.path("cells", name))
        return found

    def _retire(self, cells: Sequence[StoredCell]) -> None:
        """Set aside stored rows of cells whose record is gone, unless it is gone because it was damaged."""
        lost = [c for c in cells if not self.quarantine.holds(self.records.path("cells", c.key).name)]
        for group in sorted({cell.group for cell in lost}):
            digests = {cell.digest for cell in lost if cell.group == group}
            parts = self.parts.each(group, ("cell",))
            digests -= {cell.digest for cell in self._cells().values()}  # announced and stored by another process
            for path, table in parts.items():
                if len(among(table, cell=digests)):
                    self.parts.retire(path, group, digests)

    # Rows

    def append(self, group: Group, rows: Sequence[Row]) -> None:
        """Add rows of one group, all or none of them."""
        if rows:
            self.parts.append(group, table_of(rows))

    def append_table(self, group: Group, table: pa.Table) -> None:
        """Add rows of one group that are a table already, all or none of them."""
        self.parts.append(group, table)

    def compact(self, group: Group) -> None:
        """Put the small parts that this process wrote together into one."""
        self.parts.compact(group)

    def done(
        self, group: Group, cells: Collection[str] | None = None, images: Collection[str] | None = None
    ) -> dict[str, set[str]]:
        """Image ids that are stored, by cell digest; only some cells and images, where they are given."""
        table = among(self.parts.read(group, ("cell", "image")), cell=cells, image=images)
        (cell, digests), (image, names) = codes(table, "cell"), codes(table, "image")
        order = np.argsort(cell, kind="stable")
        counts = np.bincount(cell, minlength=len(digests))
        found = np.split(names[image[order]], np.cumsum(counts)[:-1]) if len(names) else []
        pairs = zip(digests.tolist(), found, strict=False)
        return {digest: set(own.tolist()) for digest, own in pairs if len(own)}

    def counts(self, group: Group) -> dict[str, int]:
        """How many images are stored, by cell digest."""
        return different(self.parts.read(group, ("cell", "image")), "image")

    def contents(self, group: Group) -> dict[str, str]:
        """The digest of what was read for each image whose rows say it; of several, the first in their order."""
        table = self.parts.read(group, ("image", "content"))
        (image, names), (content, digests) = codes(table, "image"), codes(table, "content")
        pairs = np.unique(image.astype(np.int64) * (1 + len(digests)) + content)
        found = [(names[pair // (1 + len(digests))], digests[pair % (1 + len(digests))]) for pair in pairs.tolist()]
        return dict(sorted((pair for pair in found if pair[1]), reverse=True))

    def origins(self, group: Group) -> dict[str, dict[str, int]]:
        """How many rows each origin computed, by cell digest; rows that do not say it have the origin ""."""
        return counted(self.parts.read(group, ("cell", "origin")), "origin")

    def table(
        self,
        group: Group,
        cells: Collection[str] | None = None,
        images: Collection[str] | None = None,
        columns: Sequence[str] = FINDINGS,
    ) -> pa.Table:
        """What each announced (cell, image) of a group found, once, sorted by both, texts as dictionaries.

        Of rows that differ the first counts, in the order of `conflicts`. A value that is no number is NaN, with a
        reason. columns: FINDINGS, or all of SCHEMA's.
        """
        table = self._announced(group, columns, cells, images)
        if len(columns) < len(SCHEMA) and _doubled(table):
            table = self._announced(group, SCHEMA.names, cells, images)
        return _said(settled(table)[0].select(list(columns)))

    def some(self, group: Group, images: Collection[str], columns: Sequence[str] = FINDINGS) -> pa.Table:
        """As `table`, for a few images of a large group, without holding more than one part in memory."""
        announced = {cell.digest for cell in self._cells().values()}
        rows = among(self.parts.some(group, images, SCHEMA.names), cell=announced)
        return _said(settled(rows)[0]).select(list(columns))

    def overview(self, group: Group) -> Overview:
        """What a group holds, in numbers; read in full only where rows lie there twice."""
        table = self.parts.read(group, ("cell", "image", "origin"))
        conflicts = settled(self._announced(group))[1] if _doubled(table) else Conflicts()
        return Overview(different(table, "image"), counted(table, "origin"), conflicts)

    def conflicts(self) -> Conflicts:
        """Where stored rows of one cell and image contradict each other."""
        found = Conflicts()
        for group in self.groups():
            found.add(self.overview(group).conflicts)
        return found

    def rows(self, images: Collection[str] | None = None) -> pd.DataFrame:
        """Each (cell, image) once, with the cell's names as columns; sorted, so equal stores give equal frames.

        images: only these. A frame of all rows of a large store takes some kB a row; `table` takes a tenth of it.
        """
        import pandas as pd  # not at the top: a page of results starts half a second sooner without it

        tables = [plain(self.table(group, images=images, columns=SCHEMA.names)) for group in self.groups()]
        rows = pa.concat_tables(tables or [SCHEMA.empty_table()]).to_pandas()
        names = pd.DataFrame([{k: c[k] for k in ("cell", *NAMES)} for c in self.cells()], columns=["cell", *NAMES])
        rows = rows.merge(names, on="cell", how="inner").sort_values(["cell", "image"], kind="stable")
        return rows.reset_index(drop=True)

    def _announced(
        self,
        group: Group,
        columns: Sequence[str] = tuple(SCHEMA.names),
        cells: Collection[str] | None = None,
        images: Collection[str] | None = None,
    ) -> pa.Table:
        announced = {cell.digest for cell in self._cells().values()}
        wanted = announced if cells is None else announced & set(cells)
        return among(self.parts.read(group, columns), cell=wanted, image=images)

    # Records

    def write_json(self, kind: str, name: str, record: Mapping[str, Any]) -> None:
        """Put one record in place, replacing an older one."""
        self.records.write(kind, name, record)

    def names(self, kind: str) -> list[str]:
        """The names of all records of a kind."""
        return sorted(self.records.all(kind))

    def read_json(self, kind: str) -> list[dict[str, Any]]:
        """All records of a kind; those that are not what they should be are set aside."""
        return list(self.records.all(kind).values())

    def json(self, kind: str, name: str) -> dict[str, Any] | None:
        """One record, or None where there is none."""
        return self.records.get(kind, name)

    def forget(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        self.records.forget(kind, name)

    def damaged(self) -> list[str]:
        """Names of the files that were set aside, and of those that could not even be moved."""
        return self.quarantine.names()


def _doubled(table: pa.Table) -> bool:
    """Whether two rows belong to one cell and image."""
    return sum(different(table, "image").values()) < len(table)


def _said(table: pa.Table) -> pa.Table:
    """The table with NaN and a reason where a value is infinite, or not there and nothing says why."""
    value = table["value"].to_numpy()
    odd = np.isinf(value) | (np.isnan(value) & ~usable(table))
    if not odd.any():
        return table
    places, texts = codes(table, "reason")
    reasons = np.where(odd & (texts[places] == ""), NO_NUMBER, texts[places])
    columns = {"value": pa.array(np.where(odd, np.nan, value)), "reason": pa.array(reasons).dictionary_encode()}
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), ENCODED.field(name), column)
    return table
