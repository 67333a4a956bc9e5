"""Run a job: load, explain, probe, score, store; only what the store does not hold yet."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from dix.bench.run.gallery import Gallery
from dix.bench.run.job import Job
from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.ledger import Ledger
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.datasets.loader import Batch, Loader
from dix.explainer import Explainer
from dix.maps import faults, resize
from dix.metrics.api import Case, ImageBatch, Metric, Prediction, Probe, Scores, Trace
from dix.passes import Passes, halving

log = logging.getLogger("dix")

#: Called after each batch with (batches done, batches in all).
Progress = Callable[[int, int], None]


@dataclass
class Outcome:
    """What a job did.

    images: explained in this run. rows: stored in this run. forwards: rows that metrics sent through the model.
    seconds: by phase, method and probe. skipped: methods that cannot explain the model, with the reason.
    failed: methods that raised, with the message. unread: images that could not be read, with the reason.
    right: by labelled image, whether the clean prediction is its label.
    first_forward: when the model had seen its first batch, by `time.perf_counter`; None where it saw none.
    """

    images: int = 0
    rows: int = 0
    forwards: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    right: dict[str, bool] = field(default_factory=dict)
    first_forward: float | None = None

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Add the block's wall time to `seconds[what]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def evaluate(job: Job, store: ResultStore, progress: Progress | None = None) -> Outcome:
    """Compute and store every row of the job's shard that is not stored yet.

    A method that raises is recorded in the outcome and in the store, and does not stop the others.
    """
    return _Evaluation(job, store).run(progress or (lambda done, total: None))


class _Evaluation:
    """The state of one run of a job."""

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.job = job
        self.store = store
        self.outcome = Outcome(skipped=job.unsupported())
        self.cells = job.cells()
        self.ledger = Ledger(store, job.undertaking(), job.run.flush_seconds)
        self.right = dict((store.json("clean", self.ledger.key) or {"right": {}})["right"])
        self.gallery = Gallery(store.folder.parent, job)
        self.failed_images: dict[str, list[str]] = {}
        self.pending: list[Row] = []
        self.flushed = time.monotonic()
        self.longest = job.run.flush_seconds

    def run(self, progress: Progress) -> Outcome:
        self.store.open(self.cells.values())
        self._record_skips()
        grid = self.job.batches()
        methods = self._methods_to_run()
        with self.ledger as ledger, _on_termination(self._flush_soon):
            todo = self._open_batches(grid, methods)
            show = _both(progress, lambda done, total: ledger.advance(done, self.outcome.images))
            show(len(grid) - len(todo), len(grid))
            with self._pool() as pool:
                try:
                    self._batches(todo, pool, lambda done: show(len(grid) - len(todo) + done, len(grid)))
                finally:
                    self._flush()
            self.store.compact(self.job.group)
            for name in set(methods) - set(self.outcome.failed):
                self.store.forget("failures", self._failure_name(name))
        return self.outcome

    def _batches(
        self,
        todo: Sequence[tuple[Sequence[int], dict[str, list[str]]]],
        pool: ProcessPoolExecutor | None,
        show: Callable[[int], None],
    ) -> None:
        loader = self._loader([indices for indices, _ in todo])
        for done, ((indices, wanted), batch) in enumerate(zip(todo, loader, strict=True), 1):
            self._batch(indices, batch, wanted, pool)
            show(done)

    def _open_batches(
        self, grid: Sequence[Sequence[int]], methods: Sequence[str]
    ) -> list[tuple[Sequence[int], dict[str, list[str]]]]:
        """Batches with the metrics to compute for each method; complete ones are left out."""
        mine = {self.job.dataset.ids[i] for indices in grid for i in indices}
        stored = self.store.done(self.job.group, {cell.digest for cell in self.cells.values()}, mine)
        todo = []
        for indices in grid:
            ids = {self.job.dataset.ids[i] for i in indices}
            wanted: dict[str, list[str]] = {}
            for (method, metric), cell in self.cells.items():
                if method in methods and not ids <= stored.get(cell.digest, set()):
                    wanted.setdefault(method, []).append(metric)
            for method in methods:
                if self.gallery.wants(indices, method):
                    wanted.setdefault(method, [])
            if wanted:
                todo.append((indices, wanted))
        return todo

    def _loader(self, batches: Sequence[Sequence[int]]) -> Loader:
        run = self.job.run
        return Loader(self.job.dataset, self.job.preprocess, batches, run.workers, run.on_error)  # type: ignore[arg-type]

    def _methods_to_run(self) -> list[str]:
        """All that can explain the model; of those, where only what failed is asked for, what failed."""
        able = [name for name in self.job.methods if name not in self.outcome.skipped]
        if self.job.run.only == "all" or self.ledger.unfinished:
            return able
        failed = {record["method"] for record in self.store.read_json("failures") if record["job"] == self.job.name}
        return [name for name in able if name in failed]

    @contextmanager
    def _pool(self) -> Iterator[ProcessPoolExecutor | None]:
        if self.job.run.workers < 1:
            yield None
            return
        with ProcessPoolExecutor(self.job.run.workers, mp_context=get_context("spawn")) as pool:
            yield pool

    def _batch(
        self, indices: Sequence[int], batch: Batch, wanted: Mapping[str, list[str]], pool: ProcessPoolExecutor | None
    ) -> None:
        self._record_unread(batch)
        if not batch.ids:
            return
        with self.outcome.timing("clean"):
            passes, images = self._prepare(batch, pool)
        self.outcome.first_forward = self.outcome.first_forward or time.perf_counter()
        for name, metrics in wanted.items():
            try:
                self._explain_and_score(indices, name, metrics, passes, images)
            except Exception as error:
                if type(error).__module__.startswith("submitit"):
                    raise  # a launcher's signal, not the method's fault
                self._record_failure(name, batch, error)
        self.outcome.images += len(batch.ids)
        if time.monotonic() - self.flushed > self.longest:
            self._flush()

    def _prepare(self, batch: Batch, pool: ProcessPoolExecutor | None) -> tuple[Passes, ImageBatch]:
        classifier, protocol = self.job.classifier, self.job.protocol
        images = batch.images.to(device=classifier.device, dtype=classifier.dtype)
        labels = self._labels(batch).to(classifier.device)
        passes = Passes(classifier, images, ids=batch.ids, chunk=self.job.chunk, seed=protocol.seed)
        predicted = passes.logits.argmax(dim=1)
        hits = zip(batch.ids, labels.tolist(), (predicted == labels).tolist(), strict=True)
        self.outcome.right.update({image: hit for image, label, hit in hits if label >= 0})
        targets = torch.where(labels >= 0, labels, predicted) if protocol.target == "label" else predicted
        passes.explain_targets(targets)
        probability = passes.score(passes.logits, kind="probability")
        return passes, ImageBatch(
            ids=batch.ids,
            images=images,
            targets=targets,
            clean=Prediction(probability, predicted),
            labels=labels,
            masks=None if batch.masks is None else batch.masks.to(classifier.device),
            has_mask=batch.has_mask.to(classifier.device),
            pool=pool,
        )

    def _labels(self, batch: Batch) -> Tensor:
        """The images' labels as outputs of the model; -1 where the model has no such output."""
        if self.job.dataset.label_space is None or self.job.dataset.label_space != self.job.classifier.label_space:
            return torch.full_like(batch.labels, -1)
        return self.job.classifier.output_of(batch.labels)

    def _explain_and_score(
        self, indices: Sequence[int], name: str, metrics: Sequence[str], passes: Passes, images: ImageBatch
    ) -> None:
        with self.outcome.timing(f"explain {name}"):
            maps = explain(self.job.methods[name], passes, self.job.protocol.map_resize)
        found = faults(maps)
        self.gallery.save(indices, name, images, maps)
        sound = torch.where(_mask_of(found, maps), torch.zeros_like(maps), maps)
        case = Case(images, sound, explain=lambda altered: self._explain_altered(name, passes, altered))
        traces: dict[Probe, Trace] = {}
        for metric_name in metrics:
            metric = self.job.metrics[metric_name]
            scores = self._score(metric, case, traces)
            self._keep(self.cells[name, metric_name], images.ids, scores, found)

    def _explain_altered(self, name: str, passes: Passes, images: Tensor) -> Tensor:
        """The method's maps of altered images for the targets of the unaltered ones."""
        altered = Passes(
            passes.classifier, images, passes.targets, ids=passes.ids, chunk=passes.chunk, seed=passes.seed
        )
        return explain(self.job.methods[name], altered, self.job.protocol.map_resize)

    def _score(self, metric: Metric, case: Case, traces: dict[Probe, Trace]) -> Scores:
        probe = metric.probe
        if probe is not None and probe not in traces:
            with self.outcome.timing(f"probe {type(probe).__name__}"):
                traces[probe] = probe.trace(case, self._predict)
        with self.outcome.timing("score"):
            return metric.score(case, None if probe is None else traces[probe])

    def _predict(self, images: Tensor, targets: Tensor) -> Prediction:
        self.outcome.forwards += len(images)
        return halving(lambda chunk: predict(self.job.classifier, images, targets, chunk), self.job.chunk)

    def _keep(self, cell: StoredCell, ids: Sequence[str], scores: Scores, found: Sequence[str]) -> None:
        value, parts, curve = (t.double().cpu().tolist() for t in (scores.value, scores.parts, scores.curve))
        for i, image in enumerate(ids):
            broken = found[i] == "not finite"
            reason = "map is not finite" if broken else scores.reasons[i]
            row = Row(
                cell=cell.digest,
                image=image,
                value=float("nan") if broken else value[i],
                parts=[] if broken else parts[i],
                curve=[] if broken else curve[i],
                reason=reason,
                note="constant map" if found[i] == "constant" else "",
            )
            self.pending.append(row)

    def _flush(self) -> None:
        self._record_clean()
        self.store.append(self.job.group, self.pending)
        self.outcome.rows += len(self.pending)
        self.pending = []
        self.flushed = time.monotonic()

    def _flush_soon(self) -> None:
        """Store what there is, now and after every further batch: the end is near."""
        self.longest = 0.0
        self._flush()

    def _record_clean(self) -> None:
        """Which labelled images the model gets right unaltered, with those of the job's earlier runs."""
        known = self.right | self.outcome.right
        if len(known) > len(self.right):
            names = {"job": self.job.name, "model": self.job.classifier.name, "dataset": self.job.dataset.name}
            self.store.write_json("clean", self.ledger.key, {**names, "right": known})
            self.right = known

    def _record_skips(self) -> None:
        for name, reason in self.outcome.skipped.items():
            record = {**self.job.group._asdict(), "method": name, "reason": reason}
            self.store.write_json("skips", json.dumps([*self.job.group, name]), record)

    def _record_unread(self, batch: Batch) -> None:
        self.outcome.unread.update(batch.skipped)
        if batch.skipped:
            record = {**self.job.group._asdict(), "images": self.outcome.unread}
            self.store.write_json("unread", self.job.name, record)

    def _record_failure(self, name: str, batch: Batch, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}"
        log.error(
            "%s failed on %s: %s", name, ", ".join(batch.ids[:4]), message, exc_info=log.isEnabledFor(logging.DEBUG)
        )
        self.outcome.failed[name] = message
        self.failed_images.setdefault(name, []).extend(batch.ids)
        found = {"job": self.job.name, "method": name, "images": self.failed_images[name], "message": message}
        record = {**self.job.group._asdict(), **found}
        self.store.write_json("failures", self._failure_name(name), record)

    def _failure_name(self, name: str) -> str:
        return json.dumps([self.job.name, name])


