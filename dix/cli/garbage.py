"""Load code and networks without looking for garbage, of which loading makes none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Python looks for no cycles of dead objects while the block lasts, which is a seventh of the time of a start.

    It looks whenever hundreds of objects more are there, and imports make a million that stay.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
