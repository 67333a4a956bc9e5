"""What a job notes in the store beside its rows: skips, failures, unreadable images, the clean predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.bench.store.results import ResultStore

log = logging.getLogger("dix")


class Records:
    """The notes of one job. key: names the job's own records."""

    def __init__(self, store: ResultStore, job: Job, outcome: Outcome, key: str) -> None:
        self.store = store
        self.job = job
        self.outcome = outcome
        self.key = key
        known = store.json("clean", key) or {}
        self.right: dict[str, bool] = dict(known.get("right", {}))
        self.silent: dict[str, str] = dict(known.get("silent", {}))
        self.failed_images: dict[str, list[str]] = {}

    def skips(self) -> None:
        """Note the methods that cannot explain the model."""
        for method, reason in self.outcome.skipped.items():
            record = {**self.job.group._asdict(), "method": method, "reason": reason}
            self.store.write_json("skips", json.dumps([*self.job.group, method]), record)

    def unread(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Note images that could not be read."""
        found = dict(skipped)
        self.outcome.unread.update(found)
        if found:
            record = {**self.job.group._asdict(), "images": self.outcome.unread}
            self.store.write_json("unread", self.job.name, record)

    def clean(self) -> None:
        """Note which labelled images the model gets right unaltered, and for which it does not answer.

        Those of the job's earlier runs stay.
        """
        right, silent = self.right | self.outcome.right, self.silent | self.outcome.silent
        if len(right) > len(self.right) or len(silent) > len(self.silent):
            names = {"job": self.job.name, "model": self.job.classifier.name, "dataset": self.job.dataset.name}
            self.store.write_json("clean", self.key, {**names, "right": right, "silent": silent})
            self.right, self.silent = right, silent

    def failure(self, method: str, images: Sequence[str], message: str, error: BaseException | None = None) -> None:
        """Note that a method failed on these images, and tell whoever watches."""
        debug = error if log.isEnabledFor(logging.DEBUG) else None
        log.error("%s failed on %s: %s", method, ", ".join(images[:4]), message, exc_info=debug)
        self.outcome.failed[method] = message
        self.failed_images.setdefault(method, []).extend(images)
        found = {"job": self.job.name, "method": method, "images": self.failed_images[method], "message": message}
        self.store.write_json("failures", self._failure(method), {**self.job.group._asdict(), **found})

    def failed_before(self) -> set[str]:
        """Methods of this job that failed in an earlier run."""
        return {record["method"] for record in self.store.read_json("failures") if record["job"] == self.job.name}

    def mended(self, methods: Iterable[str]) -> None:
        """Forget earlier failures of methods that have run without one."""
        for method in set(methods) - set(self.outcome.failed):
            self.store.forget("failures", self._failure(method))

    def _failure(self, method: str) -> str:
        return json.dumps([self.job.name, method])
