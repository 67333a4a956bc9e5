"""What a run cost beside what its passes and its encoded files alone would have cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.datasets.loader import load
from dix.metrics.scattered import Codec, restore

#: Seconds of a run below which nothing is said: starting it is most of it.
LEAST = 30.0
#: Files that are encoded to time the encoder, at most a hundredth of what the run encoded.
TIMED = 3


@dataclass(frozen=True)
class Floor:
    """What a run would have cost had it made its passes and encoded its files and nothing else, at its best rates.

    wall: seconds that it took. passes, pass_seconds: forward passes of an image, and the fastest one. files,
    file_seconds: that probes encoded; 0 s where they were too few to be timed. busy: of the time in which they were
    encoded, the share of it for which each worker process had work.
    """

    wall: float
    passes: float
    pass_seconds: float
    files: int
    file_seconds: float
    busy: float = 0.0

    @property
    def times(self) -> float:
        """How many times as long the run took. Passes follow one another on all cores, files are spread over them."""
        return self.wall / (self.passes * self.pass_seconds + self.files * self.file_seconds / (os.cpu_count() or 1))

    def __str__(self) -> str:
        """For the end of a run's text."""
        files = (
            f" and {self.files:,} encoded files ({1000 * self.file_seconds:.0f} ms each)" if self.file_seconds else ""
        )
        busy = f"; while files were encoded, its workers were {self.busy:.0%} busy" if self.busy else ""
        return (
            f"took {self.wall:.0f} s, {self.times:.2f} times what its {self.passes:,.0f} passes "
            f"({1000 * self.pass_seconds:.1f} ms each){files} cost at this machine's best rate{busy}"
        )


def floor_of(jobs: Sequence[Job], outcomes: Sequence[Outcome], wall: float) -> Floor | None:
    """Of a run of jobs that share their network; None for a short run, and where nothing was counted."""
    passes, files = sum(outcome.passes for outcome in outcomes), sum(outcome.files for outcome in outcomes)
    fastest = min(outcome.pass_seconds for outcome in outcomes)
    if wall < LEAST or not passes or math.isinf(fastest):
        return None
    encoding = _encoding(jobs) if files >= 100 * TIMED else 0.0
    return Floor(wall, passes, fastest, files, encoding, _busy(jobs, outcomes))


def _busy(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> float:
    """Of the time in which workers had anything to do, the share for which each had; 0 where nothing was encoded."""
    working = jobs[0].run.workers * sum(outcome.working_seconds for outcome in outcomes)
    files = sum(outcome.files for outcome in outcomes)
    return sum(outcome.worker_seconds for outcome in outcomes) / working if working and files else 0.0


def _encoding(jobs: Sequence[Job]) -> float:
    """Seconds that a probe's encoder takes for an image of the data set, half of whose pixels are restored; 0: none."""
    codecs = [codec for job in jobs for m in job.metrics.values() if (codec := getattr(m.probe, "codec", None))]
    if not codecs or not isinstance(codecs[0], Codec):
        return 0.0
    batch = load(jobs[0].dataset, jobs[0].preprocess, jobs[0].order[:TIMED], "skip")
    pictures = (batch.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    times = []
    for picture in pictures:
        known = picture[..., 0] >= 0
        known[:, : known.shape[1] // 2] = False
        image, start = restore(picture, known), time.perf_counter()
        codecs[0].size(image)
        times.append(time.perf_counter() - start)
    return median(times) if times else 0.0