@contextmanager
def _on_termination(act: Callable[[], None]) -> Iterator[None]:
    """On SIGTERM act first, then do what would have been done; that is to leave by SystemExit, where nothing was set.

    SLURM sends it before it kills. A launcher's other signals raise an exception, which stores rows on its way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def handle(number: int, frame: Any) -> None:
        act()
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _both(*callbacks: Progress) -> Progress:
    def call(done: int, total: int) -> None:
        for callback in callbacks:
            callback(done, total)

    return call


def explain(method: Explainer, passes: Passes, map_resize: str = "bilinear") -> Tensor:
    """A method's maps [B, H, W] at the images' resolution, in float32 or better."""
    maps = method.explain(passes).detach()
    size = len(passes.ids)
    if maps.ndim != 3 or len(maps) != size:
        raise ValueError(f"expected maps [{size}, h, w], got {list(maps.shape)}")
    maps = maps if maps.dtype == torch.float64 else maps.float()
    return resize(maps, passes.size, map_resize)  # type: ignore[arg-type]


def predict(classifier: Classifier, images: Tensor, targets: Tensor, chunk: int) -> Prediction:
    """What the model says of images [M, 3, H, W] about targets [M], in forwards of at most `chunk` rows."""
    probability, predicted = [], []
    with torch.no_grad():
        for rows, target in zip(images.split(chunk), targets.split(chunk), strict=True):
            logits = classifier.logits(rows)
            wide = logits if logits.dtype == torch.float64 else logits.float()
            probability.append(wide.softmax(dim=1).gather(1, target[:, None])[:, 0])
            predicted.append(logits.argmax(dim=1))
    return Prediction(torch.cat(probability), torch.cat(predicted))


def _mask_of(found: Sequence[str], maps: Tensor) -> Tensor:
    """[B, 1, 1] True where a map is not finite."""
    return torch.tensor([fault == "not finite" for fault in found], device=maps.device).view(-1, 1, 1)
