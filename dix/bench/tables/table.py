"""What a table is made of and what it says: names, evidence, plan, cells and claims; see `build`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from dix.bench.tables import paper
from dix.bench.tables.samples import Block, Key, Sample, Summarised
from dix.bench.tables.statistics import Bootstrap

#: What is asked for and possible but not stored is missing; what nobody asked for is absent.
Status = Literal["measured", "skipped", "missing", "absent"]
Skip = tuple[str, str, str, str, str]

CONFIRMED = "confirmed"
REFUTED = "not confirmed"
BETTER = "better"
WORSE = "worse"
UNDECIDED = "undecided at this n"
INCOMPARABLE = "not comparable"
UNMEASURED = "not measured"
VERDICTS = (CONFIRMED, REFUTED, BETTER, WORSE, UNDECIDED, INCOMPARABLE, UNMEASURED)


class TableLayout(NamedTuple):
    """The blocks, columns (methods) and lines (metrics) that a table has, in its order."""

    blocks: tuple[Block, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Printed names; a name without a label prints as it is. colours: of methods that were given one."""

    methods: Mapping[str, str] = field(default_factory=lambda: dict(paper.METHOD_LABELS))
    models: Mapping[str, str] = field(default_factory=lambda: dict(paper.MODEL_LABELS))
    datasets: Mapping[str, str] = field(default_factory=lambda: dict(paper.DATASET_LABELS))
    metrics: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)

    def method(self, name: str) -> str:
        """The method's printed name."""
        return self.methods.get(name, name)

    def model(self, name: str) -> str:
        """The model's printed name."""
        return self.models.get(name, name)

    def dataset(self, name: str) -> str:
        """The data set's printed name."""
        return self.datasets.get(name, name)

    def metric(self, name: str) -> str:
        """The metric's printed name."""
        return self.metrics.get(name, name)


@dataclass(frozen=True)
class Evidence:
    """What the store holds.

    rows: one row for each (cell, image) with the columns `samples.COLUMNS`, or what `samples.stored` reads. cells: the
    stored cells' names and identities. skips: (model, data set, method, metric, reason) of impossible cells, "*" as a
    name stands for all.
    provenance: what the numbers depend on besides, printed with them. The tables know the keys `weights` and
    `incomparable` (a text by model; `incomparable` also by data set: why its values must not be held against the
    thesis's), `protocol` (choices by protocol), `images`, `machine`, `versions` and `cost`; others are printed too.
    """

    rows: pd.DataFrame | Mapping[Key, Sample]
    cells: Sequence[Mapping[str, Any]] = ()
    skips: Sequence[Skip] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a table shows and how it compares.

    metrics: by name; derived ones too. layout: None shows whatever is stored or skipped. printed: the thesis's values
    by (model, data set, method, metric). proposed: the variants of the proposed method, which are no baselines.
    claimed: those of them whose lead is claimed. controls: rows that are shown but neither ranked nor compared.
    """

    metrics: Mapping[str, Summarised]
    title: str = ""
    labels: Labels = field(default_factory=Labels)
    layout: TableLayout | None = None
    printed: Mapping[tuple[str, str, str, str], float] = field(default_factory=paper.lookup)
    proposed: Sequence[str] = paper.PROPOSED
    claimed: Sequence[str] = paper.CLAIMED
    controls: Sequence[str] = ()


@dataclass(frozen=True)
class TableCell:
    """One method's score on one line.

    value, low, high: the score and its interval. n: images that count; excluded: how many do not, by reason.
    flagged: how many have a remark, by remark (a constant map, for one). note: on the interval.
    printed: the thesis's value (NaN: none); difference: value - printed; outside: it is outside the interval.
    rank: 1 is best; best, second: its mark; all over the `shared` images that every ranked method of the line has.
    lacks: images that other ranked methods have and this one has not. rival: the best baseline over these images; lead:
    how much better than it, with its interval; p: corrected for all comparisons of the table, p_alone: uncorrected,
    p_rank: of Wilcoxon's test, uncorrected.
    reason: why the cell is skipped or its value must not be held against the thesis's.
    """

    key: Key
    status: Status = "missing"
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    printed: float = np.nan
    difference: float = np.nan
    outside: bool = False
    best: bool = False
    second: bool = False
    rank: float = np.nan
    shared: int = 0
    lacks: int = 0
    rival: str = ""
    lead: float = np.nan
    lead_low: float = np.nan
    lead_high: float = np.nan
    p: float = np.nan
    p_alone: float = np.nan
    p_rank: float = np.nan
    reason: str = ""
    flagged: Mapping[str, int] = field(default_factory=dict)


class MeanRank(NamedTuple):
    """A method's mean rank over the lines of a block where it has one, of all ranked lines of the block."""

    mean: float
    lines: int
    of: int


@dataclass(frozen=True)
class Claim:
    """`better` scores better than `worse` on one line, and what was measured.

    printed: the lead in the thesis's table, positive; NaN for the general claim where the thesis has no values.
    lead, low, high: the measured lead and its interval, positive in favour. n: paired images.
    p: of the test that the two scores are equal, corrected for all claims of the table; p_alone: uncorrected; p_rank:
    of Wilcoxon's test, uncorrected.
    """

    block: Block
    metric: str
    better: str
    worse: str
    printed: float
    lead: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    p: float = np.nan
    p_alone: float = np.nan
    p_rank: float = np.nan
    verdict: str = UNMEASURED


@dataclass(frozen=True)
class Table:
    """All cells of a table with what is said about them; see `build`."""

    title: str
    layout: TableLayout
    labels: Labels
    directions: Mapping[str, bool | None]
    cells: Mapping[Key, TableCell]
    mean_ranks: Mapping[tuple[Block, str], MeanRank]
    claims: tuple[Claim, ...]
    bootstrap: Bootstrap
    provenance: Mapping[str, Any]
    identities: Sequence[Mapping[str, Any]] = ()
    proposed: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

    def cell(self, block: Block, method: str, metric: str) -> TableCell:
        """One cell."""
        return self.cells[Key(block, method, metric)]

    def line(self, block: Block, metric: str) -> tuple[TableCell, ...]:
        """One metric of a block for all methods."""
        return tuple(self.cell(block, method, metric) for method in self.layout.methods)

    def with_status(self, status: Status) -> tuple[TableCell, ...]:
        """All cells that are measured, skipped or missing."""
        return tuple(cell for cell in self.cells.values() if cell.status == status)

    def methods_of(self, block: Block) -> tuple[str, ...]:
        """The methods that a block has or should have."""
        return tuple(name for name in self.layout.methods if self._any(block, (name,), self.layout.metrics))

    def metrics_of(self, block: Block) -> tuple[str, ...]:
        """The metrics that a block has or should have."""
        return tuple(name for name in self.layout.metrics if self._any(block, self.layout.methods, (name,)))

    def _any(self, block: Block, methods: Sequence[str], metrics: Sequence[str]) -> bool:
        statuses = {self.cell(block, method, metric).status for method in methods for metric in metrics}
        return bool(statuses & {"measured", "missing"})
