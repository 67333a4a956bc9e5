"""Show how far a job is: a bar with the time left on a terminal, plain lines in a log.

Both say something at once, and go on within a batch: one with slow methods may take minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dix.bench.run.evaluate import Progress
from dix.bench.run.job import Job
from dix.cli.output import tell
from dix.text import printable

#: Seconds between two lines in a log.
INTERVAL = 30.0


@contextmanager
def progress_of(jobs: Sequence[Job], wanted: bool) -> Iterator[Progress]:
    """A callback that shows batches done of all batches, for one job or several that run together."""
    name = jobs[0].name + "".join(f" + {job.protocol.name}" for job in jobs[1:])
    if not wanted:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(printable(name), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _lines(name)


def _bar() -> Bar:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Bar(*columns, console=Console(stderr=True))


def _lines(name: str, clock: Callable[[], float] = time.monotonic) -> Progress:
    """What a log is told. clock: seconds from anywhere."""
    start = last = clock()
    first: float | None = None
    ended = False

    def show(done: float, total: int) -> None:
        nonlocal last, first, ended
        now, batches = clock(), f"{total} batch{'es' if total != 1 else ''}"
        if first is None:
            first = done
            tell(f"{name}: {batches}")
        elif not ended and (now - last >= INTERVAL or done == total):
            last, ended = now, done == total
            spent = now - start
            left = f", about {spent / (done - first) * (total - done):.0f} s left" if first < done < total else ""
            tell(f"{name}: {done / total:.0%} of {batches}, {spent:.0f} s{left}")

    return show
