"""A job's own record in the store: what it is to compute, how far it is, and whether its process still lives.

The record claims nothing. Two processes on one shard both compute, and their rows count once; nobody waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from dix.bench.store import clock
from dix.bench.store.results import ResultStore

#: Seconds between two signs of life, and after which a job without one is dead.
PULSE = 15.0
DEAD = 90.0

RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"


@dataclass(frozen=True)
class Undertaking:
    """What a job is going to do, as its record says it.

    key: names the record; "" derives one from the job's name and cells. job: the job's name. shard: [i, n].
    count: images of the job and of all its other shards. cells: digests of its cells. batches: of its shard.
    mine: images of its shard.
    """

    key: str
    job: str
    model: str
    dataset: str
    protocol: str
    shard: Sequence[int]
    count: int
    cells: Sequence[str]
    batches: int
    mine: int

    def record(self) -> dict[str, Any]:
        """Plain values, with the key that names the record."""
        digest = hashlib.sha256("".join(sorted(self.cells)).encode()).hexdigest()[:6]
        return {
            "key": self.key or f"{self.job} {digest}",
            "job": self.job,
            "model": self.model,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "shard": list(self.shard),
            "count": self.count,
            "cells": sorted(self.cells),
            "batches": self.batches,
            "mine": self.mine,
        }


class Ledger:
    """The record `jobs/KEY.json` of a running job, kept up to date while the block lasts.

    interval: seconds between two notes of how far it is.
    """

    def __init__(self, store: ResultStore, undertaking: Undertaking, interval: float) -> None:
        self.store = store
        self.record = undertaking.record()
        self.key = str(self.record["key"])
        self.before = store.json("jobs", self.key) or {}
        self.start = time.monotonic()
        self.written = 0.0
        self.interval = interval
        self.over = threading.Event()
        self.record["attempts"] = self.before.get("attempts", 0) + 1 if self.unfinished else 1

    @property
    def unfinished(self) -> bool:
        """Whether the job was begun before and ended before it was finished."""
        return bool(self.before) and self.before["state"] != FINISHED

    def __enter__(self) -> Ledger:
        self._write(state=RUNNING, done=0, images=0)
        self.pulse = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self.pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if error is None:
            self._write(state=FINISHED)
            return
        with contextlib.suppress(ValueError):
            self._write(state=STOPPED, message=f"{type(error).__name__}: {error}")

    def advance(self, done: int, images: int) -> None:
        """Note how many of its batches are complete, and how many images this run explained."""
        self.record |= {"done": done, "images": images}
        if time.monotonic() - self.written >= self.interval:
            self._write()

    def end(self, ends: Mapping[str, Mapping[str, int]]) -> None:
        """Note how many images each decided cell needs, by digest: "needed" in all, "kept" of them by this job."""
        self.record |= ends

    def _write(self, **changes: Any) -> None:
        self.record |= {**changes, "seconds": round(time.monotonic() - self.start, 1)}
        self.written = time.monotonic()
        self.store.write_json("jobs", self.key, self.record)

    def _beat(self) -> None:
        while not self.over.wait(PULSE):
            clock.touch(self.store.records.path("jobs", self.key))


def lives(store: ResultStore, key: str, record: Mapping[str, Any]) -> bool:
    """Whether a job is running and gave a sign of life lately, by the clock of the folder."""
    return record["state"] == RUNNING and clock.age(store.records.path("jobs", key), store.folder) < DEAD


def jobs(store: ResultStore) -> dict[str, dict[str, Any]]:
    """Every job's record, by its key."""
    return {str(record["key"]): record for record in store.read_json("jobs")}


def unfinished(store: ResultStore) -> dict[str, dict[str, Any]]:
    """The records of jobs that were begun and have not come to their end, by key."""
    return {key: record for key, record in jobs(store).items() if record["state"] != FINISHED}
