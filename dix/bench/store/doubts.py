"""Why stored numbers should not be trusted yet, in words for whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator

from dix.bench.store.status import Status

#: Names that are listed before "and more".
LISTED = 5


def doubts(status: Status) -> list[str]:
    """A line for each kind of fault that was found; none where the store is sound."""
    return [*_conflicts(status), *_lost(status), *status.unknown, *_damaged(status)]


def _conflicts(status: Status) -> Iterator[str]:
    if status.conflicts.total:
        cells = [cell for cell in status.cells if cell.conflicts]
        named = [f"{cell.conflicts:,} in {cell.method} {cell.metric} of {cell.group.title}" for cell in cells]
        yield (
            f"conflict: {status.conflicts.total:,} images of {len(cells):,} cells are stored twice with different "
            f"results ({_some(named)}; for example {status.conflicts.examples[0]}). The first row counts, in an order "
            "that does not look at the score; find out which run is wrong, and compute these cells in a new folder"
        )


def _lost(status: Status) -> Iterator[str]:
    lost = status.total("lost")
    if lost:
        yield f"lost: {lost:,} rows that finished jobs had stored are gone; run the same jobs again to restore them"


def _damaged(status: Status) -> Iterator[str]:
    if status.damaged:
        yield (
            f"damaged: {len(status.damaged):,} files were not what was written and count for nothing, in store/damaged "
            f"({_some(status.damaged)}); run the same jobs again to restore what is missing, then remove that folder"
        )


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f", and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
