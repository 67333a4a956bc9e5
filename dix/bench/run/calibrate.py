"""Run every part of a job once on a few images and time it.

`calibrate` gives the prices that `dix.bench.run.estimate.forecast` multiplies by what is left to do.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import TypeVar

import torch
from torch import Tensor, nn

from dix.bench.run.batch import Maps, Prepared, maps, predict, prepare
from dix.bench.run.checks import check_purpose, check_removal
from dix.bench.run.job import Job
from dix.bench.run.prices import Price, Prices
from dix.bench.run.scorer import Score, Scorer
from dix.bench.store.cells import Group
from dix.bench.store.columns import Row
from dix.bench.store.results import ResultStore
from dix.datasets.loader import Batch, load
from dix.maps import min_max
from dix.metrics.answers import answer
from dix.metrics.api import Case, ImageBatch, Prediction, Probe, Trace
from dix.passes import Passes
from dix.pictures import png_bytes

T = TypeVar("T")
Clock = Callable[[], float]
#: Forwards of a full chunk that are timed, after one that is not.
REPEATS = 3
#: Methods whose maps are probed.
FEW = 4
#: Rows that stand for one another when the size of stored rows is measured.
COPIES = 50


def calibrate(
    job: Job, images: int = 2, pool: Executor | None = None, clock: Clock = time.perf_counter, start: float = 0.0
) -> Prices:
    """Run every part of the job once on its first images.

    pool: as the run will have. clock: seconds. start: what starting the job took so far.
    Raises ValueError where none of these images can be read.
    """
    device = job.classifier.device
    timed = _Timer(clock, device)
    check_purpose(job.methods, job.metrics, job.run)
    check_removal(job.classifier, job.metrics, job.protocol)
    indices = range(min(images, job.run.batch_size, len(job.dataset.ids)))
    batch, read = timed(lambda: load(job.dataset, job.preprocess, indices, "skip"))
    if not batch.ids:
        raise ValueError("dix estimate: none of the data set's first images can be read")
    forward, count = _forward(job, batch, timed), len(batch.ids)
    resting = memory(device)
    grown = _whole_batch(job, batch) - resting
    prepared, clean = timed(lambda: prepare(job, batch, pool))
    explained, made = _explain(job, prepared.passes, timed)
    used = memory(device)
    scored = _score(job, _Images(prepared, made), timed)
    file_bytes, row_bytes = _stored(scored.rows)
    return Prices(
        start=start + scored.start,
        forward=forward,
        read=read / count,
        clean=clean / count,
        explain=explained,
        first=scored.first,
        more=scored.more,
        score=scored.seconds,
        again=scored.again,
        file_bytes=file_bytes,
        row_bytes=row_bytes,
        picture_bytes=median([_picture(each.values[0]) for each in made] or [0.0]),
        memory=used + max(0.0, grown) * (1 - count / job.run.batch_size),
    )


@dataclass(frozen=True)
class _Timer:
    """Call something and say how long it took, the device's own work included."""

    clock: Clock
    device: torch.device

    def __call__(self, what: Callable[[], T]) -> tuple[T, float]:
        start = self._now()
        result = what()
        return result, self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()


