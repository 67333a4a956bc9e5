"""What a job did, told while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What a job did.

    images: explained in this run. rows: stored in this run. forwards: rows that metrics sent through the model.
    seconds: by phase, method and probe. skipped: methods that cannot explain the model, with the reason.
    failed: methods that raised or changed what others see, with the message. unread: images that could not be read,
    with the reason. silent: images that nothing can be scored for, with the reason.
    right: by labelled image, whether the clean prediction is its label.
    passes: through the network for all jobs of a run, in forward passes of one image; noted with the first job (see
    `dix.bench.run.meter`). pass_seconds: of the fastest one; infinite where none was timed. files: encoded by probes.
    worker_seconds: of work that worker processes had, each counted. working_seconds: in which any of them had work.
    trouble: why nothing that was asked for can be counted, or "".
    first_forward: when the model had seen its first batch, by `time.perf_counter`; None where it saw none.
    """

    images: int = 0
    rows: int = 0
    forwards: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    right: dict[str, bool] = field(default_factory=dict)
    passes: float = 0.0
    pass_seconds: float = float("inf")
    files: int = 0
    worker_seconds: float = 0.0
    working_seconds: float = 0.0
    trouble: str = ""
    first_forward: float | None = None

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Add the block's wall time to `seconds[what]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start
