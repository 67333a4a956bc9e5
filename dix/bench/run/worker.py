"""Compute one batch: every method's maps, every metric's scores, each shielded from what another does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from torch import Tensor

from dix.bench.run.batch import Maps, altered, maps, part, predict, prepare
from dix.bench.run.gallery import Gallery
from dix.bench.run.guard import Guard, Handed, HandedBatch, Left, Watched, isolated, told
from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.bench.run.plan import Step
from dix.bench.run.scorer import BROKEN_MAP, SILENT_ALTERED, Score, Scorer
from dix.bench.run.seals import Memory
from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.datasets.loader import Batch
from dix.metrics.api import Case, Prediction
from dix.passes import halving
from dix.seeding import generator

T = TypeVar("T")
NAN = float("nan")
#: What a row notes of its map's fault.
NOTES = {"not finite": BROKEN_MAP, "constant": "constant map", "": ""}
#: What is said of a batch that was changed by nobody who could be caught at it.
NOBODY = "the weights changed while its batch was computed, and did not when the methods were watched one by one"


@dataclass(frozen=True)
class Failure:
    """A method that failed on a batch. message: what went wrong. error: what it raised, if it raised something."""

    method: str
    message: str
    error: BaseException | None = None


@dataclass
class Findings:
    """What a batch gave.

    rows: of all methods that did not fail. pictures: what keeps each method's pictures. failures: the others.
    silent: why an image is set aside for all methods, by image. correct: whether the clean prediction is the label, by
    image.
    """

    rows: list[Row] = field(default_factory=list)
    pictures: list[Callable[[], None]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    correct: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Worker:
    """Computes batches of a job.

    cells: of its rows. origin: of what computes them. rescue: keeps rows when the run ends
    in the midst of a batch. pool: for CPU work outside the model.
    """

    job: Job
    cells: Mapping[tuple[str, str], StoredCell]
    guard: Guard
    outcome: Outcome
    gallery: Gallery
    origin: str
    rescue: Callable[[Sequence[Row]], None]
    pool: Executor | None = None

    def compute(self, step: Step, batch: Batch) -> Findings:
        """A batch of at least one image. Where the weights were changed past the quick look, all of it once more."""
        first = _Pass(self, step, batch, thorough=False)
        try:
            found = first.run()
        except BaseException:  # the run ends here: what was computed before is sound unless the weights were changed
            if not self.guard.changed(thorough=True):
                self.rescue(first.found.rows)
            raise
        if not self.guard.changed(thorough=True):
            return found
        self.guard.restore()
        found = _Pass(self, step, batch, thorough=True).run()
        if self.guard.changed(thorough=True):
            self.guard.restore()
            found = Findings(failures=[Failure(method, NOBODY) for method in step.wanted])
        return found if found.failures else Findings(failures=[Failure(method, NOBODY) for method in step.wanted])

    def predict(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        """What the model says of a probe's altered images; every row is counted."""
        self.outcome.forwards += len(images)
        return halving(lambda chunk: predict(self.job.classifier, images, targets, chunk, raw, kept), self.job.chunk)


