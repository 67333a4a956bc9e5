"""Run a job: load, explain, probe, score, store; only what the store does not hold yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from dix.bench.run.checks import check_purpose, check_removal
from dix.bench.run.guard import Guard, Left, Tampering, told
from dix.bench.run.job import Job
from dix.bench.run.lane import Lane
from dix.bench.run.meter import counting
from dix.bench.run.outcome import Outcome
from dix.bench.run.plan import Step
from dix.bench.run.termination import Terminated, on_termination
from dix.bench.run.together import check_together
from dix.bench.run.worker import Tick, Worker
from dix.bench.run.workers import workers
from dix.bench.store.results import ResultStore
from dix.datasets.loader import Batch, Loader

#: Called with (batches done, batches in all) at the start and after each method of a batch, whose share counts.
Progress = Callable[[float, int], None]


def evaluate(job: Job, store: ResultStore, progress: Progress | None = None) -> Outcome:
    """Compute and store every row of the job's shard that is not stored yet.

    A method that raises, or changes what others rely on, is recorded in the outcome and in the store, and does not
    stop the others. Raises ValueError where there is nothing to compute, StaleResults where stored rows are about
    other images or were computed in another way.
    """
    return evaluate_together([job], store, progress)[0]


def evaluate_together(jobs: Sequence[Job], store: ResultStore, progress: Progress | None = None) -> list[Outcome]:
    """The same for jobs that differ in their protocol: the images are read once, and what is equal is computed once.

    Their rows are those of separate runs, bit for bit. What jobs share counts for the first that needs it. Raises
    ValueError besides where the jobs cannot share a run.
    """
    check_together(jobs)
    for job in jobs:
        check_purpose(job.methods, job.metrics, job.run)
        check_removal(job.classifier, job.metrics, job.protocol)
    with counting(jobs[0].classifier) as meter:
        outcomes = _Evaluation(jobs, store).run(progress or (lambda done, total: None))
    outcomes[0].passes, outcomes[0].pass_seconds = meter.passes, meter.fastest
    return outcomes


class _Evaluation:
    """One run: walks the batches of the jobs' grid and hands each to the parts that know what to do with it."""

    def __init__(self, jobs: Sequence[Job], store: ResultStore) -> None:
        self.job = jobs[0]
        self.guard = Guard(self.job.classifier)
        self.lanes = [Lane(job, store) for job in jobs]
        self._check_nothing_changed()

    def _check_nothing_changed(self) -> None:
        """Raise Tampering where asking the methods whether they can explain the model has changed it."""
        changes = self.guard.changed(thorough=True)
        if changes:
            self.guard.restore()
            raise Tampering(f"`unsupported` of a method: {told(changes)}; `dix check method=[NAME]` says of which")

    def run(self, progress: Progress) -> list[Outcome]:
        """Everything that is missing, batch by batch."""
        for lane in self.lanes:
            lane.open()
        with ExitStack() as books:
            for lane in self.lanes:
                books.enter_context(lane.ledger)
            books.enter_context(on_termination(self._flush_at_once))
            self._compute([lane.plan() for lane in self.lanes], progress)
            for lane in self.lanes:
                lane.finish()
        return [lane.outcome for lane in self.lanes]

    def _flush_at_once(self) -> None:
        for lane in self.lanes:
            lane.buffer.flush_at_once()

    def _compute(self, plans: Sequence[Sequence[Step]], progress: Progress) -> None:
        with workers(self.job.run.workers) as pool, self.guard, ExitStack() as at_the_end:
            for lane in self.lanes:
                lane.begin()
                at_the_end.callback(lane.flush)
            self._walk(list(zip(*plans, strict=True)), Worker(self.guard, pool), progress)
            if pool:
                self.lanes[0].outcome.worker_seconds, self.lanes[0].outcome.working_seconds = pool.seconds, pool.open

    def _walk(self, grid: Sequence[Sequence[Step]], worker: Worker, progress: Progress) -> None:
        """Every batch of the grid in order: what is stored is checked, what is missing is computed."""
        batches = iter(self._loader([steps[0].indices for steps in grid if any(step.wanted for step in steps)]))
        self._show(progress, 0, len(grid))
        for done, steps in enumerate(grid, 1):
            over = [lane.watch.over(step) for lane, step in zip(self.lanes, steps, strict=True)]
            if all(over):
                break
            batch = _read(batches) if any(step.wanted for step in steps) else None
            for lane, step in zip(self.lanes, steps, strict=True):
                lane.check(step, batch)
            if batch is not None:
                self._batch(steps, batch, worker, _within(progress, done - 1, len(grid)))
            self._show(progress, done, len(grid))

    def _show(self, progress: Progress, done: int, total: int) -> None:
        progress(done, total)
        for lane in self.lanes:
            lane.ledger.advance(done, lane.outcome.images)

    def _loader(self, batches: Sequence[Sequence[int]]) -> Loader:
        run = self.job.run
        return Loader(self.job.dataset, self.job.preprocess, batches, run.workers, run.on_error)  # type: ignore[arg-type]

    def _batch(self, steps: Sequence[Step], batch: Batch, worker: Worker, tick: Tick) -> None:
        asked = [(lane, step) for lane, step in zip(self.lanes, steps, strict=True) if step.wanted]
        for lane, _ in asked:
            lane.leave_out(batch)
        needed = [(lane, Step(step.indices, lane.watch.wanted(step))) for lane, step in asked]
        work = [(lane, step) for lane, step in needed if step.wanted]
        if not batch.ids or not work:
            return
        for (lane, _), found in zip(work, worker.compute(work, batch, tick), strict=True):
            lane.take(found, batch)


def _within(progress: Progress, done: int, total: int) -> Tick:
    """What is told within a batch: its share, beyond the batches that are done."""
    return lambda share: progress(done + share, total)


def _read(batches: Iterator[Batch]) -> Batch:
    """The next batch. Raises Left where a data set asks for the end of the process, which is no success."""
    try:
        return next(batches)
    except Terminated:
        raise
    except SystemExit as error:
        raise Left(f"the data set asked for the end of the process: SystemExit({error.code!r})") from error
