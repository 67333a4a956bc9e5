"""What a job costs before it starts: work counted from its cells, times scaled from a short calibration.

`calibrate` runs every part of the job once on a few images; `forecast` multiplies by what is left to do. Model
forwards of the metrics are exact: they are counted by running the probes with a model that only counts.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import TypeVar

import torch
from torch import Tensor, nn

from dix.bench.run.evaluate import explain, predict
from dix.bench.run.job import Job
from dix.bench.store.cells import Group
from dix.bench.store.columns import Row
from dix.bench.store.results import ResultStore
from dix.datasets.loader import Batch, load
from dix.maps import faults, min_max
from dix.metrics.api import Case, ImageBatch, Prediction, Probe, Scores, Trace
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


@dataclass(frozen=True)
class Price:
    """What something costs for one image: seconds beside the model, and rows that go through the model."""

    seconds: float = 0.0
    rows: float = 0.0


@dataclass(frozen=True)
class Prices:
    """Everything that a calibration measured.

    start: seconds of starting a job. forward: seconds of one row in a full chunk. read, clean: of one image.
    explain: by method. first, more: by probe, for the first map of an image and for each further one (some probes
    share work between the maps of an image). score: seconds by metric. again: by metric, altered images that are
    explained for each map. file_bytes, row_bytes: of the store;
    picture_bytes: of the pictures that reports show. memory: peak in bytes, for a whole batch.
    """

    start: float = 0.0
    forward: float = 0.0
    read: float = 0.0
    clean: float = 0.0
    explain: Mapping[str, Price] = field(default_factory=dict)
    first: Mapping[Probe, Price] = field(default_factory=dict)
    more: Mapping[Probe, Price] = field(default_factory=dict)
    score: Mapping[str, float] = field(default_factory=dict)
    again: Mapping[str, float] = field(default_factory=dict)
    file_bytes: float = 0.0
    row_bytes: float = 0.0
    picture_bytes: float = 0.0
    memory: float = 0.0


@dataclass
class Work:
    """What is left to do: images in batches that lack something; images by method, by (method, metric), by (method,
    probe), and by probe whatever the method.
    """

    images: int = 0
    batches: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    probes: Counter[tuple[str, Probe]] = field(default_factory=Counter)
    shared: Counter[Probe] = field(default_factory=Counter)

    def add(self, job: Job, images: int, wanted: Sequence[tuple[str, str]], pictured: Sequence[str]) -> None:
        """Count one batch that lacks the `wanted` cells (method, metric), and pictures of the `pictured` methods."""
        probed = {(method, probe) for method, metric in wanted if (probe := job.metrics[metric].probe) is not None}
        self.images += images
        self.batches += 1
        self.methods.update(dict.fromkeys([*dict(wanted), *pictured], images))
        self.cells.update(dict.fromkeys(wanted, images))
        self.probes.update(dict.fromkeys(probed, images))
        self.shared.update(dict.fromkeys((probe for _, probe in probed), images))


@dataclass(frozen=True)
class Forecast:
    """The cost of a job.

    forwards: rows that metrics send through the model. explain_forwards: rows that methods send through the whole
    model (passes through a part of it count in the seconds alone). seconds: by phase. disk, memory: bytes.
    """

    job: str
    images: int
    rows: int
    forwards: int
    explain_forwards: int
    seconds: Mapping[str, float]
    disk: float
    memory: float

    @property
    def total_seconds(self) -> float:
        """All phases together."""
        return sum(self.seconds.values())


def remaining(job: Job, store: ResultStore) -> Work:
    """What a run of the job would compute, after what the store holds."""
    stored, cells = store.done(job.group), job.cells()
    able = [name for name in job.methods if name not in job.unsupported()]
    work = Work()
    for indices in job.batches():
        ids = {job.dataset.ids[i] for i in indices}
        wanted = [names for names, cell in cells.items() if not ids <= stored.get(cell.digest, set())]
        pictured = [] if job.metrics or indices[0] >= job.run.gallery else able
        if wanted or pictured:
            work.add(job, len(indices), wanted, pictured)
    return work


def forecast(job: Job, prices: Prices, work: Work) -> Forecast:
    """Prices times work. Where the model is not on the CPU, a probe's own work is done while the model runs."""
    seconds = {"start": prices.start, "read": prices.read * work.images, "clean": prices.clean * work.images}
    for method, images in work.methods.items():
        seconds[f"explain {method}"] = prices.explain[method].seconds * images
    forwards = 0.0
    for probe in work.shared:
        rows, beside = _probe(prices, work, probe)
        model = rows * prices.forward
        together = model + beside if job.classifier.device.type == "cpu" else max(model, beside)
        phase = f"probe {type(probe).__name__}"
        seconds[phase] = seconds.get(phase, 0.0) + together
        forwards += rows
    seconds["score"] = sum(prices.score[metric] * n for (_, metric), n in work.cells.items())
    again = {(method, metric): prices.again[metric] * n for (method, metric), n in work.cells.items()}
    if any(again.values()):
        seconds["explain again"] = sum(
            (prices.clean + prices.explain[method].seconds) * n for (method, _), n in again.items()
        )
    stored = sum(work.cells.values())
    pictures = min(job.run.gallery, work.images) * (len(work.methods) + 1)
    return Forecast(
        job=job.name,
        images=work.images,
        rows=stored,
        forwards=round(forwards),
        explain_forwards=round(
            sum(prices.explain[name].rows * n for name, n in work.methods.items())
            + sum((1 + prices.explain[name].rows) * n for (name, _), n in again.items())
        ),
        seconds=seconds,
        disk=min(1, work.batches) * prices.file_bytes + stored * prices.row_bytes + pictures * prices.picture_bytes,
        memory=prices.memory,
    )


