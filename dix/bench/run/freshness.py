"""Are stored rows still about the images that the data set holds now? Asked batch by batch, so that nothing waits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dix.bench.run import runtime
from dix.bench.run.job import Job
from dix.bench.store.errors import StaleResults
from dix.bench.store.results import ResultStore
from dix.datasets.loader import Batch, contents


class Freshness:
    """The digests of the images that a store has rows of."""

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.job = job
        self.folder = store.folder.parent
        self.known = store.contents(job.group)

    def check_batch(self, batch: Batch) -> None:
        """Raise StaleResults where a batch that was read holds an image that is not the stored one."""
        self._check(dict(zip(batch.ids, batch.contents, strict=True)))

    def check_stored(self, indices: Sequence[int]) -> None:
        """The same for images that need not be decoded, since all their rows are stored."""
        if self.known:
            self._check(contents(self.job.dataset, indices, self.job.run.workers))

    def _check(self, found: Mapping[str, str]) -> None:
        changed = [image for image, digest in found.items() if digest and self.known.get(image, digest) != digest]
        if changed:
            more = f" (and {len(changed) - 1} more of its batch)" if len(changed) > 1 else ""
            raise StaleResults(
                f"dataset {self.job.dataset.name}: {changed[0]}{more} has changed since its rows in {self.folder} were "
                "computed: its pixels, its mask or its label; nothing stored was touched; use another folder "
                "(run.name=NAME or run.results=PATH), or put the old files back"
            )


def origin(job: Job) -> dict[str, Any]:
    """What computes a job's rows and must not change a score by more than rounding."""
    return {
        "device": runtime.machine(job.classifier.device),
        "threads": torch.get_num_threads(),
        "batch_size": job.run.batch_size,
        "chunk": job.chunk,
        "deterministic": job.run.deterministic,
        "commit": runtime.git_commit(),
        "versions": runtime.versions(),
    }


def keep_origin(job: Job, store: ResultStore) -> str:
    """Put the record of what computes the job's rows into the store; the digest that rows carry."""
    record = origin(job)
    digest = hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=8).hexdigest()
    if store.json("origins", digest) is None:
        store.write_json("origins", digest, record)
    return digest