class _Pass:
    """One way through a batch. thorough: look at every weight after every method and metric."""

    def __init__(self, worker: Worker, step: Step, batch: Batch, thorough: bool) -> None:
        self.worker = worker
        self.job = worker.job
        self.step = step
        self.batch = batch
        self.thorough = thorough
        self.found = Findings()
        self.contents = dict(zip(batch.ids, batch.contents, strict=True))

    def run(self) -> Findings:
        """All that the step wants."""
        self._prepare()
        self._set_silent_aside()
        if self.batch.ids:
            for method, metrics in self.step.wanted.items():
                self._method(method, metrics)
        return self.found

    def _prepare(self) -> None:
        with self.worker.outcome.timing("clean"):
            self.prepared = prepare(self.job, self.batch, self.worker.pool, memory=Memory)
        outcome = self.worker.outcome
        outcome.first_forward = outcome.first_forward or time.perf_counter()
        self.handed = HandedBatch.of(self.prepared)

    def _set_silent_aside(self) -> None:
        """Rows for images that the network does not answer for; the others are prepared without them."""
        self.found.correct = self.prepared.correct
        silent = {image: why for image, why in zip(self.batch.ids, self.prepared.silent, strict=True) if why}
        if not silent:
            return
        self.found.silent = silent
        set_aside, unanswered = self.worker.gallery.set_aside, dict(silent)
        self.found.pictures.append(lambda: set_aside(self.step.indices, unanswered, self.contents))
        for method, metrics in self.step.wanted.items():
            for metric in metrics:
                cell = self.worker.cells[method, metric]
                self.found.rows += [self._row(cell, image, Score(NAN, reason=why)) for image, why in silent.items()]
        self.batch = part(self.batch, [i for i, image in enumerate(self.batch.ids) if image not in silent])
        if self.batch.ids:
            self._prepare()

    def _method(self, method: str, metrics: Sequence[str]) -> None:
        explainer, resize = self.job.methods[method], self.job.protocol.map_resize
        with self.worker.outcome.timing(f"explain {method}"):
            made = self._attempt(method, "", lambda: maps(explainer, self.prepared.passes, resize))
        if made is None:
            return
        kept = Maps(made.values.clone(), made.faults)
        save, images = self.worker.gallery.save, self.prepared.images
        self.found.pictures.append(lambda: save(self.step.indices, method, images, kept.values, self.contents))
        scorer = self._scorer(method, kept)
        for metric in metrics:
            act = partial(scorer.score, self.job.metrics[metric])
            scores = self._attempt(method, f"{metric}: ", act, *handed_with(scorer))
            if scores is None:
                scorer = self._scorer(method, kept)  # nothing that a failing metric saw is seen by the next
            else:
                self.found.rows += self._rows(method, metric, kept, scores)

    def _scorer(self, method: str, made: Maps) -> Scorer:
        explainer, prepared = self.job.methods[method], self.prepared
        case = Case(
            prepared.images,
            made.sound.clone(),
            explain=lambda images: altered(explainer, prepared.passes, images, self.job.protocol.map_resize),
            method=method,
            _memo=Memory(),
        )
        return Scorer(made, case, self.worker.predict, Memory(), self.worker.outcome.timing)

    def _rows(self, method: str, metric: str, made: Maps, scores: Sequence[Score]) -> Iterator[Row]:
        cell = self.worker.cells[method, metric]
        for image, fault, score in zip(self.batch.ids, made.faults, scores, strict=True):
            if score.reason == SILENT_ALTERED:
                self.found.silent[image] = score.reason
            yield self._row(cell, image, score, "" if score.reason == BROKEN_MAP else NOTES[fault])

    def _row(self, cell: StoredCell, image: str, score: Score, note: str = "") -> Row:
        return Row(
            cell=cell.digest,
            image=image,
            value=score.value,
            parts=score.parts,
            curve=score.curve,
            reason=score.reason,
            note=note,
            content=self.contents[image],
            origin=self.worker.origin,
        )

    def _attempt(self, method: str, who: str, act: Callable[[], T], *handed: Watched) -> T | None:
        """What a method or metric gives, or None where it fails or changes what others see. who: it, in a message."""
        result: T | None = None
        failure: Failure | None = None
        try:
            result = isolated(act, self._seed(method))
        except Exception as error:
            if type(error).__module__.startswith("submitit"):
                raise  # a launcher's signal, not the method's fault
            kind = "" if isinstance(error, Left) else f"{type(error).__name__}: "
            failure = Failure(method, f"{who}{kind}{error}", error)
        changes = self.worker.guard.changed(self.handed, *handed, thorough=self.thorough)
        if changes:
            failure = Failure(method, f"{who}{told(changes)}")
            self.worker.guard.restore()
            self._prepare()
        if failure is not None:
            self.found.failures.append(failure)
            return None
        return result

    def _seed(self, method: str) -> int:
        return generator(self.job.protocol.seed, self.batch.ids[0], method, "shared").initial_seed()


def handed_with(scorer: Scorer) -> tuple[Watched, ...]:
    """What a metric is handed besides the batch: the maps, and what was computed once for them."""
    memories = [memory for memory in (scorer.traces, vars(scorer.case)["_memo"]) if isinstance(memory, Memory)]
    return (Handed.of("the maps", scorer.case.maps), *memories)
