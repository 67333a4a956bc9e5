"""`dix data confidence`: how confident a network is of each image's label, for data sets that take confident images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from dix.bench.run.batch import labels_of
from dix.bench.run.job import Job
from dix.cli.config import composed
from dix.cli.options import overrides_of
from dix.cli.session import open_job
from dix.datasets.loader import Loader
from dix.files import write_atomic


def main(arguments: argparse.Namespace) -> int:
    """Write the file and say what is in it."""
    job = open_job(composed([*overrides_of(arguments), "method=[]", "metric=[]"]))
    found = dict(confidences(job))
    record = {
        "model": job.classifier.name,
        "weights": job.classifier.weights.source,
        "dataset": job.dataset.name,
        "fingerprint": job.dataset.fingerprint(),
        "preprocess": job.preprocess.identity(),
        "confidence": {name: round(value, 4) for name, value in found.items()},
    }
    write_atomic(Path(arguments.out), json.dumps(record, indent=1) + "\n")
    print(
        f"{arguments.out}: {len(found)} labelled images, {sum(value >= 0.5 for value in found.values())} at 0.5 or more"
    )
    return 0


def confidences(job: Job) -> Iterator[tuple[str, float]]:
    """By id, the probability of each image's label. Raises ValueError where the network knows none of the labels."""
    grid = [range(i, min(i + job.run.batch_size, job.count)) for i in range(0, job.count, job.run.batch_size)]
    known = False
    for batch in Loader(job.dataset, job.preprocess, grid, job.run.workers, job.run.on_error):  # type: ignore[arg-type]
        outputs = labels_of(job, batch).to(job.classifier.device)
        with torch.no_grad():
            logits = job.classifier.logits(batch.images.to(job.classifier.mean))
        shares = job.classifier.probabilities(logits).gather(1, outputs.clamp(min=0)[:, None])[:, 0]
        known |= bool((outputs >= 0).any())
        yield from ((i, p) for i, p, o in zip(batch.ids, shares.tolist(), outputs.tolist(), strict=True) if o >= 0)
    if not known:
        raise ValueError(f"dataset: {job.classifier.name} has no output that a label of {job.dataset.name} means")
