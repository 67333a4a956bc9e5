"""What a job costs before it starts: work counted from its cells, times the prices that a short calibration measured.

Model forwards of the metrics are exact: they are counted by running the probes with a model that only counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dix.bench.run import plan
from dix.bench.run.gallery import Gallery
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
    able = [name for name in job.methods if name not in job.unsupported()]
    work = Work()
    for step in plan.steps(job, store, Gallery(store.folder.parent, job), able):
        if step.wanted:
            wanted = [(method, metric) for method, metrics in step.wanted.items() for metric in metrics]
            work.add(job, len(step.indices), wanted, list(step.wanted))
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
    """Rows through the model, and seconds outside it, of one probe for all methods."""
    maps = sum(images for (_, other), images in work.probes.items() if other == probe)
    first, more = prices.first[probe], prices.more[probe]
    further = maps - work.shared[probe]
    rows = first.rows * work.shared[probe] + more.rows * further
    return rows, first.seconds * work.shared[probe] + more.seconds * further
