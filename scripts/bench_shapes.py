"""What it would cost to pad every pass through the network to a whole chunk, and whether that would move scores.

    python scripts/bench_shapes.py model=efficientnet_lite0 method=[gc,dix3] metric=[neg,sic] run.limit=2

Runs the job once in a folder of its own and notes how many rows each call of the network has. Times calls of those
sizes and of a whole chunk, and compares the logits of one image alone with its logits in a chunk, to the last bit.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from dix.bench.run import runtime
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.run.speed import seconds
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.cli.config import composed
from dix.cli.session import open_job
from dix.seeding import generator

#: Calls of a size that are timed, of which the fastest counts.
REPEATS = 5


def sizes_of(job: Job) -> Counter[int]:
    """How many calls of the network a job makes, by their rows. Tails and whole passes are alike here."""
    found: Counter[int] = Counter()
    hook = job.classifier.network.register_forward_pre_hook(lambda _m, given: found.update([len(given[0])]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            evaluate(job, ResultStore(folder))
    finally:
        hook.remove()
    return found


def times(classifier: Classifier, rows: Tensor, sizes: Sequence[int]) -> dict[int, float]:
    """Seconds of a forward pass of so many rows."""
    with torch.inference_mode():
        return {n: seconds(lambda n=n: classifier.logits(rows[:n]), classifier.device, REPEATS) for n in sizes}  # type: ignore[misc]


def moved(classifier: Classifier, rows: Tensor, sizes: Sequence[int]) -> float:
    """The largest change of a logit when the same images are part of a whole chunk."""
    with torch.inference_mode():
        whole = classifier.logits(rows)
        return max(float((classifier.logits(rows[:n]) - whole[:n]).abs().max()) for n in sizes)


def main(words: Sequence[str]) -> int:
    """Print the sizes, the cost and the change."""
    job = open_job(composed([*words, "run.progress=false"]))
    classifier, chunk, side = job.classifier, job.chunk, job.classifier.input_size
    found = sizes_of(job)
    rows = torch.rand(max(chunk, *found), 3, side, side, generator=generator(0, "shapes")).to(classifier.mean)
    padded = {n: -(-n // chunk) * chunk for n in found}
    spent = times(classifier, rows.repeat(2, 1, 1, 1), sorted({*found, *padded.values()}))
    now = sum(spent[n] * count for n, count in found.items())
    then = sum(spent[padded[n]] * count for n, count in found.items())
    print(f"{runtime.machine(classifier.device)}; {classifier.name}; chunk {chunk}; {job.count} images")
    for n, count in sorted(found.items()):
        print(f"{count:6} calls of {n:3} rows: {1000 * spent[n]:8.1f} ms, padded {1000 * spent[padded[n]]:8.1f} ms")
    print(f"all calls {now:.1f} s, padded {then:.1f} s: {100 * (then / now - 1):+.1f} %")
    print(f"largest change of a logit: {moved(classifier, rows[:chunk], [n for n in found if n < chunk] or [1]):.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
