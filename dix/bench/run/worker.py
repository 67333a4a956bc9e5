"""Compute one batch: every method's maps, every metric's scores, each shielded from what another does.

Several jobs may want the same batch under protocols of their own. What they ask for alike is computed once: the clean
pass where they explain the same classes, a method's maps, and the network's answers to equal probes of equal maps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from torch import Tensor

from dix.bench.run.alike import Answers, Others
from dix.bench.run.batch import (
    Maps,
    Prepared,
    altered,
    enlarged,
    maps,
    part,
    predict,
    prepare,
    question_of,
)
from dix.bench.run.findings import Failure, Findings
from dix.bench.run.guard import Guard, Handed, HandedBatch, Left, Watched, isolated, told
from dix.bench.run.job import Job
from dix.bench.run.lane import Lane
from dix.bench.run.plan import Step
from dix.bench.run.scorer import BROKEN_MAP, SILENT_ALTERED, Score, Scorer
from dix.bench.run.seals import Memory
from dix.bench.run.workers import Workers
from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.classifier import Classifier
from dix.datasets.loader import Batch
from dix.metrics.api import Case, Prediction, Trace
from dix.passes import halving
from dix.seeding import generator

T = TypeVar("T")
NAN = float("nan")
#: What a row notes of its map's fault.
NOTES = {"not finite": BROKEN_MAP, "constant": "constant map", "": ""}
#: What is said of a batch that was changed by nobody who could be caught at it.
NOBODY = "the weights changed while its batch was computed, and did not when the methods were watched one by one"
#: What jobs want of a batch.
Work = Sequence[tuple[Lane, Step]]
#: Told how much of a batch is done, from 0 to 1.
Tick = Callable[[float], None]


def _unheard(share: float) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Worker:
    """Computes batches. pool: for CPU work outside the model."""

    guard: Guard
    pool: Workers | None = None

    def compute(self, work: Work, batch: Batch, tick: Tick = _unheard) -> list[Findings]:
        """A batch of at least one image for each job. Where the weights were changed past the quick look, once more.

        tick: told the share of the batch that is computed, after each method.
        """
        first = _Pass(self, work, batch, thorough=False, tick=tick)
        try:
            found = first.run()
        except BaseException:  # the run ends here: what was computed before is sound unless the weights were changed
            if not self.guard.changed(thorough=True):
                for share in first.shares:
                    share.lane.buffer.add(share.found.rows)
            raise
        if not self.guard.changed(thorough=True):
            return found
        self.guard.restore()
        found = _Pass(self, work, batch, thorough=True).run()
        changed = bool(self.guard.changed(thorough=True))
        if changed:
            self.guard.restore()
        if not changed and any(each.failures for each in found):
            return found
        return [Findings(failures=[Failure(method, NOBODY) for method in step.wanted]) for _, step in work]


@dataclass(eq=False)
class _Share:
    """One job's share of a batch. batch: its images that can be scored. prepared: they, shown to the network."""

    lane: Lane
    step: Step
    batch: Batch
    prepared: Prepared = field(init=False)
    found: Findings = field(default_factory=Findings)

    @property
    def job(self) -> Job:
        """The job itself."""
        return self.lane.job

    def predict(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        """What the model says of a probe's altered images; every row is counted."""
        self.lane.outcome.forwards += len(images)
        return halving(lambda chunk: predict(self.job.classifier, images, targets, chunk, raw, kept), self.job.chunk)

    def asking(self, scorer: Scorer) -> Scorer:
        """The same maps and answers; what has yet to be asked counts for this job."""
        return replace(scorer, predict=self.predict, timing=self.lane.outcome.timing)


@dataclass(frozen=True, eq=False)
class _Explained:
    """One method's maps, on their way to their scores. shares: the jobs that want these maps."""

    method: str
    shares: Sequence[_Share]
    maps: Maps
    scorer: Scorer


class _Pass:
    """One way through a batch. thorough: look at every weight after every method and metric."""

    def __init__(self, worker: Worker, work: Work, batch: Batch, thorough: bool, tick: Tick = _unheard) -> None:
        self.worker = worker
        self.tick = tick
        self.shares = [_Share(lane, step, batch) for lane, step in work]
        self.thorough = thorough
        self.contents = dict(zip(batch.ids, batch.contents, strict=True))
        self.sizes: set[tuple[int, ...]] = set()  # of files that were encoded for the batch
        self.answers, self.others = Answers(), Others()

    def run(self) -> list[Findings]:
        """All that the jobs want, method after method.

        Where the pool has work for the scores of one method's maps, and the model computes elsewhere, the next method
        explains meanwhile. No more than these two methods' maps are in memory at a time.
        """
        self._prepare(self.shares)
        self._set_silent_aside()
        left = [share for share in self.shares if share.batch.ids]
        methods = dict.fromkeys(method for share in left for method in share.step.wanted)
        waiting: list[_Explained] = []
        for done, method in enumerate(methods, 1):
            wanting = [share for share in left if method in share.step.wanted]
            alike = _alike(wanting, lambda share: id(share.prepared))
            explained = [one for shares in alike for one in self._explained(method, shares)]
            begun = [one for one in explained if self._begun(one)]
            for one in (*waiting, *(one for one in explained if one not in begun)):
                self._scores(one)
            waiting = begun
            self.tick(done / len(methods))
        for one in waiting:
            self._scores(one)
        if self.worker.pool is not None:
            self.worker.pool.forget()
        return [share.found for share in self.shares]

    def _prepare(self, shares: Sequence[_Share]) -> None:
        """Show these shares' images to the network; alike shares once."""
        self.answers, self.others = Answers(), Others()
        ready = [share for share in self.shares if share.batch.ids and share not in shares]
        for share in shares:
            question = question_of(share.job, share.batch)
            alike = (other.prepared for other in ready if other.prepared.answers(question, share.batch.ids))
            share.prepared = next(alike, None) or self._shown(share)
            share.lane.outcome.first_forward = share.lane.outcome.first_forward or time.perf_counter()
            ready.append(share)
        found = {id(share.prepared): share.prepared for share in self.shares if share.batch.ids}
        self.handed = [HandedBatch.of(prepared) for prepared in found.values()]

    def _shown(self, share: _Share) -> Prepared:
        with share.lane.outcome.timing("clean"):
            return prepare(share.job, share.batch, self.worker.pool, memory=Memory)

    def _set_silent_aside(self) -> None:
        """Rows for images that the network does not answer for; the others are prepared without them."""
        less = [share for share in self.shares if self._silent_of(share)]
        if less:
            self._prepare([share for share in less if share.batch.ids])

    def _silent_of(self, share: _Share) -> bool:
        share.found.correct = share.prepared.correct
        silent = {image: why for image, why in zip(share.batch.ids, share.prepared.silent, strict=True) if why}
        if not silent:
            return False
        share.found.silent = silent
        set_aside = partial(share.lane.gallery.set_aside, share.step.indices, dict(silent), self.contents)
        share.found.pictures.append(set_aside)
        for method, metrics in share.step.wanted.items():
            for metric in metrics:
                cell = share.lane.cells[method, metric]
                share.found.rows += [
                    self._row(share, cell, image, Score(NAN, reason=why)) for image, why in silent.items()
                ]
        share.batch = part(share.batch, [i for i, image in enumerate(share.batch.ids) if image not in silent])
        return True

    def _explained(self, method: str, shares: Sequence[_Share]) -> Iterator[_Explained]:
        """The maps of one method for jobs that explain the same classes of the same images, by how they are resized."""
        explainer, passes = shares[0].job.methods[method], shares[0].prepared.passes
        resizes = [share.job.protocol.map_resize for share in shares]
        with shares[0].lane.outcome.timing(f"explain {method}"):
            made = self._attempt(shares, method, "", lambda: enlarged(explainer, passes, resizes))
        for resize, found in (made or {}).items():
            alike, kept = [s for s in shares if s.job.protocol.map_resize == resize], found.copy()
            yield _Explained(method, alike, kept, self._scorer(method, alike[0], kept))

    def _begun(self, one: _Explained) -> bool:
        """Give the pool what it can do for the scores; whether there was anything."""
        pool = self.worker.pool
        if pool is None or not elsewhere(one.shares[0].prepared.passes.classifier):
            return False
        begun = False
        for share in one.shares:
            wanted = {metric: share.job.metrics[metric].probe for metric in share.step.wanted[one.method]}
            for probe, metric in {probe: metric for metric, probe in wanted.items() if hasattr(probe, "begin")}.items():
                with pool.ahead():
                    act = partial(one.scorer.begin, probe)
                    begun |= bool(self._attempt([share], one.method, f"{metric}: ", act, *handed_with(one.scorer)))
        return begun

    def _scores(self, one: _Explained) -> None:
        """Every metric of jobs that have the same maps."""
        method, kept, scorer = one.method, one.maps, one.scorer
        if scorer.case.batch is not one.shares[0].prepared.images:  # what it had was changed by a method since
            scorer = self._scorer(method, one.shares[0], kept)
        for share in one.shares:
            save, images, indices = share.lane.gallery.save, share.prepared.images, share.step.indices
            share.found.pictures.append(partial(save, indices, method, images, kept.values, self.contents))
            for metric in share.step.wanted[method]:
                act = partial(share.asking(scorer).score, share.job.metrics[metric])
                scores = self._attempt([share], method, f"{metric}: ", act, *handed_with(scorer))
                if scores is None:
                    scorer = self._scorer(method, share, kept)  # nothing that a failing metric saw is seen by the next
                else:
                    share.found.rows += self._rows(share, method, metric, kept, scores)
        one.shares[0].lane.outcome.files += sum(map(self._files, scorer.traces.values()))

    def _files(self, trace: Trace) -> int:
        """How many files a probe encoded for one method's maps; those that all maps share have the same sizes."""
        sizes = trace.side.get("bytes")
        columns = set() if sizes is None else set(map(tuple, sizes.T.tolist()))
        new = columns - self.sizes
        self.sizes |= new
        return sum(map(len, new))

    def _scorer(self, method: str, share: _Share, made: Maps) -> Scorer:
        explainer, prepared, resize = share.job.methods[method], share.prepared, share.job.protocol.map_resize
        case = Case(
            prepared.images,
            made.sound.clone(),
            explain=lambda images: altered(explainer, prepared.passes, images, resize),
            method=method,
            native=made.sound_native,
            explain_as=lambda targets: maps(explainer, self.others.about(prepared.passes, targets), resize).values,
            _memo=Memory(),
        )
        return Scorer(made, case, share.predict, Memory(), share.lane.outcome.timing, self.answers)

    def _rows(self, share: _Share, method: str, metric: str, made: Maps, scores: Sequence[Score]) -> Iterator[Row]:
        cell = share.lane.cells[method, metric]
        for image, fault, score in zip(share.batch.ids, made.faults, scores, strict=True):
            if score.reason == SILENT_ALTERED:
                share.found.silent[image] = score.reason
            yield self._row(share, cell, image, score, "" if score.reason == BROKEN_MAP else NOTES[fault])

    def _row(self, share: _Share, cell: StoredCell, image: str, score: Score, note: str = "") -> Row:
        return Row(
            cell=cell.digest,
            image=image,
            value=score.value,
            parts=score.parts,
            curve=score.curve,
            reason=score.reason,
            note=note,
            content=self.contents[image],
            origin=share.lane.origin,
        )

    def _attempt(
        self, shares: Sequence[_Share], method: str, who: str, act: Callable[[], T], *handed: Watched
    ) -> T | None:
        """What a method or metric gives, or None where it fails or changes what others see. who: it, in a message."""
        result: T | None = None
        failure: Failure | None = None
        try:
            result = isolated(act, _seed(shares[0], method))
        except Exception as error:
            if type(error).__module__.startswith("submitit"):
                raise  # a launcher's signal, not the method's fault
            kind = "" if isinstance(error, Left) else f"{type(error).__name__}: "
            failure = Failure(method, f"{who}{kind}{error}", error)
        changes = self.worker.guard.changed(*self.handed, self.others, *handed, thorough=self.thorough)
        if changes:
            failure = Failure(method, f"{who}{told(changes)}")
            self.worker.guard.restore()
            self._prepare([share for share in self.shares if share.batch.ids])
        if failure is not None:
            for share in shares:
                share.found.failures.append(failure)
            return None
        return result


def elsewhere(classifier: Classifier) -> bool:
    """Whether the model computes where workers do not, so that neither waits for the other.

    Beside workers, a pass on the processor waits for whichever of its threads has to: blackened images took four times
    as long on two cores, and the whole run a sixth longer than with one after the other.
    """
    return classifier.device.type != "cpu"


def _alike(shares: Sequence[_Share], key: Callable[[_Share], Hashable]) -> list[list[_Share]]:
    """Shares with equal keys together, in the order of their first."""
    found: dict[Hashable, list[_Share]] = {}
    for share in shares:
        found.setdefault(key(share), []).append(share)
    return list(found.values())


def _seed(share: _Share, method: str) -> int:
    return generator(share.job.protocol.seed, share.batch.ids[0], method, "shared").initial_seed()


def handed_with(scorer: Scorer) -> tuple[Watched, ...]:
    """What a metric is handed besides the batch: the maps, and what was computed once for them."""
    case = scorer.case
    memories = [memory for memory in (scorer.traces, vars(case)["_memo"]) if isinstance(memory, Memory)]
    return (Handed.of("the maps", (case.maps, case.native)), *memories)
