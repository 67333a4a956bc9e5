"""What a run cost beside what its passes and its encoded files alone would have cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from statistics import median

from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.datasets.loader import load
from dix.metrics.scattered import Codec, restore

#: Seconds of a run below which nothing is said: starting it is most of it.
LEAST = 30.0
#: Files that are encoded to time the encoder, at most a hundredth of what the run encoded.
TIMED = 3


def beside_the_floor(jobs: Sequence[Job], outcomes: Sequence[Outcome], wall: float) -> str:
    """One line, or "" for a short run and on a GPU, where the end of a pass is not seen without waiting for it.

    wall: seconds of the run. Passes of the fastest batch follow one another on all cores; files are spread over them.
    """
    passes = sum(outcome.passes for outcome in outcomes)
    files = sum(outcome.files for outcome in outcomes)
    fastest = min(outcome.pass_seconds for outcome in outcomes)
    if wall < LEAST or not passes or math.isinf(fastest) or jobs[0].classifier.device.type != "cpu":
        return ""
    each = _encoding(jobs) if files >= 100 * TIMED else 0.0
    floor = passes * fastest + files * each / (os.cpu_count() or 1)
    encoded = f" and {files:,} encoded files ({1000 * each:.0f} ms each)" if each else ""
    return (
        f"took {wall:.0f} s, {wall / floor:.2f} times what its {passes:,.0f} passes ({1000 * fastest:.1f} ms each)"
        f"{encoded} cost at this machine's best rate"
    )


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
