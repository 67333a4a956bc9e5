"""A job: one model and data set, some methods and metrics, one protocol; and what its cells are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dix.bench.run.settings import Protocol, Run
from dix.bench.store.cells import Group, StoredCell
from dix.bench.store.ledger import Undertaking
from dix.classifier import Classifier
from dix.datasets.api import Dataset
from dix.datasets.preprocess import Preprocess
from dix.explainer import BASELINE, Explainer
from dix.metrics.api import Metric

#: Fields of methods and metrics that only say how they are printed.
_PRINTED = ("label", "extra")


@dataclass(frozen=True)
class Job:
    """Everything that a run needs, as objects.

    methods, metrics: by the name that rows store. preprocess: how the data set's images reach the model.
    key: names the job's own record in the store; by default its name and a hash of its cells.
    """

    classifier: Classifier
    dataset: Dataset
    preprocess: Preprocess
    methods: Mapping[str, Explainer]
    metrics: Mapping[str, Metric]
    protocol: Protocol
    run: Run
    key: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError where a setting is outside its range."""
        _at_least("run.batch_size", self.run.batch_size, 1)
        _at_least("run.chunk", self.run.chunk, 0)
        _at_least("run.limit", 1 if self.run.limit is None else self.run.limit, 1)
        part, parts = self.run.shard
        if not 0 <= part < parts:
            raise ValueError(f"run.shard: expected [i, n] with 0 <= i < n, got [{part}, {parts}]")
        for key, value, allowed in (
            ("protocol.target", self.protocol.target, ("predicted", "label")),
            ("run.only", self.run.only, ("all", "failed")),
        ):
            if value not in allowed:
                raise ValueError(f"{key}: expected one of {', '.join(allowed)}, got {value!r}")

    @property
    def name(self) -> str:
        """The job for people, and in the names of its records: its model, data set, protocol and shard."""
        shard = "" if self.run.shard == [0, 1] else "--{}of{}".format(*self.run.shard)
        return f"{'--'.join(self.group)}{shard}"

    @property
    def group(self) -> Group:
        """Model, data set and protocol: rows of the same images."""
        return Group(self.classifier.name, self.dataset.name, self.protocol.name)

    @property
    def chunk(self) -> int:
        """Most rows in one forward pass; a single thread of a CPU is fastest where they stay in its caches."""
        alone = self.classifier.device.type == "cpu" and torch.get_num_threads() == 1
        return self.run.chunk or (8 if alone else 32)

    @property
    def count(self) -> int:
        """Images of the job and of all its other shards."""
        count = len(self.dataset.ids)
        return count if self.run.limit is None else min(self.run.limit, count)

    def unsupported(self) -> dict[str, str]:
        """Methods that cannot explain this model, with the reason."""
        reasons = {name: method.unsupported(self.classifier) for name, method in self.methods.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def cells(self) -> dict[tuple[str, str], StoredCell]:
        """The cells that can be computed, by (method, metric)."""
        skipped = self.unsupported()
        shared = self._shared_identity()
        return {
            (method, metric): self._cell(method, metric, shared)
            for method in self.methods
            for metric in self.metrics
            if method not in skipped
        }

    def batches(self) -> list[Sequence[int]]:
        """Indices into the data set of every batch of this shard.

        The grid depends on the data set, the limit and the batch size alone, never on what is stored, so that a
        resumed or sharded run sees the batches of an uninterrupted one and gives the same bits.
        """
        indices = range(self.count)
        grid = [indices[start : start + self.run.batch_size] for start in range(0, len(indices), self.run.batch_size)]
        part, parts = self.run.shard
        return list(grid[part::parts])

    def undertaking(self) -> Undertaking:
        """What the job is going to do, for its record in the store."""
        return Undertaking(
            key=self.key,
            job=self.name,
            model=self.classifier.name,
            dataset=self.dataset.name,
            protocol=self.protocol.name,
            shard=self.run.shard,
            count=self.count,
            cells=[cell.digest for cell in self.cells().values()],
            batches=len(self.batches()),
            mine=sum(map(len, self.batches())),
        )

    def _shared_identity(self) -> dict[str, Any]:
        protocol = {key: getattr(self.protocol, key) for key in ("name", "version", "target", "map_resize", "dtype")}
        return {
            "model": self.classifier.identity(),
            "dataset": {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint()},
            "preprocess": self.preprocess.identity(),
            "protocol": protocol | {"tf32": self.protocol.tf32, "seed": self.protocol.seed},
        }

    def _cell(self, method: str, metric: str, shared: Mapping[str, Any]) -> StoredCell:
        identity = {
            **shared,
            "method": describe(self.methods[method]),
            "metric": describe(self.metrics[metric]),
        }
        printed = {
            "label": self.methods[method].label,
            "role": getattr(self.methods[method], "role", BASELINE),
            "metric_label": self.metrics[metric].label,
        }
        model, dataset, protocol = self.group
        return StoredCell(model, dataset, method, metric, protocol, identity, printed)


def describe(thing: object) -> Any:
    """A hyper-parameter object as plain values: its class and its fields, without those that change no stored row.

    Those are what is printed, and fields with the metadata `summary_only`: ways to reduce the rows that are stored.

    Raises ValueError where an object is not a dataclass, since its parameters could not be told apart.
    """
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        name = f"{type(thing).__module__}.{type(thing).__qualname__}"
        return {"_target_": name, **dict(_described_fields(thing))}
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    raise ValueError(f"{type(thing).__qualname__}: expected a dataclass of plain values, got {thing!r}")


def _described_fields(thing: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(thing):
        if field.name not in _PRINTED and not field.metadata.get("summary_only"):
            yield field.name, describe(getattr(thing, field.name))


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{key}: expected an integer of at least {least}, got {value}")
