"""Rows in parts: one Parquet file an append, complete or not there, named by the checksum of its whole content.

A part appears together with its checksum in one rename, and is checked whenever it is read. Nobody waits for anybody: a
process replaces only parts of its own, and a row that lies in two parts counts once.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dix.bench.store.cells import Group
from dix.bench.store.columns import ENCODED, SCHEMA, TEXTS, among, codes, joined, plain, without
from dix.bench.store.errors import StaleResults
from dix.bench.store.quarantine import Quarantine
from dix.bench.store.records import naming_the_setting
from dix.files import write_atomic

#: A process puts so many of its own small parts together into one.
SMALL_PARTS = 64
#: Parts read at a time: a network folder answers slowly, but to many at once.
READERS = 4
#: Parts that one of the readers takes at once.
AT_ONCE = 16
#: Of a part: bytes of its file, bytes and numbers that it may unpack to. Those that are written are far smaller.
LARGEST_FILE, LARGEST_UNPACKED, MOST_NUMBERS = 2**30, 2**31, 2**28
#: Rows of the largest part that is written, and of one that is not put together with others any more.
ROWS_A_PART, LARGE_PART = 400_000, 100_000


#: Where the columns of lists stand, the only ones with more than one number a row.
_LISTS = tuple(SCHEMA.get_field_index(name) for name in ("parts", "curve"))


class Parts:
    """The parts of all groups of a store."""

    def __init__(self, store: Path, quarantine: Quarantine) -> None:
        self.folder = store / "rows"
        self.quarantine = quarantine
        self._own: dict[Group, dict[Path, int]] = {}
        self._images: dict[Path, frozenset[str]] = {}

    def append(self, group: Group, table: pa.Table) -> None:
        """Add rows of one group, all or none of them; own small parts are put together now and then."""
        if len(table) > ROWS_A_PART:
            raise ValueError(f"expected at most {ROWS_A_PART:,} rows at a time, got {len(table):,}")
        self._keep(group, self._write(group, table), len(table))
        own = self._own[group]
        if len(own) >= SMALL_PARTS or sum(own.values()) >= LARGE_PART:
            self.compact(group)

    def compact(self, group: Group) -> None:
        """Put the small parts that this process wrote together into one; other processes' files are left alone.

        The new part is in place before the old ones go: in between, rows are there twice and count once.
        """
        parts = self._own.pop(group, {})
        if len(parts) < 2:
            self._own[group] = parts
            return
        tables = [self._part(path, SCHEMA.names) for path in parts]
        if any(table is None for table in tables):
            return
        rows = pa.concat_tables(tables)
        whole = self._write(group, rows)
        self._keep(group, whole, len(rows))
        for path in parts:
            if path != whole:
                path.unlink(missing_ok=True)

    def _keep(self, group: Group, part: Path, rows: int) -> None:
        """Note an own part, if it is small enough to be put together with others."""
        own = self._own.setdefault(group, {})
        if rows < LARGE_PART:
            own[part] = rows

    def read(self, group: Group, columns: Sequence[str]) -> pa.Table:
        """All rows of a group, texts as dictionaries that all rows share."""
        return joined(list(self.each(group, columns).values()), columns)

    def each(self, group: Group, columns: Sequence[str]) -> dict[Path, pa.Table]:
        """Every part of a group; listed again where one went away because its owner put its parts together."""
        read: dict[Path, pa.Table | None] = {}
        with ThreadPoolExecutor(READERS) as pool:
            while True:
                new = [path for path in self.paths(group) if path not in read and path not in self.quarantine]
                several = [new[i : i + AT_ONCE] for i in range(0, len(new), AT_ONCE)]
                read_all = pool.map(lambda paths: [self._part(path, columns) for path in paths], several)
                tables = [table for tables in read_all for table in tables]
                read |= {path: table for path, table in zip(new, tables, strict=True) if table is not None}
                if all(table is not None for table in tables):
                    return {path: table for path, table in read.items() if table is not None}

    def some(self, group: Group, images: Collection[str], columns: Sequence[str]) -> pa.Table:
        """The rows of a few images. Of the parts, only those that hold one are unpacked, one at a time."""
        wanted = set(images)
        held = (path for path in self.paths(group) if wanted & self._images_of(path))
        tables = (self._part(path, columns) for path in held)
        return joined([among(table, image=wanted) for table in tables if table is not None], columns)

    def _images_of(self, path: Path) -> frozenset[str]:
        """The images that a part holds; a part's name says its content, so that they are looked up once."""
        if path not in self._images and path not in self.quarantine:
            self._part(path, ("image",))
        return self._images.get(path, frozenset())

    def paths(self, group: Group) -> list[Path]:
        """The files of a group, sorted by name."""
        return sorted((self.folder / group.folder).glob("*.parquet"))

    def strangers(self, groups: Iterable[Group]) -> list[str]:
        """Folders with parts that belong to none of the groups."""
        known = {group.folder for group in groups}
        return sorted({path.parent.name for path in self.folder.glob("*/*.parquet")} - known)

    def retire(self, path: Path, group: Group, cells: Collection[str]) -> None:
        """Set a part aside, after its rows of other cells have got a part of their own."""
        table = self._part(path, SCHEMA.names)
        if table is None:
            return
        kept = without(table, cells)
        if len(kept):
            self._write(group, kept)
        self.quarantine.set_aside(path)

    def rewrite(self, group: Group, change: Callable[[pa.Table], pa.Table]) -> int:
        """Replace every part of a group that `change` changes; how many rows were changed or left out.

        A part's new rows are in place before it goes: in between, rows are there twice and count once.
        """
        changed = 0
        for path, table in self.each(group, SCHEMA.names).items():
            new = change(table)
            if new.equals(table):
                continue
            changed += len(table) - len(new) or _rows_that_differ(table, new)
            if not len(new) or self._write(group, plain(new)) != path:
                path.unlink(missing_ok=True)
        return changed

    def _write(self, group: Group, table: pa.Table) -> Path:
        stream = pa.BufferOutputStream()
        pq.write_table(table.cast(SCHEMA), stream, compression="zstd")
        content = stream.getvalue()
        path = self.folder / group.folder / f"part-{_checksum(content)}.parquet"
        with naming_the_setting():
            write_atomic(path, content)
        return path

    def _part(self, path: Path, columns: Sequence[str]) -> pa.Table | None:
        """One part, or None where it is gone or wrong. Raises StaleResults where its columns are others."""
        try:
            table = _unpacked(_content(path), columns)
            if "image" in columns and path not in self._images:
                self._images[path] = frozenset(table["image"].unique().to_pylist())
            return table
        except FileNotFoundError:
            return None
        except _OtherColumns as other:
            raise StaleResults(
                f"{path} was written by another version of this program: expected the columns "
                f"{', '.join(SCHEMA.names)}, got {other}; nothing stored was touched"
            ) from None
        except (ValueError, OSError, pa.ArrowException) as error:
            if getattr(error, "errno", None):
                raise
            self.quarantine.set_aside(path)
            return None


