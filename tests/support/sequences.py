"""Jobs whose comparisons are decided early, late or never, for tests of runs that go on until all is decided."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.store.results import ResultStore
from dix.passes import Passes
from support import engine_jobs as parts

IMAGES = 90


@dataclass(frozen=True)
class Mixed(parts.Brightness):
    """Brightness with noise, seeded by the image: the more of it, the worse the map."""

    noise: float = 0.0
    salt: int = 0

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] brightness plus noise."""
        maps = super().explain(passes)
        drawn = [
            torch.rand(maps.shape[1:], generator=torch.Generator().manual_seed(int(image[5:]) + 1000 * self.salt))
            for image in passes.ids
        ]
        return maps + self.noise * torch.stack(drawn)


def job(images: int = IMAGES, **run: object) -> Job:
    """Two methods alike but for their noise, and one that is much worse; two metrics."""
    methods = {"good": Mixed(), "alike": Mixed(noise=0.02, salt=1), "poor": Mixed(noise=20.0, salt=2)}
    made = parts.job(methods, dataset=parts.Made(images), until="decided", least=6, **run)
    return replace(made, metrics={name: made.metrics[name] for name in ("deletion", "neg")})


def compute(folder: Path, images: int = IMAGES, **run: object) -> int:
    """Run the job; images that were explained."""
    return evaluate(job(images, **run), ResultStore(folder)).images


if __name__ == "__main__":
    # A process to be killed: FOLDER SHARD SHARDS, with a pause after every batch.
    folder, shard, shards = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    evaluate(job(shard=[shard, shards]), ResultStore(folder), lambda done, total: time.sleep(0.1))
    os._exit(0)
