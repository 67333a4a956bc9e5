"""What a run until all is decided will cost, from a pilot of its first images: stored rows, or a trial of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dix.bench.run.estimate import Forecast, Work, forecast
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.run.prices import Prices
from dix.bench.run.until import UntilDecided
from dix.bench.store.results import ResultStore
from dix.bench.tables.sequential import Cell, Family
from dix.bench.tables.statistics import Floats
from dix.datasets.api import Dataset
from dix.datasets.subset import Subset

#: Resamples of the pilot, each of which gives a cost; and the quantiles of these that are told.
RESAMPLES = 100
RANGE = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Prospect:
    """What a decision will cost.

    images: of the pilot. own: whether they were computed for it. comparisons: how many there are, and how many are
    decided before the last image in the middle of the resamples. forecasts: cheap, middling and dear. needed: images by
    metric, the middle of the cell that needs most.
    """

    images: int
    own: bool
    comparisons: int
    decided: int
    forecasts: tuple[Forecast, ...]
    needed: Mapping[str, int]


def prospect(job: Job, store: ResultStore, prices: Prices, pilot: int) -> Prospect:
    """The cost from the first image on, from stored rows of `pilot` images or more, else from a trial of so many.

    Raises ValueError where a pilot of fewer than two images is asked for, or the trial gives no scores.
    """
    if pilot < 2:
        raise ValueError(f"dix estimate --pilot: expected at least 2 images, got {pilot}")
    wanted = min(pilot, len(job.order))
    family = UntilDecided(job, store).family
    own = _seen(family) < wanted
    if own:
        family = _trial(job, wanted)
    seen = _seen(family)
    if seen < 2:
        raise ValueError("dix estimate: the pilot gave no scores of two methods; is there anything to compare?")
    ends = _ends(family, seen)
    cells = _needed(family, ends)
    drawn = [{cell: float(images[r]) for cell, images in cells.items()} for r in range(RESAMPLES)]
    costs = [forecast(job, prices, _work(job, needed)) for needed in drawn]
    costs.sort(key=lambda cost: cost.total_seconds)
    middle = {cell: int(np.median(images)) for cell, images in cells.items()}
    return Prospect(
        seen,
        own,
        len(ends),
        sum(float(np.median(end)) < family.rule.length for end in ends),
        tuple(costs[int(share * (RESAMPLES - 1))] for share in RANGE),
        {name: max(middle[cell] for cell in middle if cell.metric == name) for name in job.metrics},
    )


def _seen(family: Family) -> int:
    """Images from the first on of which every cell has a row."""
    return min((track.complete for track in family.tracks.values()), default=0)


@dataclass(frozen=True)
class _First:
    """Images by position."""

    positions: tuple[int, ...]

    def indices(self, dataset: Dataset) -> Sequence[int]:
        """The positions themselves."""
        return self.positions


def _trial(job: Job, images: int) -> Family:
    """Compute the first images of the order, for nobody but the forecast."""
    first = Subset(job.dataset, _First(tuple(job.order[:images])))
    run = replace(job.run, until="all", limit=None, shard=[0, 1], gallery=0, maps=0, maps_of=[], only="all")
    with tempfile.TemporaryDirectory() as folder:
        store = ResultStore(folder)
        evaluate(replace(job, dataset=first, run=run), store)
        return UntilDecided(job, store).family


def _ends(family: Family, seen: int) -> list[Floats]:
    """Images of the order until each comparison is decided, or the order's end, by resample: [RESAMPLES] each."""
    generator = np.random.default_rng(0)
    counts = generator.multinomial(seen, np.full(seen, 1 / seen), size=RESAMPLES).astype(float)
    ends = []
    for pursuit in family.pursuits:
        places = pursuit.places(0, seen)
        chosen = counts[:, places]
        chosen[chosen.sum(axis=1) == 0] = 1.0
        images = pursuit.outlook(chosen, places) * seen / len(places) if len(places) else np.full(RESAMPLES, np.inf)
        ends.append(np.clip(images, min(family.rule.least, family.rule.length), family.rule.length))
    return ends


def _needed(family: Family, ends: Sequence[Floats]) -> dict[Cell, Floats]:
    """Images that each cell is needed for, by resample."""
    least = np.full(RESAMPLES, float(min(family.rule.least, family.rule.length)))
    needed = dict.fromkeys(family.tracks, least)
    for pursuit, end in zip(family.pursuits, ends, strict=True):
        for cell in pursuit.comparison.cells:
            needed[cell] = np.maximum(needed[cell], end)
    return needed


def _work(job: Job, needed: Mapping[Cell, float]) -> Work:
    """The images of each cell, batch by batch, as the work of a run."""
    size, count = job.run.batch_size, len(job.order)
    whole = {cell: min(count, -(-int(images) // size) * size) for cell, images in needed.items()}
    work, before = Work(), 0
    for end in sorted(set(whole.values())):
        wanted = [(cell.method, cell.metric) for cell, images in whole.items() if images >= end]
        work.add(job, end - before, wanted, [])
        before = end
    return replace(work, batches=-(-before // size))
