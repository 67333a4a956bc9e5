"""`dix export`: stored rows as one tidy table, for whatever people work with."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dix.bench.store.cells import NAMES
from dix.bench.store.columns import SCHEMA, plain
from dix.bench.store.results import ResultStore
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of
from dix.files import atomic
from dix.text import printable

#: Columns of the tidy table: the names that a row's cell is known by, and all that a row says.
TIDY = (*NAMES, *(name for name in SCHEMA.names if name != "cell"))
_SCHEMA = pa.schema([*((name, pa.string()) for name in NAMES), *(SCHEMA.field(name) for name in TIDY[len(NAMES) :])])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results, in what form, and where to."""
    parser.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    parser.add_argument("--format", choices=sorted(WRITERS), default="csv", help="default csv")
    parser.add_argument(
        "--output", metavar="FILE", help="where to; - for standard output; default rows.FORMAT in the results folder"
    )
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write every stored row once: names, image, value, the parts and curve that it comes from, and its origin."""
    folders_of(arguments)  # checked as by every command; the stored records say all that is needed
    folder = results_folder(arguments.results)
    tables = tidy(ResultStore(folder))
    write = WRITERS[arguments.format]
    if arguments.output == "-":
        if arguments.format == "parquet":
            raise ValueError("--output -: parquet is no text; name a file")
        for text in write(tables):
            sys.stdout.write(text.decode())
        return 0
    path = Path(arguments.output) if arguments.output else folder / f"rows.{arguments.format}"
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--output: {path} is a folder" if path.is_dir() else f"--output: no folder {path.parent}")
    with atomic(path) as half, half.open("wb") as file:
        for content in write(tables):
            file.write(content)
    print(path)
    return 0


def tidy(store: ResultStore) -> Iterator[pa.Table]:
    """Each stored (cell, image) once, a table for each model, data set and protocol, with TIDY's columns.

    A value that is no number is missing, and its row has a reason.
    """
    cells = {str(cell["cell"]): cell for cell in store.cells()}
    for group in store.groups():
        table = plain(store.table(group, columns=SCHEMA.names))
        digests = table["cell"].to_pylist()
        names = {name: pa.array([str(cells[digest][name]) for digest in digests], pa.string()) for name in NAMES}
        rest = {name: table[name] for name in TIDY[len(NAMES) :]}
        yield pa.table({**names, **rest}, schema=_SCHEMA)


def _csv(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """Lists as JSON in their cells; a missing number is an empty cell."""
    yield (",".join(TIDY) + "\n").encode()
    for table in tables:
        frame = table.to_pandas()
        for name in ("parts", "curve"):
            frame[name] = [json.dumps([float(x) for x in values]) for values in frame[name]]
        yield _printable(frame).to_csv(index=False, header=False, lineterminator="\n").encode()


def _json(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """A list of objects, one a line; a number that is missing, or that JSON has no word for, is null."""
    yield b"["
    between = b"\n"
    for table in tables:
        for row in table.to_pylist():
            yield between + json.dumps({key: _finite(value) for key, value in row.items()}).encode()
            between = b",\n"
    yield b"\n]\n"


def _parquet(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    yield stream.getvalue().to_pybytes()


def _printable(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts without characters that act on a terminal."""
    texts = [name for name in frame if name not in ("value", "parts", "curve")]
    return frame.assign(**{name: [printable(text) for text in frame[name]] for name in texts})


def _finite(value: object) -> object:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


#: Writers by format.
WRITERS = {"csv": _csv, "json": _json, "parquet": _parquet}
