"""One protocol's part of a run: what it lacks, and where its rows, pictures and notes go."""

from __future__ import annotations

from functools import cached_property

from dix.bench.run import plan
from dix.bench.run.buffer import RowBuffer
from dix.bench.run.findings import Findings
from dix.bench.run.freshness import Freshness, keep_origin
from dix.bench.run.gallery import Gallery
from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.bench.run.plan import Step
from dix.bench.run.records import Records
from dix.bench.run.watch import ToTheEnd, Watch
from dix.bench.store.ledger import Ledger
from dix.bench.store.results import ResultStore
from dix.datasets.loader import Batch


class Lane:
    """A job and its place in the store. Jobs that run together share their batches; each keeps its own books."""

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.job = job
        self.store = store
        self.outcome = Outcome(skipped=job.unsupported())
        self.cells = job.cells()
        self.ledger = Ledger(store, job.undertaking(), job.run.flush_seconds)
        self.records = Records(store, job, self.outcome, self.ledger.key)
        self.buffer = RowBuffer(store, job.group, job.run.flush_seconds, self.records.clean)
        self.gallery = Gallery(store.folder.parent, job)
        self.watch: Watch = ToTheEnd()
        self.methods: list[str] = []

    def open(self) -> None:
        """Announce the cells. Raises StaleResults where the store holds others by their names."""
        self.store.open(self.cells.values())
        self.watch = watch_of(self.job, self.store)
        self.records.skips()
        self.methods = self._methods_to_run()

    def plan(self) -> list[Step]:
        """The whole grid, and what each batch lacks."""
        return plan.steps(self.job, self.store, self.gallery, self.methods)

    def begin(self) -> None:
        """The run begins: what is stored is read once."""
        self.fresh = Freshness(self.job, self.store)

    @cached_property
    def origin(self) -> str:
        """The digest of what computes its rows, noted with the first: no first forward pass need wait for it."""
        return keep_origin(self.job, self.store)

    def check(self, step: Step, batch: Batch | None) -> None:
        """Raise StaleResults where stored rows are not about these images; batch: None where it need not be read."""
        if batch is None:
            self.fresh.check_stored(step.indices)
        else:
            self.fresh.check_batch(batch)

    def leave_out(self, batch: Batch) -> None:
        """Note the images of a batch that could not be read."""
        self.records.unread(batch.skipped)
        self.watch.leave_out(image for image, _ in batch.skipped)

    def take(self, found: Findings, batch: Batch) -> None:
        """Keep what a batch gave."""
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

    def flush(self) -> None:
        """Write what is computed."""
        self.buffer.flush()
        self.outcome.rows = self.buffer.written

    def finish(self) -> None:
        """Every batch is done: put the store in order."""
        self.ledger.end(self.watch.ends())
        self.outcome.trouble = self._trouble()
        self.store.compact(self.job.group)
        self.records.mended(self.methods)

    def _methods_to_run(self) -> list[str]:
        """All that can explain the model; of those, where only what failed is asked for, what failed."""
        able = [name for name in self.job.methods if name not in self.outcome.skipped]
        if self.job.run.only == "all" or self.ledger.unfinished:
            return able
        failed = self.records.failed_before()
        return [name for name in able if name in failed]

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


def watch_of(job: Job, store: ResultStore) -> Watch:
    """How far the cells of a job are computed, as `run.until` has it."""
    if job.run.until == "all":
        return ToTheEnd()
    from dix.bench.run.until import UntilDecided  # imports the statistics, for which other runs need not wait

    watch = UntilDecided(job, store)
    watch.record()
    return watch
