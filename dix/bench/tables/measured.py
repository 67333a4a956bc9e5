"""Every cell's score with its interval, and what comparisons of two cells need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dix.bench.tables import samples, statistics
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.statistics import Bootstrap, Draws, Interval, Paired
from dix.bench.tables.table import Plan, TableLayout


@dataclass(frozen=True)
class Measured:
    """A cell's score with what comparisons need; draws: None where fewer than two images count."""

    sample: Sample
    kept: tuple[str, ...]
    interval: Interval
    draws: Draws | None


@dataclass(frozen=True)
class Context:
    """What building one block needs."""

    plan: Plan
    layout: TableLayout
    bootstrap: Bootstrap
    skips: Mapping[Key, str]
    incomparable: Mapping[str, str]

    def why_incomparable(self, block: Block) -> str:
        return self.incomparable.get(block.model) or self.incomparable.get(block.dataset) or ""

    def printed(self, block: Block, method: str, metric: str) -> float:
        return self.plan.printed.get((block.model, block.dataset, method, metric), np.nan)


def measure(block: Block, stored: Mapping[Key, Sample], context: Context) -> dict[Key, Measured]:
    """All scores of a block; scores over the same images share their resamples."""
    groups: dict[tuple[str, ...], list[tuple[Key, Sample]]] = defaultdict(list)
    for method in context.layout.methods:
        for metric in context.layout.metrics:
            key = Key(block, method, metric)
            if key in stored:
                groups[stored[key].kept].append((key, stored[key]))
    measured = {}
    for kept, members in groups.items():
        columns = [sample.column(context.plan.metrics[key.metric]) for key, sample in members]
        few = len(kept) < 2
        drawn: list[Draws | None] = [None] * len(columns) if few else [*statistics.resample(columns, context.bootstrap)]
        for (key, sample), column, draws in zip(members, columns, drawn, strict=True):
            scored = (
                statistics.without_interval(column)
                if draws is None
                else statistics.interval(draws, len(kept), context.bootstrap.level)
            )
            measured[key] = Measured(sample, kept, scored, draws)
    return measured


def paired_test(first: Measured, second: Measured) -> Paired:
    """The paired test over the images that count for both."""
    images = samples.common([first.kept, second.kept])
    return statistics.wilcoxon(*(_values(measured, images) for measured in (first, second)))


def _values(measured: Measured, images: tuple[str, ...]) -> statistics.Floats:
    sample = measured.sample if measured.sample.images == images else measured.sample.only(images)
    return sample.value
