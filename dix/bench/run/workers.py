"""Processes for work besides the model's passes, and how busy a run keeps them."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from multiprocessing import get_context
from threading import Lock
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
#: Types whose values cannot change, and are what they are written as.
PLAIN = (bool, int, float, str, bytes, type(None))


class Workers(ProcessPoolExecutor):
    """Worker processes that start once, and know again what was given to them ahead. count: how many.

    Ctrl-C reaches every process of a terminal; only the main one answers it, and stops the others.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
        self.count = count
        self._lock = Lock()
        self._tasks, self._since, self._busy, self._open = 0, time.perf_counter(), 0.0, 0.0
        self._early: dict[Hashable, Future[Any]] = {}
        self._ahead = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As the executor's, counted until it is done; equal work that was started ahead is not done again."""
        if not self._ahead and not self._early:
            return self._submit(fn, *args, **kwargs)
        work = _content((fn, *args, *sorted(kwargs.items())))
        future = self._early.pop(work, None) or self._submit(fn, *args, **kwargs)
        if self._ahead:
            self._early[work] = future
        return future

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """While the block lasts, what is submitted is kept for the next who submits the same."""
        self._ahead = True
        try:
            yield
        finally:
            self._ahead = False

    def forget(self) -> None:
        """Whatever was started ahead will not be asked for any more."""
        for future in self._early.values():
            future.cancel()
        self._early.clear()

    @property
    def seconds(self) -> float:
        """Seconds of work so far: of each worker, as long as there was a task for it."""
        self._changed(0)
        return self._busy

    @property
    def open(self) -> float:
        """Seconds so far in which there was any task."""
        self._changed(0)
        return self._open

    def _submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future = super().submit(fn, *args, **kwargs)
        self._changed(1)
        future.add_done_callback(lambda _: self._changed(-1))
        return future

    def _changed(self, tasks: int) -> None:
        """There are so many tasks more from now on."""
        with self._lock:
            now = time.perf_counter()
            self._busy += min(self._tasks, self.count) * (now - self._since)
            self._open += min(self._tasks, 1) * (now - self._since)
            self._tasks, self._since = self._tasks + tasks, now


def _content(value: Any) -> Hashable:
    """Equal for equal arguments of work, to the byte; what may change in between, or is unknown, equals nothing."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.shape, value.dtype.str, blake2b(np.ascontiguousarray(value).data).digest()
    if type(value) in PLAIN:
        return type(value), repr(value)
    if isinstance(value, tuple):
        return type(value), *map(_content, value)
    parameters = getattr(type(value), "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return type(value), *(_content(getattr(value, field.name)) for field in dataclasses.fields(value))
    return value if isinstance(value, FunctionType) else object()


@contextmanager
def workers(count: int) -> Iterator[Workers | None]:
    """So many worker processes for as long as the block lasts; None for 0."""
    if count < 1:
        yield None
        return
    with Workers(count) as pool:
        try:
            yield pool
        except BaseException:  # nobody waits for what was started ahead
            pool.shutdown(wait=False, cancel_futures=True)
            raise
