"""What a job costs before it starts: work counted from its cells, times the prices that a short calibration measured.

Model forwards of the metrics are exact: they are counted by running the probes with a model that only counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dix.bench.run import plan
from dix.bench.run.gallery import Gallery, kept_images
from dix.bench.run.job import Job
from dix.bench.run.prices import Prices
from dix.bench.store.results import ResultStore
from dix.metrics.api import Probe


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


#: Bytes of a stored map beside its numbers, of 2 bytes a pixel where they do not compress.
MAP_EXTRA = 600


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
    return remaining_together([job], store)


def alike(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs of one run in groups that explain the same classes by the same rule, and so share maps and probes.

    Where a rule happens to give another group's classes a run shares more than a forecast can know.
    """
    found: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        protocol = job.protocol
        key = (protocol.target, protocol.unlabelled == "drop", protocol.seed, protocol.map_resize)
        found.setdefault(key, []).append(job)
    return list(found.values())


def joined(jobs: Sequence[Job]) -> Job:
    """The first of some alike jobs with the metrics of all, which costs what they cost together."""
    metrics = {_named(jobs, job, name): metric for job in jobs for name, metric in job.metrics.items()}
    return replace(jobs[0], metrics=metrics)


def _named(jobs: Sequence[Job], job: Job, metric: str) -> str:
    """A job's metric among those of several protocols."""
    return metric if len(jobs) == 1 else f"{job.protocol.name} {metric}"


def remaining_together(jobs: Sequence[Job], store: ResultStore) -> Work:
    """What a run of alike jobs would compute, in the names of `joined`."""
    work, whole = Work(), joined(jobs)
    able = [name for name in whole.methods if name not in whole.unsupported()]
    plans = [plan.steps(job, store, Gallery(store.folder.parent, job), able) for job in jobs]
    for steps in zip(*plans, strict=True):
        wanted = [
            (method, _named(jobs, job, metric))
            for job, step in zip(jobs, steps, strict=True)
            for method, metrics in step.wanted.items()
            for metric in metrics
        ]
        pictured = [method for step in steps for method in step.wanted]
        if pictured:
            work.add(whole, len(steps[0].indices), wanted, pictured)
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
    kept = kept_images(job)
    pictures = min(len(kept[".png"] | kept[".npz"]), work.images) * (len(work.methods) + 1)
    numbers = min(len(kept[".npz"]), work.images) * len(work.methods) * (2 * job.preprocess.size**2 + MAP_EXTRA)
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
        disk=min(1, work.batches) * prices.file_bytes
        + stored * prices.row_bytes
        + pictures * prices.picture_bytes
        + numbers,
        memory=prices.memory,
    )


def _probe(prices: Prices, work: Work, probe: Probe) -> tuple[float, float]:
    """Rows through the model, and seconds outside it, of one probe for all methods."""
    maps = sum(images for (_, other), images in work.probes.items() if other == probe)
    first, more = prices.first[probe], prices.more[probe]
    further = maps - work.shared[probe]
    rows = first.rows * work.shared[probe] + more.rows * further
    return rows, first.seconds * work.shared[probe] + more.seconds * further
