"""Count every row that goes through the network: several protocols in one job against the first of them alone.

    python scripts/count_forwards.py                        # Table 1's methods and metrics under thesis, ltx and bee
    python scripts/count_forwards.py method=[gc] metric=[neg]

A hook on the network counts the rows of every call: clean passes, points of a path, altered images. A pass through a
tail calls the network as well, and counts in full.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence

import torch

from dix.bench.run.evaluate import evaluate_together
from dix.bench.run.job import Job
from dix.bench.store.results import ResultStore
from dix.cli.config import together
from dix.cli.session import open_jobs

WORDS = (
    "protocol=[thesis,ltx,bee]",
    "method=[gc,gcpp,lift,ac,ig,gig,big,fg,lc,xgc,dix2,dix3]",
    "metric=[neg,pos,ins,deletion,adp,pic,sic,aic]",
    "run.limit=1",
    "run.gallery=0",
)


def counted(jobs: Sequence[Job]) -> tuple[int, int]:
    """Rows through the network in all, and those that metrics asked for."""
    seen = 0

    def count(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += len(arguments[0])

    with tempfile.TemporaryDirectory() as folder, jobs[0].classifier.network.register_forward_pre_hook(count):
        outcomes = evaluate_together(jobs, ResultStore(folder))
    failed = {name: why for outcome in outcomes for name, why in outcome.failed.items()}
    if failed:
        raise RuntimeError(f"failed: {failed}")
    return seen, sum(outcome.forwards for outcome in outcomes)


def main(words: Sequence[str]) -> None:
    """Print both counts and their ratios."""
    given = {word.split("=")[0] for word in words}
    configs = together([*(word for word in WORDS if word.split("=")[0] not in given), *words])
    jobs = open_jobs(configs, [""] * len(configs))
    one, several = counted(jobs[:1]), counted(jobs)
    names = ", ".join(job.protocol.name for job in jobs)
    for what, alone, shared in zip(("all", "metrics alone"), one, several, strict=True):
        print(f"{what}: {alone:,} forwards for {jobs[0].protocol.name}, {shared:,} for {names}: {shared / alone:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
