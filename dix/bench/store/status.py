"""How far an experiment is, from its store alone: what is stored, what its jobs are to compute, who is at work.

And whether it can be trusted: rows that contradict each other, rows of several origins in one cell, rows of cells that
nobody announced, rows that finished jobs had stored and that are gone, files that were set aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dix.bench.store.cells import NAMES, Group, group_of
from dix.bench.store.conflicts import Conflicts
from dix.bench.store.ledger import FINISHED, jobs, lives
from dix.bench.store.results import Overview, ResultStore


@dataclass(frozen=True)
class CellStatus:
    """One cell's progress, in images.

    expected: that its jobs' data set has, up to their limit. done: stored. failed: that its method failed on.
    unread: that could not be read and were left out. running: a living job computes it.
    origins: rows by the digest of what computed them. conflicts: images whose rows contradict each other.
    promised: images that its finished jobs say they stored or left out.
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
    origins: Mapping[str, int] = field(default_factory=dict)
    conflicts: int = 0
    promised: int = 0

    @property
    def lost(self) -> int:
        """Images that finished jobs had stored and that are not there."""
        return max(0, self.promised - self.done - self.failed - self.unread)

    @property
    def missing(self) -> int:
        """Images that have neither a score nor a reason why not."""
        return max(0, self.expected - self.done - self.failed - self.unread)

    @property
    def group(self) -> Group:
        """The block of a table that the cell belongs to."""
        return Group(self.model, self.dataset, self.protocol)

    @property
    def mixed(self) -> bool:
        """Whether rows of different origins make up the cell."""
        return len(self.origins) > 1


@dataclass(frozen=True)
class Status:
    """The progress of all that a store knows of.

    jobs: how many are finished, running and stopped, by state. planned: jobs of the last sweep, 0 where there was none.
    rate: images a second of the running jobs together. seconds_left: until the slowest of them is done; None: unknown.
    broken: jobs that failed as a whole, with the message. conflicts: rows that contradict each other.
    unknown: rows and jobs whose cells have no record, in words. damaged: files that were set aside.
    mixtures: what differs between the origins of a group's mixed cells, in words.
    """

    cells: tuple[CellStatus, ...]
    jobs: Mapping[str, int]
    planned: int
    rate: float
    seconds_left: float | None
    broken: Mapping[str, str]
    conflicts: Conflicts = field(default_factory=Conflicts)
    unknown: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    mixtures: tuple[str, ...] = ()

    def total(self, what: str) -> int:
        """The sum over all cells of `expected`, `done`, `failed`, `unread`, `missing` or `lost`."""
        return sum(getattr(cell, what) for cell in self.cells)

    @property
    def incomplete(self) -> tuple[CellStatus, ...]:
        """Cells that miss images, or where some failed."""
        return tuple(cell for cell in self.cells if cell.missing or cell.failed)

    @property
    def sound(self) -> bool:
        """Whether the stored numbers are what was computed: nothing contradicts, nothing is lost or unknown."""
        return not (self.conflicts.total or self.total("lost") or self.unknown or self.damaged)


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
    views = {group: store.overview(group) for group in store.groups()}
    cells = tuple(_cells(store, list(records.values()), running, views))
    conflicts = Conflicts()
    for view in views.values():
        conflicts.add(view.conflicts)
    return Status(
        cells=cells,
        jobs={state: states.count(state) for state in ("finished", "running", "stopped")},
        planned=int(sweep["jobs"]),
        rate=sum(_rate(record) for record in running),
        seconds_left=_seconds_left(running),
        broken={r["job"]: r["message"] for r in store.read_json("failures") if r["method"] == "(all)"},
        conflicts=conflicts,
        unknown=tuple(_unknown(store, records, views)),
        damaged=tuple(store.damaged()),
        mixtures=tuple(_mixtures(store, cells)),
    )


def _cells(
    store: ResultStore,
    records: Sequence[Mapping[str, Any]],
    running: Sequence[Mapping[str, Any]],
    views: Mapping[Group, Overview],
) -> Iterator[CellStatus]:
    expected, promised = _expected(records), _promised(records)
    busy = {digest for record in running for digest in record["cells"]}
    failed, unread = _failed(store), _unread(store)
    for cell in store.cells():
        names, digest = {name: str(cell[name]) for name in NAMES}, cell["cell"]
        group = Group(names["model"], names["dataset"], names["protocol"])
        view = views.get(group, Overview({}, {}, Conflicts()))
        done = view.counts.get(digest, 0)
        whole = expected.get(digest, max(view.counts.values(), default=0))
        left = max(0, whole - done)
        lost = min(left, len(failed.get((group, names["method"]), ())))
        yield CellStatus(
            **names,
            expected=whole,
            done=done,
            failed=lost,
            unread=min(left - lost, len(unread.get(group, ()))),
            running=digest in busy and left > 0,
            origins=view.origins.get(digest, {}),
            conflicts=view.conflicts.count.get(digest, 0),
            promised=promised.get(digest, 0),
        )


