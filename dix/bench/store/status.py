"""How far an experiment is, from its store alone: what is stored, what its jobs are to compute, who is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dix.bench.store.ledger import FINISHED, jobs, lives
from dix.bench.store.rows import NAMES, ResultStore


@dataclass(frozen=True)
class CellStatus:
    """One cell's progress, in images.

    expected: that its jobs' data set has, up to their limit. done: stored. failed: that its method failed on.
    unread: that could not be read and were left out. running: a living job computes it.
    """

    model: str
    dataset: str
    method: str
    metric: str
    protocol: str
    expected: int
    done: int
    failed: int = 0
    unread: int = 0
    running: bool = False

    @property
    def missing(self) -> int:
        """Images that have neither a score nor a reason why not."""
        return max(0, self.expected - self.done - self.failed - self.unread)

    @property
    def group(self) -> str:
        """The block of a table that the cell belongs to."""
        return "--".join((self.model, self.dataset, self.protocol))


@dataclass(frozen=True)
class Status:
    """The progress of all that a store knows of.

    jobs: how many are finished, running and stopped, by state. planned: jobs of the last sweep, 0 where there was none.
    rate: images a second of the running jobs together. seconds_left: until the slowest of them is done; None: unknown.
    broken: jobs that failed as a whole, with the message.
    """

    cells: tuple[CellStatus, ...]
    jobs: Mapping[str, int]
    planned: int
    rate: float
    seconds_left: float | None
    broken: Mapping[str, str]

    def total(self, what: str) -> int:
        """The sum over all cells of `expected`, `done`, `failed`, `unread` or `missing`."""
        return sum(getattr(cell, what) for cell in self.cells)

    @property
    def incomplete(self) -> tuple[CellStatus, ...]:
        """Cells that miss images, or where some failed."""
        return tuple(cell for cell in self.cells if cell.missing or cell.failed)


def survey(store: ResultStore) -> Status:
    """Read a store's progress."""
    records = jobs(store)
    alive = {key for key, record in records.items() if lives(store, key, record)}
    states = [
        "running" if key in alive else "finished" if record["state"] == FINISHED else "stopped"
        for key, record in records.items()
    ]
    running = [records[key] for key in sorted(alive)]
    sweep = store.json("sweeps", "last") or {"jobs": 0}
    return Status(
        cells=tuple(_cells(store, list(records.values()), running)),
        jobs={state: states.count(state) for state in ("finished", "running", "stopped")},
        planned=int(sweep["jobs"]),
        rate=sum(_rate(record) for record in running),
        seconds_left=_seconds_left(running),
        broken={r["job"]: r["message"] for r in store.read_json("failures") if r["method"] == "(all)"},
    )


def _cells(
    store: ResultStore, records: Sequence[Mapping[str, Any]], running: Sequence[Mapping[str, Any]]
) -> Iterator[CellStatus]:
    expected: dict[str, int] = {}
    for record in records:
        for digest in record["cells"]:
            expected[digest] = max(expected.get(digest, 0), int(record["count"]))
    busy = {digest for record in running for digest in record["cells"]}
    counts = {group: store.counts(group) for group in store.groups()}
    failed, unread = _failed(store), _unread(store)
    for cell in store.cells():
        names = {name: str(cell[name]) for name in NAMES}
        group = "--".join((names["model"], names["dataset"], names["protocol"]))
        stored = counts.get(group, {})
        done = stored.get(cell["cell"], 0)
        whole = expected.get(cell["cell"], max(stored.values(), default=0))
        left = max(0, whole - done)
        lost = min(left, len(failed.get((group, names["method"]), ())))
        yield CellStatus(
            **names,
            expected=whole,
            done=done,
            failed=lost,
            unread=min(left - lost, len(unread.get(group, ()))),
            running=cell["cell"] in busy and left > 0,
        )


def _failed(store: ResultStore) -> dict[tuple[str, str], set[str]]:
    """Images that a method failed on, by group and method."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in store.read_json("failures"):
        found.setdefault((_group_of(record["job"]), record["method"]), set()).update(record["images"])
    return found


def _unread(store: ResultStore) -> dict[str, set[str]]:
    """Images that could not be read, by group."""
    found: dict[str, set[str]] = {}
    for name in store.names("unread"):
        found.setdefault(_group_of(name), set()).update(store.json("unread", name) or {})
    return found


def _group_of(job: str) -> str:
    """A job's name without its shard."""
    return "--".join(job.split("--")[:3])


def _rate(record: Mapping[str, Any]) -> float:
    """Images a second, by the job's own watch."""
    return float(record["images"]) / record["seconds"] if record["seconds"] else 0.0


def _seconds_left(running: Sequence[Mapping[str, Any]]) -> float | None:
    """Until the last of the running jobs is done, each at its own rate."""
    left = []
    for record in running:
        _, parts = record["shard"]
        images = record["count"] / parts * (record["batches"] - record["done"]) / max(record["batches"], 1)
        rate = _rate(record)
        if images and not rate:
            return None
        left.append(images / rate if images else 0.0)
    return max(left, default=None)
