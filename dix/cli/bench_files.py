"""What `dix bench` measured, in files that can be compared: a row a measurement, with all that it hangs on."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dix.files import write_atomic

#: What two rows must share to be compared: what was measured, of what, and how.
SETTING = ("kind", "model", "weights", "dtype", "batch", "chunk", "steps", "row")
#: Where a row was measured.
MACHINE = ("machine", "torch")
#: Numbers: seconds an image, and what is known beside them.
NUMBERS = ("seconds", "passes", "floor", "library", "literal")
COLUMNS = (*SETTING, *MACHINE, *NUMBERS, "note")
#: No file of measurements has more bytes.
LARGEST = 10_000_000

Row = Mapping[str, str]


def written(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows of one bench, so that they are whole or not there."""
    out = io.StringIO(newline="")
    table = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(path, out.getvalue())


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file. Raises ValueError where it is none that `dix bench` writes."""
    if not path.is_file():
        raise ValueError(f"no file {path}; `dix bench methods --csv {path}` writes one")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: larger than {LARGEST:,} bytes, so it is no file of `dix bench`")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table: {error}") from error
    if not rows or any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)} and at least one row")
    return rows


def compared(one: Path, other: Path) -> Iterator[str]:
    """Lines: where both were measured, and for each row of both how many times as long the first took.

    Raises ValueError where the files measure different things or in different ways.
    """
    first, second = ({row["row"]: row for row in read(path)} for path in (one, other))
    shared = [name for name in first if name in second]
    if not shared:
        raise ValueError(f"{one} and {other} have no row in common: {', '.join(first)} and {', '.join(second)}")
    for name in shared:
        _check_alike(first[name], second[name], one, other)
    for path, rows in ((one, first), (other, second)):
        yield f"{path}: {'; '.join(dict.fromkeys(', '.join(row[key] for key in MACHINE) for row in rows.values()))}"
    yield f"{'':24}{'first':>10}{'second':>10}{'ratio':>8}  seconds an image"
    for name in shared:
        a, b = _number(first[name]["seconds"], one), _number(second[name]["seconds"], other)
        yield f"{name:24}{a:10.4f}{b:10.4f}{a / b:8.2f}"
    for path, names in ((one, set(first) - set(second)), (other, set(second) - set(first))):
        if names:
            yield f"only in {path}: {', '.join(sorted(names))}"


def _check_alike(first: Row, second: Row, one: Path, other: Path) -> None:
    different = [key for key in SETTING if first[key] != second[key]]
    if different:
        what = "; ".join(f"{key} {first[key]!r} and {second[key]!r}" for key in different)
        raise ValueError(
            f"{one} and {other} measure {first['row']} in different ways ({what}); run both with the same settings"
        )


def _number(text: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0 or math.isinf(value):
        raise ValueError(f"{path}: expected a time above 0 in the column seconds, got {text!r}")
    return value