def _expected(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Images that jobs are to compute, by cell digest; of a cell that was decided, as many as that took.

    A shard that came to its end before the decision does not know of it.
    """
    whole: dict[tuple[str, int, int], int] = {}
    for record in records:
        for digest in record["cells"]:
            key = (digest, record["shard"][1], int(record["count"]))
            needed = record.get("needed", {}).get(digest, record["count"])
            whole[key] = min(whole.get(key, needed), needed)
    expected: dict[str, int] = {}
    for (digest, _, _), needed in whole.items():
        expected[digest] = max(expected.get(digest, 0), needed)
    return expected


def _promised(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Images that finished jobs have computed, by cell digest; shards of different cuts overlap and do not add up."""
    shards: dict[tuple[str, int, int], dict[int, int]] = {}
    for record in records:
        part, parts = record["shard"]
        for digest in record["cells"] if record["state"] == FINISHED else ():
            mine = record.get("kept", {}).get(digest, record["mine"])
            shards.setdefault((digest, parts, record["count"]), {})[part] = mine
    promised: dict[str, int] = {}
    for (digest, _, _), parts in shards.items():
        promised[digest] = max(promised.get(digest, 0), sum(parts.values()))
    return promised


def _unknown(
    store: ResultStore, records: Mapping[str, Mapping[str, Any]], views: Mapping[Group, Overview]
) -> Iterator[str]:
    """Rows of cells that no record explains, and jobs whose cells have none."""
    known = {cell["cell"] for cell in store.cells()}
    for group, view in views.items():
        rows = sum(count for digest, count in view.counts.items() if digest not in known)
        if rows:
            yield f"{group.title}: {rows:,} rows of cells without a record in cells/"
    for folder in store.parts.strangers(views):
        yield f"rows/{folder}: no record in cells/ says whose rows these are"
    for key, record in records.items():
        lost = sum(digest not in known for digest in record["cells"])
        if lost:
            yield f"{key}: {lost:,} of its {len(record['cells']):,} cells have no record in cells/"


def _mixtures(store: ResultStore, cells: Sequence[CellStatus]) -> Iterator[str]:
    """A line for each group with cells that different origins computed."""
    for group in dict.fromkeys(cell.group for cell in cells if cell.mixed):
        own = [cell for cell in cells if cell.group == group and cell.mixed]
        names = sorted({name for cell in own for name in cell.origins})
        what = "; ".join(_differences([store.json("origins", name) or {} for name in names]))
        yield f"{group.title}: {len(own)} cells with rows of {len(names)} origins{f' ({what})' if what else ''}"


def _differences(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which settings differ between records, with their values."""
    for key in dict.fromkeys(key for record in records for key in record):
        values = list(dict.fromkeys(str(record.get(key, "not said")) for record in records))
        if len(values) > 1:
            yield f"{key}: {', '.join(values)}"


def _failed(store: ResultStore) -> dict[tuple[Group, str], set[str]]:
    """Images that a method failed on, by group and method."""
    found: dict[tuple[Group, str], set[str]] = {}
    for record in store.read_json("failures"):
        if record["images"]:
            found.setdefault((group_of(record), record["method"]), set()).update(record["images"])
    return found


def _unread(store: ResultStore) -> dict[Group, set[str]]:
    """Images that could not be read, by group."""
    found: dict[Group, set[str]] = {}
    for record in store.read_json("unread"):
        found.setdefault(group_of(record), set()).update(record["images"])
    return found


def _rate(record: Mapping[str, Any]) -> float:
    """Images a second, by the job's own watch."""
    return float(record["images"]) / record["seconds"] if record["seconds"] else 0.0


def _seconds_left(running: Sequence[Mapping[str, Any]]) -> float | None:
    """Until the last of the running jobs is done, each at its own rate."""
    left = []
    for record in running:
        _, parts = record["shard"]
        images = record["count"] / parts * max(0, record["batches"] - record["done"]) / max(record["batches"], 1)
        rate = _rate(record)
        if images and not rate:
            return None
        left.append(images / rate if images else 0.0)
    return max(left, default=None)
