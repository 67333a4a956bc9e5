"""The scores of a run at a glance, printed where it ends; intervals, tests and marks are a report's business."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from dix.bench.run.job import Job
from dix.bench.store.results import ResultStore
from dix.bench.tables import samples
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.statistics import without_interval

#: Rows of a store of which no glance is taken: reading them would keep people waiting.
TOO_MANY = 500_000
ARROWS = {True: "\u2191", False: "\u2193", None: ""}


def glance(job: Job, store: ResultStore) -> Iterator[str]:
    """A line for each method of a job, with its stored scores; the first line says over how many images."""
    if sum(store.counts(job.group).values()) > TOO_MANY:
        return
    stored = samples.stored(store, [job.group])
    block = Block(job.protocol.name, job.dataset.name, job.classifier.name)
    counts = [len(sample.kept) for key, sample in stored.items() if key.block == block and key.method in job.methods]
    if not counts:
        return
    heads = {name: f"{m.label}{ARROWS[m.higher_is_better]}".rjust(7) for name, m in job.metrics.items()}
    rows = {method: _scores(job, stored, block, method) for method in job.methods}
    yield f"{job.name}, {_images(counts)}:"
    width = max(len(method) for method in rows)
    yield "  ".join(["", " " * width, *heads.values()])
    for method, scores in rows.items():
        if scores:
            own = [scores.get(name, "-").rjust(len(head)) for name, head in heads.items()]
            yield "  ".join(["", method.ljust(width), *own])


def _scores(job: Job, stored: Mapping[Key, Sample], block: Block, method: str) -> dict[str, str]:
    """What tables print, by metric; "-" where no image counts."""
    found = {}
    for name, metric in job.metrics.items():
        sample = stored.get(Key(block, method, name))
        if sample is not None:
            score = without_interval(sample.column(metric)).value
            found[name] = "-" if math.isnan(score) else f"{round(score, 2) + 0.0:.2f}"
    return found


def _images(counts: list[int]) -> str:
    fewest, most = min(counts), max(counts)
    return f"{most} images" if fewest == most else f"{fewest} to {most} images"
