"""Compute each method and metric of a job only until all comparisons in which it takes part are decided."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dix.bench.run.job import Job
from dix.bench.run.plan import Step
from dix.bench.store.cells import group_of
from dix.bench.store.columns import Row, codes
from dix.bench.store.results import ResultStore
from dix.bench.tables.choices import Roles, comparisons, standing
from dix.bench.tables.sequential import Cell, Family, Rule, bounds_of
from dix.explainer import BASELINE, CONTROL, PROPOSED

#: Other processes' rows are read again after so many times the time that reading them took.
PATIENCE = 10.0


class UntilDecided:
    """Each cell is computed until all its comparisons are decided by the rows in the store.

    Rows of this process count at once, those of other shards when they are read the next time.
    """

    def __init__(self, job: Job, store: ResultStore) -> None:
        self.job = job
        self.store = store
        self.ids = [job.dataset.ids[index] for index in job.order]
        self.places = {image: place for place, image in enumerate(self.ids)}
        self.cells = {cell.digest: Cell(*names) for names, cell in job.cells().items()}
        self.digests = {cell: digest for digest, cell in self.cells.items()}
        able = list(dict.fromkeys(cell.method for cell in self.digests))
        wanted = comparisons(job.run.compare, able, job.metrics, roles_of(job))
        rule = Rule(job.run.alpha / max(1, len(wanted)), job.run.least, len(self.ids))
        self.family = Family(wanted, job.metrics, rule, list(self.digests))
        self.due = 0.0
        self._read()

    def over(self, step: Step) -> bool:
        """Whether no cell is needed from this batch on."""
        self._read_when_due()
        return all(self.family.stop(cell) <= self._place(step) for cell in self.digests)

    def wanted(self, step: Step) -> Mapping[str, Sequence[str]]:
        """What the batch lacks of cells that are needed there."""
        place = self._place(step)
        needed = {
            method: [metric for metric in metrics if self.family.stop(Cell(method, metric)) > place]
            for method, metrics in step.wanted.items()
        }
        return {method: metrics for method, metrics in needed.items() if metrics or not step.wanted[method]}

    def add(self, rows: Iterable[Row]) -> None:
        """Rows of this process, which are in the store or on their way there."""
        for row in rows:
            self._put(row.cell, row.image, row.value, row.parts, row.curve)
        self.family.follow()

    def leave_out(self, images: Iterable[str]) -> None:
        """Images that cannot be read count as read, for no method."""
        self.family.leave_out(self.places[image] for image in images if image in self.places)

    def ends(self) -> dict[str, dict[str, int]]:
        """How many images each decided cell needs, in all and of this shard."""
        self._read()
        stops = {digest: self.family.stop(cell) for digest, cell in self.cells.items()}
        size, count = self.job.run.batch_size, len(self.ids)
        mine = [(self._place(Step(indices, {})), len(indices)) for indices in self.job.batches()]
        early = {digest: stop for digest, stop in stops.items() if stop < count}
        return {
            "needed": {digest: min(count, -(-stop // size) * size) for digest, stop in early.items()},
            "kept": {digest: sum(n for start, n in mine if start < stop) for digest, stop in early.items()},
        }

    def _place(self, step: Step) -> int:
        """Where in the order a batch begins."""
        return self.places[self.job.dataset.ids[step.indices[0]]]

    def _put(self, digest: str, image: str, value: float, parts: Iterable[float], curve: Iterable[float]) -> None:
        place, cell = self.places.get(image), self.cells.get(digest)
        if place is not None and cell is not None:
            self.family.tracks[cell].put(place, value, parts, curve)

    def _read_when_due(self) -> None:
        if self.job.run.shard[1] > 1 and time.monotonic() >= self.due:
            self._read()

    def _read(self) -> None:
        """Everything that the store holds by now."""
        begun = time.monotonic()
        for record in self.store.read_json("unread"):
            if group_of(record) == self.job.group:
                self.leave_out(record["images"])
        table = self.store.table(self.job.group, set(self.cells), set(self.places))
        texts = [text[place] for place, text in (codes(table, name) for name in ("cell", "image"))]
        for digest, image, value, parts, curve in zip(
            *texts, table["value"].to_numpy(), *(table[name].to_pylist() for name in ("parts", "curve")), strict=True
        ):
            self._put(digest, image, value, parts, curve)
        self.family.follow()
        now = time.monotonic()
        self.due = now + max(self.job.run.flush_seconds, PATIENCE * (now - begun))

    def record(self) -> None:
        """Keep the order and the rule, from which reports derive the verdicts again."""
        order = {"dataset": self.job.dataset.name, "seed": self.job.run.order, "images": self.ids}
        name = f"{self.job.dataset.name} {self.job.run.order} {_digest(self.ids)}"
        self.store.write_json("orders", name, order)
        rule = {
            **self.job.group._asdict(),
            "order": name,
            "compare": self.job.run.compare,
            "alpha": self.job.run.alpha,
            "least": self.job.run.least,
            "batch_size": self.job.run.batch_size,
            "comparisons": [list(comparison) for comparison in self.family.comparisons],
            "bounds": {name: bounds_of(metric) for name, metric in self.job.metrics.items()},
        }
        self.store.write_json("sequences", f"{' '.join(self.job.group)} {_digest(rule)}", rule)


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=5).hexdigest()


def roles_of(job: Job) -> Roles:
    """Which methods of a job are the proposed ones and which are controls."""
    roles = {name: job.role(name) for name in job.methods}
    return standing(*([name for name, own in roles.items() if own == role] for role in (PROPOSED, BASELINE, CONTROL)))