def _probe(prices: Prices, work: Work, probe: Probe) -> tuple[float, float]:
    """Rows through the model, and seconds beside it, of one probe for all methods."""
    maps = sum(images for (_, other), images in work.probes.items() if other == probe)
    first, more = prices.first[probe], prices.more[probe]
    further = maps - work.shared[probe]
    rows = first.rows * work.shared[probe] + more.rows * further
    return rows, first.seconds * work.shared[probe] + more.seconds * further


def calibrate(
    job: Job, images: int = 2, pool: Executor | None = None, clock: Clock = time.perf_counter, start: float = 0.0
) -> Prices:
    """Run every part of the job once on its first images.

    pool: as the run will have. clock: seconds. start: what starting the job took so far.
    Raises ValueError where none of these images can be read.
    """
    timed = _Timer(clock, job.classifier.device)
    indices = range(min(images, job.run.batch_size, len(job.dataset.ids)))
    batch, read = timed(lambda: load(job.dataset, job.preprocess, indices, "skip"))
    if not batch.ids:
        raise ValueError("dix estimate: none of the data set's first images can be read")
    pixels = batch.images.to(device=job.classifier.device, dtype=job.classifier.dtype)
    forward, count = _forward(job, pixels, timed), len(batch.ids)
    resting = memory(job.classifier.device)
    grown = _whole_batch(job, batch, pixels) - resting
    passes, clean = timed(lambda: _clean(job, batch, pixels))
    explained, maps = _explain(job, passes, timed)
    used = memory(job.classifier.device)
    scored = _score(job, _Images(batch, passes, maps, pool), timed)
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
        picture_bytes=median([_picture(m[0]) for m in maps] or [0.0]),
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


