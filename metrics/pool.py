"""Work besides the model's forwards."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def later(pool: Executor | None, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
    """Start work in the pool, or postpone it where there is none; call what is returned to have the result."""
    if pool is None:
        return lambda: work(*args, **kwargs)
    return pool.submit(work, *args, **kwargs).result
