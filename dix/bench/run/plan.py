"""What a run has to do: the batches of its grid, and what each of them lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dix.bench.run.gallery import Gallery
from dix.bench.run.job import Job
from dix.bench.store.results import ResultStore


@dataclass(frozen=True)
class Step:
    """One batch of the grid.

    indices: of its images in the data set. wanted: the metrics to compute for each method; a method without metrics
    is explained for its pictures alone. Empty where the batch is complete.
    """

    indices: Sequence[int]
    wanted: Mapping[str, Sequence[str]]


def steps(job: Job, store: ResultStore, gallery: Gallery, methods: Sequence[str]) -> list[Step]:
    """The whole grid in order, of which these methods are to be computed."""
    grid, cells, ids = job.batches(), job.cells(), job.dataset.ids
    mine = {ids[i] for indices in grid for i in indices}
    stored = store.done(job.group, {cell.digest for cell in cells.values()}, mine)
    found = []
    for indices in grid:
        images = {ids[i] for i in indices}
        wanted: dict[str, list[str]] = {method: [] for method in methods if gallery.wants(indices, method)}
        for (method, metric), cell in cells.items():
            if method in methods and not images <= stored.get(cell.digest, set()):
                wanted.setdefault(method, []).append(metric)
        found.append(Step(indices, {method: wanted[method] for method in methods if method in wanted}))
    return found
