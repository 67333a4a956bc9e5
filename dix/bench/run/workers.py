"""Processes for work besides the model's passes, and how busy a run keeps them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Workers(ProcessPoolExecutor):
    """Worker processes that start once. count: how many.

    Ctrl-C reaches every process of a terminal; only the main one answers it, and stops the others.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
        self.count = count
        self._lock = Lock()
        self._tasks, self._since, self._busy = 0, time.perf_counter(), 0.0

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As the executor's, counted from here until it is done."""
        future = super().submit(fn, *args, **kwargs)
        self._changed(1)
        future.add_done_callback(lambda _: self._changed(-1))
        return future

    @property
    def seconds(self) -> float:
        """Seconds of work so far: of each worker, as long as there was a task for it."""
        self._changed(0)
        return self._busy

    def _changed(self, tasks: int) -> None:
        """There are so many tasks more from now on."""
        with self._lock:
            now = time.perf_counter()
            self._busy += min(self._tasks, self.count) * (now - self._since)
            self._tasks, self._since = self._tasks + tasks, now


@contextmanager
def workers(count: int) -> Iterator[Workers | None]:
    """So many worker processes for as long as the block lasts; None for 0."""
    if count < 1:
        yield None
        return
    with Workers(count) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
