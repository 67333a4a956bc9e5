"""The scores that a pack says it has, and whether they follow from its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dix.bench.tables.table import Table, TableCell

#: Relative tolerance of a score, and the share of an interval's width by which its ends may differ: sums are in another
#: order on another machine, and a quantile of resamples may fall on the next one.
SCORE, WIDTH = 1e-6, 0.1

Summary = Mapping[str, Any]
_NAMES = ("model", "dataset", "protocol", "method", "metric")


def summaries_of(cells: Iterable[TableCell]) -> list[dict[str, Any]]:
    """Every measured cell's score with its interval and images, NaN as None."""
    return [_summary(cell) for cell in cells if cell.status == "measured"]


def _summary(cell: TableCell) -> dict[str, Any]:
    block = cell.key.block
    numbers = {name: _plain(getattr(cell, name)) for name in ("low", "high")}
    names = {"model": block.model, "dataset": block.dataset, "protocol": block.protocol}
    excluded = sum(cell.excluded.values())
    own = {"method": cell.key.method, "metric": cell.key.metric, "score": _plain(cell.value)}
    return {**names, **own, **numbers, "n": cell.n, "excluded": excluded}


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def inconsistencies(said: Sequence[Summary], table: Table) -> list[str]:
    """What a pack says of its scores that its rows do not give, a line each; none where all is reproduced."""
    found = {_key(one): one for one in summaries_of(table.cells.values())}
    told = {_key(one): one for one in said}
    lines = [f"{_title(key)}: no row gives it" for key in sorted(told.keys() - found.keys())]
    lines += [f"{_title(key)}: its rows give a score that is not told" for key in sorted(found.keys() - told.keys())]
    for key in sorted(told.keys() & found.keys()):
        lines += [f"{_title(key)}: {fault}" for fault in _faults(told[key], found[key])]
    return lines


def _key(summary: Summary) -> tuple[str, ...]:
    return tuple(summary[name] for name in _NAMES)


def _title(key: tuple[str, ...]) -> str:
    return " \u00b7 ".join(key)


def _faults(told: Summary, found: Summary) -> Iterator[str]:
    for name in ("n", "excluded"):
        if told[name] != found[name]:
            yield f"{name}: told {told[name]}, its rows give {found[name]}"
    score = found["score"]
    if not _near(told["score"], score, SCORE * abs(score or 0) + 1e-9):
        yield f"score: told {told['score']}, its rows give {score}"
    width = 0.0 if found["low"] is None else found["high"] - found["low"]
    for name in ("low", "high"):
        if not _near(told[name], found[name], WIDTH * width + 1e-6):
            yield f"{name}: told {told[name]}, its rows give {found[name]}"


def _near(told: float | None, found: float | None, apart: float) -> bool:
    if told is None or found is None:
        return told is found
    return abs(told - found) <= apart
