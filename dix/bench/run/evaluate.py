"""Run a job: load, explain, probe, score, store; only what the store does not hold yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from dix.bench.run import plan, runtime
from dix.bench.run.buffer import RowBuffer
from dix.bench.run.checks import check_purpose, check_removal
from dix.bench.run.freshness import Freshness, keep_origin
from dix.bench.run.gallery import Gallery
from dix.bench.run.guard import Guard, Left, Tampering, told
from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.bench.run.plan import Step
from dix.bench.run.records import Records
from dix.bench.run.termination import Terminated, on_termination
from dix.bench.run.watch import ToTheEnd, Watch
from dix.bench.run.worker import Worker
from dix.bench.store.ledger import Ledger
from dix.bench.store.results import ResultStore
from dix.datasets.loader import Batch, Loader

#: Called after each batch with (batches done, batches in all).
Progress = Callable[[int, int], None]


def evaluate(job: Job, store: ResultStore, progress: Progress | None = None) -> Outcome:
    """Compute and store every row of the job's shard that is not stored yet.

    A method that raises, or changes what others rely on, is recorded in the outcome and in the store, and does not
    stop the others. Raises ValueError where there is nothing to compute, StaleResults where stored rows are about
    other images or were computed in another way.
    """
    check_purpose(job.methods, job.metrics, job.run)
    check_removal(job.classifier, job.metrics, job.protocol)
    return _Evaluation(job, store).run(progress or (lambda done, total: None))


class _Evaluation:
    """One run of a job: walks the batches of its grid and hands each to the parts that know what to do with it."""

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.job = job
        self.store = store
        self.guard = Guard(job.classifier)
        self.outcome = Outcome(skipped=job.unsupported())
        self.cells = job.cells()
        self._check_nothing_changed()
        self.ledger = Ledger(store, job.undertaking(), job.run.flush_seconds)
        self.records = Records(store, job, self.outcome, self.ledger.key)
        self.buffer = RowBuffer(store, job.group, job.run.flush_seconds, self.records.clean)
        self.gallery = Gallery(store.folder.parent, job)
        self.watch: Watch = ToTheEnd()

    def _check_nothing_changed(self) -> None:
        """Raise Tampering where asking the methods whether they can explain the model has changed it."""
        changes = self.guard.changed(thorough=True)
        if changes:
            self.guard.restore()
            raise Tampering(f"`unsupported` of a method: {told(changes)}; `dix check method=[NAME]` says of which")

    def run(self, progress: Progress) -> Outcome:
        """Everything that is missing, batch by batch."""
        self.store.open(self.cells.values())
        self.watch = watch_of(self.job, self.store)
        self.records.skips()
        methods = self._methods_to_run()
        with self.ledger, on_termination(self.buffer.flush_at_once):
            todo = plan.steps(self.job, self.store, self.gallery, methods)
            with self._pool() as pool, self.guard:
                origin = keep_origin(self.job, self.store)
                worker = Worker(
                    self.job, self.cells, self.guard, self.outcome, self.gallery, origin, self.buffer.add, pool
                )
                try:
                    self._walk(todo, worker, progress)
                finally:
                    self.buffer.flush()
                    self.outcome.rows = self.buffer.written
            self.ledger.end(self.watch.ends())
            self.outcome.trouble = self._trouble()
            self.store.compact(self.job.group)
            self.records.mended(methods)
        return self.outcome

    def _trouble(self) -> str:
        """Why nothing that was asked for can be counted, or ""."""
        if set(self.outcome.skipped) == set(self.job.methods):
            why = "; ".join(f"{method}: {reason}" for method, reason in self.outcome.skipped.items())
            return f"nothing can be computed, every method was skipped ({why})"
        images = {self.job.dataset.ids[i] for indices in self.job.batches() for i in indices}
        images -= set(self.outcome.unread)
        if images and images <= set(self.records.silent):
            reasons = ", ".join(sorted(set(self.records.silent.values())))
            return f"model {self.job.classifier.name}: all {len(images)} images are excluded: {reasons}"
        return ""

    def _walk(self, steps: Sequence[Step], worker: Worker, progress: Progress) -> None:
        """Every batch of the grid in order: what is stored is checked, what is missing is computed."""
        fresh = Freshness(self.job, self.store)
        batches = iter(self._loader([step for step in steps if step.wanted]))
        self._show(progress, 0, len(steps))
        for done, step in enumerate(steps, 1):
            if self.watch.over(step):
                break
            if step.wanted:
                batch = _read(batches)
                fresh.check_batch(batch)
                self._batch(Step(step.indices, self.watch.wanted(step)), batch, worker)
            else:
                fresh.check_stored(step.indices)
            self._show(progress, done, len(steps))

    def _show(self, progress: Progress, done: int, total: int) -> None:
        progress(done, total)
        self.ledger.advance(done, self.outcome.images)

    def _loader(self, steps: Sequence[Step]) -> Loader:
        run = self.job.run
        batches = [step.indices for step in steps]
        return Loader(self.job.dataset, self.job.preprocess, batches, run.workers, run.on_error)  # type: ignore[arg-type]

    def _methods_to_run(self) -> list[str]:
        """All that can explain the model; of those, where only what failed is asked for, what failed."""
        able = [name for name in self.job.methods if name not in self.outcome.skipped]
        if self.job.run.only == "all" or self.ledger.unfinished:
            return able
        failed = self.records.failed_before()
        return [name for name in able if name in failed]

    @contextmanager
    def _pool(self) -> Iterator[ProcessPoolExecutor | None]:
        with runtime.worker_pool(self.job.run.workers) as pool:
            yield pool

    def _batch(self, step: Step, batch: Batch, worker: Worker) -> None:
        self.records.unread(batch.skipped)
        self.watch.leave_out(image for image, _ in batch.skipped)
        if not batch.ids or not step.wanted:
            return
        found = worker.compute(step, batch)
        self.outcome.right.update(found.correct)
        self.outcome.silent.update(found.silent)
        for save in found.pictures:
            save()
        for failure in found.failures:
            self.records.failure(failure.method, batch.ids, failure.message, failure.error)
        self.buffer.add(found.rows)
        self.watch.add(found.rows)
        self.outcome.images += len(batch.ids)
        self.buffer.flush_when_due()


def watch_of(job: Job, store: ResultStore) -> Watch:
    """How far the cells of a job are computed, as `run.until` has it."""
    if job.run.until == "all":
        return ToTheEnd()
    from dix.bench.run.until import UntilDecided  # imports the statistics, for which other runs need not wait

    watch = UntilDecided(job, store)
    watch.record()
    return watch


def _read(batches: Iterator[Batch]) -> Batch:
    """The next batch. Raises Left where a data set asks for the end of the process, which is no success."""
    try:
        return next(batches)
    except Terminated:
        raise
    except SystemExit as error:
        raise Left(f"the data set asked for the end of the process: SystemExit({error.code!r})") from error
