"""The columns of a stored row, and what is done with tables of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("image", pa.string()),
        ("value", pa.float64()),
        ("parts", pa.list_(pa.float64())),
        ("curve", pa.list_(pa.float32())),
        ("reason", pa.string()),
        ("note", pa.string()),
        ("content", pa.string()),
        ("origin", pa.string()),
    ]
)
#: Columns with few distinct texts: kept as numbers into a list of them.
TEXTS = ("cell", "image", "reason", "note", "content", "origin")
#: What a row found, without where it came from.
FINDINGS = ("cell", "image", "value", "parts", "curve", "reason", "note")
#: The columns as parts are read.
ENCODED = pa.schema(
    [pa.field(f.name, pa.dictionary(pa.int32(), pa.string())) if f.name in TEXTS else f for f in SCHEMA]
)


@dataclass(frozen=True)
class Row:
    """What one image scored in one cell (see metrics.api.Scores).

    note: remarks that do not exclude it. content: digest of what was read for the image: pixels, mask and label.
    origin: digest of the record of what computed it (`origins/`): device, threads, batch grid, chunk, versions.
    """

    cell: str
    image: str
    value: float
    parts: Sequence[float] = ()
    curve: Sequence[float] = ()
    reason: str = ""
    note: str = ""
    content: str = ""
    origin: str = ""


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    columns["parts"], columns["curve"] = ([list(v) for v in columns[name]] for name in ("parts", "curve"))
    return pa.table(columns, schema=SCHEMA)


def joined(tables: Sequence[pa.Table], columns: Sequence[str]) -> pa.Table:
    """Tables as one, texts as dictionaries that all rows share."""
    schema = pa.schema([ENCODED.field(name) for name in columns])
    # `schema.empty_table()` is the same and imports pandas, a third of a second of every start.
    empty = pa.table([pa.nulls(0, field.type) for field in schema], schema=schema)
    return pa.concat_tables([*tables, empty]).unify_dictionaries().combine_chunks()


def plain(table: pa.Table) -> pa.Table:
    """The table with its texts as texts."""
    return table.cast(pa.schema([SCHEMA.field(name) for name in table.column_names]))


def codes(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of texts as numbers [n] and the texts that they stand for."""
    column = table[name].combine_chunks()
    return _numbers(column.indices), np.array(column.dictionary.to_pylist(), dtype=object)


def _numbers(column: pa.Array) -> np.ndarray:
    """Whole numbers as they lie in memory; `to_numpy` is the same and imports pandas, as `empty_table` does."""
    if column.null_count:
        return np.asarray(column.to_numpy())  # which refuses them
    kind = np.dtype(str(column.type))
    start, memory = column.offset * kind.itemsize, column.buffers()[1]
    return np.frombuffer(memory, kind, len(column), start) if len(column) else np.zeros(0, kind)


def among(table: pa.Table, **wanted: Collection[str] | None) -> pa.Table:
    """The rows whose text is among the wanted ones, for each column that is given."""
    for name, texts in wanted.items():
        if texts is not None:
            places, known = codes(table, name)
            chosen = set(texts)
            keep = np.array([text in chosen for text in known], dtype=bool)
            if not keep.all():
                table = table.filter(pa.array(keep[places] if len(keep) else [], pa.bool_()))
    return table


def without(table: pa.Table, cells: Collection[str]) -> pa.Table:
    """The rows of other cells."""
    places, digests = codes(table, "cell")
    others = np.array([digest not in cells for digest in digests], dtype=bool)
    return table.filter(pa.array(others[places] if len(others) else [], pa.bool_()))


def row_keys(table: pa.Table) -> np.ndarray:
    """A number for each row that orders rows by cell and image, equal for equal pairs: [n] int64."""
    cell, image = (_ranks(table, name) for name in ("cell", "image"))
    return cell * (1 + image.max(initial=0)) + image


def _ranks(table: pa.Table, name: str) -> np.ndarray:
    """Each text's place among the sorted texts: [n] int64."""
    numbers, texts = codes(table, name)
    places = np.empty(len(texts), dtype=np.int64)
    places[np.argsort(texts)] = np.arange(len(texts))
    return places[numbers] if len(texts) else np.zeros(0, dtype=np.int64)


def counted(table: pa.Table, name: str) -> dict[str, dict[str, int]]:
    """How many rows have each text of a column, by cell."""
    (cell, cells), (other, texts) = codes(table, "cell"), codes(table, name)
    pairs, counts = np.unique(cell.astype(np.int64) * (1 + len(texts)) + other, return_counts=True)
    found: dict[str, dict[str, int]] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        found.setdefault(cells[pair // (1 + len(texts))], {})[texts[pair % (1 + len(texts))]] = count
    return found


def different(table: pa.Table, name: str) -> dict[str, int]:
    """How many different texts a column has, by cell."""
    (cell, cells), (other, texts) = codes(table, "cell"), codes(table, name)
    pairs = np.sort(cell.astype(np.int64) * (1 + len(texts)) + other)  # np.unique takes five times as long
    pairs = pairs[np.append(True, np.diff(pairs) != 0)[: len(pairs)]]
    counts = np.bincount(pairs // (1 + len(texts)), minlength=len(cells))
    return dict(zip(cells.tolist(), counts.tolist(), strict=True))