def _rows_that_differ(one: pa.Table, other: pa.Table) -> int:
    """Rows whose cell is another."""
    first, second = (texts[places] for places, texts in (codes(table, "cell") for table in (one, other)))
    return int((first != second).sum())


class _OtherColumns(Exception):
    """A whole part whose columns are not today's; the message names them."""


def _checksum(content: bytes | pa.Buffer) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def _content(path: Path) -> bytes:
    """The bytes of a part. Raises ValueError where they are not those that its name promises."""
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path} is larger than {LARGEST_FILE} bytes")
    content = path.read_bytes()
    if path.name == f"part-{_checksum(content)}.parquet":
        return content
    if re.fullmatch(r"part-[0-9a-f]{32}\.parquet", path.name):
        names = pq.read_schema(pa.BufferReader(content)).names
        if names != SCHEMA.names:  # from before parts had checksums: it is left where it is
            raise _OtherColumns(", ".join(names))
    raise ValueError(f"{path}: the checksum is wrong")


def _unpacked(content: bytes, columns: Sequence[str]) -> pa.Table:
    """Columns of a part. Raises _OtherColumns, or ValueError where it would unpack to more than anybody writes."""
    try:
        with pq.ParquetFile(pa.BufferReader(content), read_dictionary=list(TEXTS)) as part:
            _check_sizes(part.metadata)
            table = part.read(columns=list(columns), use_threads=False)
            if part.metadata.num_columns != len(SCHEMA) or table.schema != _encoded(tuple(columns)):
                raise _OtherColumns(", ".join(part.schema_arrow.names))
            return table
    except KeyError:  # a column of texts is not there
        raise _OtherColumns(", ".join(pq.read_schema(pa.BufferReader(content)).names)) from None


@functools.cache
def _encoded(columns: tuple[str, ...]) -> pa.Schema:
    return pa.schema([ENCODED.field(name) for name in columns])


def _check_sizes(metadata: pq.FileMetaData) -> None:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    lists = sum(group.column(i).num_values for group in groups for i in _LISTS if i < metadata.num_columns)
    numbers = lists + metadata.num_rows * metadata.num_columns
    if sum(group.total_byte_size for group in groups) > LARGEST_UNPACKED or numbers > MOST_NUMBERS:
        raise ValueError("it would unpack to more than the largest part that is ever written")
