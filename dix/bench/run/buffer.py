"""Rows on their way to the store: kept for a short while, then written together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from dix.bench.store.cells import Group
from dix.bench.store.columns import Row
from dix.bench.store.results import ResultStore


class RowBuffer:
    """Rows of one group. longest: seconds that a row may wait. before: called before rows are written.

    written: rows stored so far.
    """

    def __init__(self, store: ResultStore, group: Group, longest: float, before: Callable[[], None]) -> None:
        self.store = store
        self.group = group
        self.longest = longest
        self.before = before
        self.written = 0
        self._pending: list[Row] = []
        self._since = time.monotonic()

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows until the next time that they are due."""
        self._pending += rows

    def flush_when_due(self) -> None:
        """Write where the oldest row has waited long enough."""
        if time.monotonic() - self._since > self.longest:
            self.flush()

    def flush(self) -> None:
        """Write now."""
        self.before()
        self.store.append(self.group, self._pending)
        self.written += len(self._pending)
        self._pending = []
        self._since = time.monotonic()

    def flush_at_once(self) -> None:
        """Write now, and from now on without waiting: the end is near."""
        self.longest = 0.0
        self.flush()
