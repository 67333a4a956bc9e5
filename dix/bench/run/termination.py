"""SIGTERM: store what there is, then do what would have been done. SLURM sends it before it kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(SystemExit):
    """The process was asked to end: nobody's failure."""


@contextmanager
def on_termination(act: Callable[[], None]) -> Iterator[None]:
    """On SIGTERM act first, then do what would have been done; where nothing was set, leave by Terminated.

    A launcher's other signals raise an exception, which stores rows on its way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def handle(number: int, frame: Any) -> None:
        act()
        if callable(before):
            try:
                before(number, frame)
            except SystemExit as error:
                raise Terminated(error.code) from error
        elif before == signal.SIG_DFL:
            raise Terminated(128 + number)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
