"""Recompute stored rows and compare: does a results folder hold what its configuration gives here and now?

A row is recomputed in the batch in which it was computed, so on the machine that stored it the bits are the same. What
may differ elsewhere is the order of sums; a difference within the tolerance counts as equal.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.store.cells import NAMES, Group, StoredCell
from dix.bench.store.conflicts import ABSOLUTE, RELATIVE
from dix.bench.store.errors import differing
from dix.bench.store.results import ResultStore
from dix.datasets.api import Dataset
from dix.datasets.subset import Subset

Row = Mapping[str, Any]
#: ``job_of(group, methods, metrics)`` gives the job of a group of rows with these methods and metrics.
JobOf = Callable[[Group, Sequence[str], Sequence[str]], Job]


class Name(NamedTuple):
    """One stored row."""

    model: str
    dataset: str
    method: str
    metric: str
    protocol: str
    image: str

    @property
    def group(self) -> Group:
        """The rows of the same model, data set and protocol."""
        return Group(self.model, self.dataset, self.protocol)


@dataclass(frozen=True)
class Checked:
    """One row and what recomputing it gave. fault: "" where it is the same, else what differs."""

    name: Name
    stored: float
    again: float
    fault: str


def sample(rows: pd.DataFrame, count: int, seed: int = 0) -> list[Name]:
    """`count` of the stored rows at random, or all where there are fewer; equal stores and seeds give equal samples.

    rows: as `ResultStore.rows` gives them.
    """
    columns = [*NAMES, "image"]
    ordered = rows.sort_values(columns, kind="stable")
    chosen = np.random.default_rng(seed).choice(len(ordered), size=min(count, len(ordered)), replace=False)
    records = ordered.iloc[sorted(chosen)][list(Name._fields)]
    return [Name(*map(str, record)) for record in records.itertuples(index=False)]


def verify(store: ResultStore, names: Sequence[Name], job_of: JobOf) -> Iterator[Checked]:
    """Recompute the named rows and compare each, group by group."""
    stored = _by_name(store.rows())
    identities = {cell["cell"]: cell["identity"] for cell in store.cells()}
    for group in dict.fromkeys(name.group for name in names):
        own = [name for name in names if name.group == group]
        job = job_of(group, *(list(dict.fromkeys(getattr(name, key) for name in own)) for key in ("method", "metric")))
        known = job.cells()
        again, failed = _recomputed(job, own)
        for name in own:
            row, cell = stored[name], known.get((name.method, name.metric))
            lines = ["the method cannot explain the model"] if cell is None else _changed(identities[row["cell"]], cell)
            fault = "; ".join(lines) or failed.get(name.method, "") or _difference(row, again.get(name))
            yield Checked(name, row["value"], again.get(name, {}).get("value", np.nan), fault)


def _by_name(rows: pd.DataFrame) -> dict[Name, Row]:
    records = rows.to_dict("records")
    return {Name(*(str(record[key]) for key in Name._fields)): record for record in records}


def _changed(stored: Mapping[str, Any], cell: StoredCell) -> list[str]:
    return differing(stored, json.loads(json.dumps(cell.identity)))


def _recomputed(job: Job, names: Sequence[Name]) -> tuple[dict[Name, Row], dict[str, str]]:
    """The rows again, and the methods that raised, with their messages."""
    found: dict[Name, Row] = {}
    failed: dict[str, str] = {}
    for indices in _batches(job, {name.image for name in names}):
        ids = {job.dataset.ids[i] for i in indices}
        methods = {name.method for name in names if name.image in ids}
        part = replace(
            job,
            dataset=Subset(job.dataset, _At(tuple(indices))),
            methods={name: method for name, method in job.methods.items() if name in methods},
            run=replace(
                job.run,
                batch_size=len(indices),
                limit=None,
                shard=[0, 1],
                only="all",
                gallery=0,
                maps=0,
                maps_of=[],
                until="all",
            ),
        )
        with tempfile.TemporaryDirectory() as folder:
            outcome = evaluate(part, ResultStore(folder))
            found |= _by_name(ResultStore(folder).rows())
        failed |= outcome.failed
    return found, failed


@dataclass(frozen=True)
class _At:
    """Images by position."""

    positions: tuple[int, ...]

    def indices(self, dataset: Dataset) -> Sequence[int]:
        """The positions themselves."""
        return self.positions


def _batches(job: Job, images: set[str]) -> list[Sequence[int]]:
    """The batches that hold these images; an image outside the job's grid is a batch by itself."""
    ids = job.dataset.ids
    grid = [indices for indices in job.batches() if images & {ids[i] for i in indices}]
    inside = {ids[i] for indices in grid for i in indices}
    return grid + [[i] for i, image in enumerate(ids) if image in images - inside]


def _difference(stored: Row, again: Row | None) -> str:
    """What differs between two rows beyond the tolerance, or ""."""
    if again is None:
        return "the image is not in the data set any more"
    if stored["content"] and stored["content"] != again["content"]:
        return "the image, its mask or its label has changed since"
    if stored["reason"] != again["reason"]:
        return f"reason: stored {stored['reason']!r}, now {again['reason']!r}"
    for what in ("value", "parts", "curve"):
        old, new = (np.atleast_1d(np.asarray(row[what], dtype=float)) for row in (stored, again))
        if old.shape != new.shape:
            return f"{what}: stored {old.size} numbers, now {new.size}"
        if not np.allclose(new, old, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
            worst = int(np.nan_to_num(np.abs(new - old), nan=np.inf).argmax())
            return f"{what}: stored {old[worst]:.6g}, now {new[worst]:.6g}"
    return ""
