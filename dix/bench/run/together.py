"""Which jobs can share a run: those that differ in nothing but their protocol, as far as that leaves images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dix.bench.run.job import Job

#: Settings of a protocol that decide what the network is and what it is shown: one run has one of each.
ONE = ("dtype", "tf32", "preprocess", "antialias")


def check_together(jobs: Sequence[Job]) -> None:
    """Raise ValueError that names what differs where jobs cannot share a run."""
    if not jobs:
        raise ValueError("protocol: expected at least one, got none; `dix list protocol` shows all")
    first = jobs[0]
    names = [job.protocol.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"protocol.name: expected a name of its own for each protocol of a job, got {twice[0]!r} more than once"
        )
    for job in jobs[1:]:
        for key in ONE:
            one, other = getattr(first.protocol, key), getattr(job.protocol, key)
            if one != other:
                raise ValueError(
                    f"protocol.{key}: expected one value for all protocols of a job, got {one!r} in {names[0]} and "
                    f"{other!r} in {job.protocol.name}; run them as jobs of their own (-m protocol={','.join(names)})"
                )
        _check_parts(first, job)


def _check_parts(first: Job, job: Job) -> None:
    run = replace(first.run, only=job.run.only)
    same = {
        "model": job.classifier is first.classifier,
        "dataset": job.dataset is first.dataset,
        "method": dict(job.methods) == dict(first.methods),
        "preprocess": job.preprocess == first.preprocess,
        "run": job.run == run,
    }
    other = [name for name, equal in same.items() if not equal]
    if other:
        raise ValueError(
            f"{other[0]}: expected the same for all protocols of a job, got another for {job.protocol.name} than for "
            f"{first.protocol.name}; run them as jobs of their own"
        )
