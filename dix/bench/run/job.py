"""A job: one model and data set, some methods and metrics, one protocol; and what its cells are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from dix.bench.run import runtime
from dix.bench.run.checks import check
from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.store.cells import Group, StoredCell
from dix.bench.store.ledger import Undertaking
from dix.classifier import Classifier
from dix.datasets.api import Dataset
from dix.datasets.preprocess import Preprocess
from dix.datasets.subset import Subset, random_order
from dix.explainer import BASELINE, CONTROL, PROPOSED, Explainer
from dix.identity import describe, named
from dix.metrics.api import Metric

#: Settings of the protocol that no method or metric has as a field.
_SHARED = ("name", "version", "target", "unlabelled", "map_resize", "dtype")
#: What a method may be to a table.
ROLES = (BASELINE, PROPOSED, CONTROL)


@dataclass(frozen=True)
class Looks:
    """How tables and charts show a method, where its configuration says so; "" leaves it to the method and its name.

    label: its printed name. role: one of ROLES. colour: as #RRGGBB.
    """

    label: str = ""
    role: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Job:
    """Everything that a run needs, as objects.

    methods, metrics: by the name that rows store. preprocess: how the data set's images reach the model.
    key: names the job's own record in the store; by default its name and a hash of its cells. looks: how methods are
    shown, by name; presentation, which no row hangs on.
    """

    classifier: Classifier
    dataset: Dataset
    preprocess: Preprocess
    methods: Mapping[str, Explainer]
    metrics: Mapping[str, Metric]
    protocol: ScoreProtocol
    run: Run
    key: str = ""
    looks: Mapping[str, Looks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError where a setting is outside its range."""
        check(self.protocol, self.run)

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
        """Most rows in one forward pass.

        A single thread of a CPU is fastest where they stay in its caches. A large network is as fast with few, which
        take a third of the memory.
        """
        if self.run.chunk:
            return self.run.chunk
        few = torch.get_num_threads() == 1 or runtime.is_large(self.classifier.network)
        return 8 if few and self.classifier.device.type == "cpu" else 32

    @property
    def count(self) -> int:
        """Images of the job and of all its other shards."""
        count = len(self.dataset.ids)
        return count if self.run.limit is None else min(self.run.limit, count)

    @cached_property
    def order(self) -> Sequence[int]:
        """Indices into the data set of the images of all shards: its own order, or a random one; see `Run`."""
        if self.run.until == "all":
            return range(self.count)
        return random_order(self.dataset.name, self.dataset.ids, self.run.order)[: self.count]

    def role(self, method: str) -> str:
        """What a method is to tables: as its configuration says, or its class, or else a baseline."""
        own = self.looks.get(method, Looks()).role
        return own or str(getattr(self.methods[method], "role", BASELINE))

    def class_name(self, output: int) -> str:
        """What an output of the network means, in words where the data set or the network knows them."""
        if self.dataset.label_space == self.classifier.label_space:
            label = self.classifier.class_of(output)
            if label in self.dataset.class_names:
                return self.dataset.class_names[label]
        return self.classifier.class_name(output)

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
        indices = self.order
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
        protocol = {key: getattr(self.protocol, key) for key in _SHARED}
        return {
            "model": self.classifier.identity(),
            "dataset": {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint()} | reader_of(self.dataset),
            "preprocess": self.preprocess.identity(),
            "protocol": protocol | {"tf32": self.protocol.tf32, "seed": self.protocol.seed},
        }

    def _cell(self, method: str, metric: str, shared: Mapping[str, Any]) -> StoredCell:
        identity = {
            **shared,
            "method": describe(self.methods[method]),
            "metric": describe(self.metrics[metric]),
            "probe": _described_probe(self.metrics[metric]),
        }
        looks = self.looks.get(method, Looks())
        printed = {
            "label": looks.label or self.methods[method].label,
            "role": self.role(method),
            **({"colour": looks.colour} if looks.colour else {}),
            "metric_label": self.metrics[metric].label,
            "better": {True: "higher", False: "lower", None: "neither"}[self.metrics[metric].higher_is_better],
        }
        model, dataset, protocol = self.group
        return StoredCell(model, dataset, method, metric, protocol, identity, printed)


def reader_of(dataset: Dataset) -> dict[str, Any]:
    """The class that reads a data set, or the data set that a subset is of."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return named(type(dataset))


def _described_probe(metric: Metric) -> Any:
    """The metric's probe as plain values: what a row says depends on its version, too."""
    probe = getattr(metric, "probe", None)
    return None if probe is None else describe(probe)