def _forward(job: Job, pixels: Tensor, timed: _Timer) -> float:
    """Seconds of one row in a full chunk."""
    rows = pixels.repeat(-(-job.chunk // len(pixels)), 1, 1, 1)[: job.chunk]
    targets = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    times = [timed(lambda: predict(job.classifier, rows, targets, job.chunk))[1] for _ in range(1 + REPEATS)]
    return median(times[1:]) / len(rows)


def _whole_batch(job: Job, batch: Batch, pixels: Tensor) -> float:
    """The most memory in use after a clean pass of a whole batch with its gradients: what a calibration lacks."""
    repeats = -(-job.run.batch_size // len(pixels))
    rows = pixels.repeat(repeats, 1, 1, 1)[: job.run.batch_size]
    ids = [f"{name}-{copy}" for copy in range(repeats) for name in batch.ids][: job.run.batch_size]
    passes = Passes(job.classifier, rows, ids=ids, chunk=job.chunk, seed=job.protocol.seed)
    passes.gradient(next(iter(job.classifier.layers)))
    return memory(job.classifier.device)


def _clean(job: Job, batch: Batch, pixels: Tensor) -> Passes:
    passes = Passes(job.classifier, pixels, ids=batch.ids, chunk=job.chunk, seed=job.protocol.seed)
    assert passes.logits is not None
    return passes


def _explain(job: Job, passes: Passes, timed: _Timer) -> tuple[dict[str, Price], list[Tensor]]:
    """Every able method's price in the job's order, in which later methods find evidence that earlier ones paid."""
    prices, maps, skipped, count = {}, [], job.unsupported(), len(passes.ids)
    for name, method in job.methods.items():
        if name not in skipped:
            with _counting(job.classifier.network) as rows:
                made, seconds = timed(lambda method=method: explain(method, passes, job.protocol.map_resize))  # type: ignore[misc]
            prices[name] = Price(seconds / count, sum(rows) / count)
            maps.append(made)
    return prices, maps


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
    """The calibration's images as probes see them."""

    batch: Batch
    passes: Passes
    maps: Sequence[Tensor]
    pool: Executor | None

    def fresh(self) -> ImageBatch:
        """A batch that remembers nothing yet."""
        logits, targets = self.passes.logits, self.passes.targets
        masks = self.batch.masks
        return ImageBatch(
            ids=self.batch.ids,
            images=self.passes.images,
            targets=targets,
            clean=Prediction(self.passes.score(logits, kind="probability"), logits.argmax(dim=1)),
            labels=torch.full_like(targets, -1),
            masks=None if masks is None else masks.to(targets.device),
            has_mask=self.batch.has_mask.to(targets.device),
            pool=self.pool,
        )

    @property
    def some(self) -> list[Tensor]:
        """Maps of a few of the methods, which stand for all: what a probe costs depends on the map."""
        sound = [made for made in self.maps if not any(faults(made))]
        return sound[:: max(1, len(sound) // FEW)][:FEW] or [self.passes.images.mean(dim=1)]


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
    scored, traces, again = _Scored(), {}, 0

    def explained(altered: Tensor) -> Tensor:
        nonlocal again
        again += len(altered)
        return altered.mean(dim=1)  # counted, not timed: what it costs depends on the method

    case = Case(images.fresh(), images.some[0], explain=explained)
    for name, metric in job.metrics.items():
        probe = metric.probe
        if probe is not None and probe not in traces:
            traces[probe] = _probe_prices(probe, images, timed, scored)
        given, before = None if probe is None else traces[probe], again
        scores, seconds = timed(lambda metric=metric, given=given: metric.score(case, given))  # type: ignore[misc]
        scored.seconds[name] = seconds / len(images.batch.ids)
        scored.again[name] = (again - before) / len(images.batch.ids)
        scored.rows += _rows(name, images.batch.ids, scores)
    return scored


def _probe_prices(probe: Probe, images: _Images, timed: _Timer, scored: _Scored) -> Trace:
    """Note what a probe costs for the first map of an image and for a further one; the trace of the first."""
    first, *others = [*images.some, images.some[0]]
    _, warm = _traced(probe, Case(images.fresh(), first), timed)
    batch = images.fresh()
    trace, scored.first[probe] = _traced(probe, Case(batch, first), timed)
    more = [_traced(probe, Case(batch, maps), timed)[1] for maps in others]
    scored.more[probe] = Price(mean(price.seconds for price in more), mean(price.rows for price in more))
    scored.start += max(0.0, warm.seconds - scored.first[probe].seconds) * len(images.batch.ids)
    return trace


def _traced(probe: Probe, case: Case, timed: _Timer) -> tuple[Trace, Price]:
    """One probe of one batch with a model that only counts."""
    rows: list[int] = []

    def counted(images: Tensor, targets: Tensor) -> Prediction:
        rows.append(len(images))
        return Prediction(torch.full_like(targets, 0.5, dtype=torch.float32), targets)

    trace, seconds = timed(lambda: probe.trace(case, counted))
    count = len(case.batch.ids)
    return trace, Price(seconds / count, sum(rows) / count)


def _rows(metric: str, ids: Sequence[str], scores: Scores) -> list[Row]:
    value, parts, curve = (t.double().cpu().tolist() for t in (scores.value, scores.parts, scores.curve))
    return [Row(metric, image, value[i], parts[i], curve[i], scores.reasons[i]) for i, image in enumerate(ids)]


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