def _forward(job: Job, batch: Batch, timed: _Timer) -> float:
    """Seconds of one row in a full chunk."""
    pixels = batch.images.to(device=job.classifier.device, dtype=job.classifier.dtype)
    rows = pixels.repeat(-(-job.chunk // len(pixels)), 1, 1, 1)[: job.chunk]
    targets = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    times = [timed(lambda: predict(job.classifier, rows, targets, job.chunk))[1] for _ in range(1 + REPEATS)]
    return median(times[1:]) / len(rows)


def _whole_batch(job: Job, batch: Batch) -> float:
    """The most memory in use after a clean pass of a whole batch with its gradients: what a calibration lacks."""
    rows = [i % len(batch.ids) for i in range(job.run.batch_size)]
    whole = replace(
        batch,
        ids=tuple(f"{batch.ids[row]}-{copy}" for copy, row in enumerate(rows)),
        images=batch.images[rows],
        labels=batch.labels[rows],
        masks=None,
        has_mask=torch.zeros(len(rows), dtype=torch.bool),
        contents=[batch.contents[row] for row in rows],
    )
    prepare(job, whole).passes.gradient(next(iter(job.classifier.layers)))
    return memory(job.classifier.device)


def _explain(job: Job, passes: Passes, timed: _Timer) -> tuple[dict[str, Price], list[Maps]]:
    """Every able method's price in the job's order, in which later methods find evidence that earlier ones paid."""
    prices, made, skipped, count = {}, [], job.unsupported(), len(passes.ids)
    for name, method in job.methods.items():
        if name not in skipped:
            with _counting(job.classifier.network) as rows:
                one, seconds = timed(lambda method=method: maps(method, passes, job.protocol.map_resize))  # type: ignore[misc]
            prices[name] = Price(seconds / count, sum(rows) / count)
            made.append(one)
    return prices, made


@contextmanager
def _counting(network: nn.Module) -> Iterator[list[int]]:
    """The rows of every forward pass of the whole network."""
    rows: list[int] = []
    hook = network.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    try:
        yield rows
    finally:
        hook.remove()


@dataclass(frozen=True)
class _Images:
    """The calibration's images and maps as probes see them."""

    prepared: Prepared
    made: Sequence[Maps]

    @property
    def ids(self) -> Sequence[str]:
        """Of the images."""
        return self.prepared.images.ids

    def fresh(self) -> ImageBatch:
        """A batch that remembers nothing yet."""
        return replace(self.prepared.images, _memo={})

    @property
    def classes(self) -> int:
        """Of the network."""
        return self.prepared.passes.logits.shape[1]

    @property
    def some(self) -> list[Maps]:
        """Maps of a few of the methods, which stand for all: what a probe costs depends on the map."""
        sound = [each for each in self.made if not any(each.faults)]
        grey = self.prepared.images.images.mean(dim=1)
        return sound[:: max(1, len(sound) // FEW)][:FEW] or [Maps(grey, ("",) * len(grey))]


@dataclass
class _Scored:
    """What probes and metrics cost, and the rows that they made."""

    start: float = 0.0
    first: dict[Probe, Price] = field(default_factory=dict)
    more: dict[Probe, Price] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def _score(job: Job, images: _Images, timed: _Timer) -> _Scored:
    """Run every distinct probe on a few maps, once more to warm up, and every metric once."""
    scored, again, count = _Scored(), 0, len(images.ids)

    def explained(altered: Tensor) -> Tensor:
        nonlocal again
        again += len(altered)
        return altered.mean(dim=1)  # counted, not timed: what it costs depends on the method

    first, batch = images.some[0], images.fresh()
    case = Case(batch, first.values, explain=explained, explain_as=lambda targets: explained(batch.images))
    scorer = Scorer(first, case, _Counted([], images.classes))
    for name, metric in job.metrics.items():
        if metric.probe is not None and metric.probe not in scorer.traces:
            scorer.traces[metric.probe] = _probe_prices(metric.probe, images, timed, scored)
        before = again
        scores, seconds = timed(lambda metric=metric: scorer.score(metric))  # type: ignore[misc]
        scored.seconds[name] = seconds / count
        scored.again[name] = (again - before) / count
        scored.rows += _rows(name, images.ids, scores)
    return scored


def _probe_prices(probe: Probe, images: _Images, timed: _Timer, scored: _Scored) -> Trace:
    """Note what a probe costs for the first map of an image and for a further one; the trace of the first."""
    first, *others = [*images.some, images.some[0]]
    _, warm = _traced(probe, Case(images.fresh(), first.values), timed)
    batch = images.fresh()
    trace, scored.first[probe] = _traced(probe, Case(batch, first.values), timed)
    more = [_traced(probe, Case(batch, each.values), timed)[1] for each in others]
    scored.more[probe] = Price(mean(price.seconds for price in more), mean(price.rows for price in more))
    scored.start += max(0.0, warm.seconds - scored.first[probe].seconds) * len(images.ids)
    return trace


@dataclass(frozen=True)
class _Counted:
    """A model that says nothing worth knowing and counts the rows that it is asked about, those without some of their
    patches like whole ones.
    """

    rows: list[int]
    classes: int

    def __call__(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        self.rows.append(len(images))
        return answer(torch.zeros(len(images), self.classes, device=images.device), targets)


def _traced(probe: Probe, case: Case, timed: _Timer) -> tuple[Trace, Price]:
    """One probe of one batch with a model that only counts."""
    logits = case.batch.clean.logits
    model = _Counted([], 1 if logits is None else logits.shape[1])
    trace, seconds = timed(lambda: probe.trace(case, model))
    count = len(case.batch.ids)
    return trace, Price(seconds / count, sum(model.rows) / count)


def _rows(metric: str, ids: Sequence[str], scores: Sequence[Score]) -> list[Row]:
    return [
        Row(metric, image, score.value, score.parts, score.curve, score.reason)
        for image, score in zip(ids, scores, strict=True)
    ]


def _stored(rows: Sequence[Row]) -> tuple[float, float]:
    """Bytes of a file with one row, and of each further row of the metrics' mixture (the store joins small files)."""
    if not rows:
        return 0.0, 0.0
    many = [_varied(row, copy) for row in rows for copy in range(COPIES)]
    with tempfile.TemporaryDirectory() as folder:
        one, all_ = (_written(Path(folder) / name, some) for name, some in (("one", rows[:1]), ("all", many)))
    return one, max(0.0, all_ - one) / len(many)


def _varied(row: Row, copy: int) -> Row:
    """Another image's row of the same size, whose numbers compress as badly."""
    factor = 1 - copy / 1009
    parts, curve = ([number * factor for number in numbers] for numbers in (row.parts, row.curve))
    return Row(row.cell, f"{row.image}{copy}", row.value * factor, parts, curve, row.reason)


def _written(folder: Path, rows: Sequence[Row]) -> float:
    ResultStore(folder).append(Group("m", "d", "p"), rows)
    return float(sum(path.stat().st_size for path in folder.rglob("*.parquet")))


def _picture(explanation: Tensor) -> float:
    """Bytes of a map's picture."""
    safe = torch.nan_to_num(explanation.float(), nan=0.0, posinf=1.0, neginf=0.0)
    grey = (255 * min_max(safe[None])[0]).round().byte().cpu().numpy()
    return float(len(png_bytes(grey)))


def memory(device: torch.device) -> float:
    """The most bytes that this process has had in use: on the GPU where it works there, else in memory."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
