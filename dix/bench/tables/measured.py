"""Every cell's score with its interval, and what comparisons of two cells need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dix.bench.tables import statistics
from dix.bench.tables.samples import Block, Key, Sample, Summarised
from dix.bench.tables.statistics import Bootstrap, Column, Draws, Floats, Interval
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
    """What building one block needs.

    percentages: metrics of a block of which 0 and 100 are the ends; see `percentages`. announced: cells that jobs were
    to fill.
    """

    plan: Plan
    layout: TableLayout
    bootstrap: Bootstrap
    skips: Mapping[Key, str]
    incomparable: Mapping[str, str]
    percentages: frozenset[tuple[Block, str]] = frozenset()
    announced: frozenset[Key] = frozenset()

    def why_incomparable(self, block: Block) -> str:
        return self.incomparable.get(block.model) or self.incomparable.get(block.dataset) or ""

    def printed(self, block: Block, method: str, metric: str) -> float:
        return self.plan.printed.get((block.model, block.dataset, method, metric), np.nan)


def percentages(stored: Mapping[Key, Sample]) -> frozenset[tuple[Block, str]]:
    """Blocks and metrics whose stored values reach 0 and 100 and nothing beyond, or are nothing else.

    An image set that scores 0 or 100 throughout is a count, of which exact intervals exist; of a metric without these
    ends it would say nothing. Each block is asked for itself, so that its table is the same alone and beside others.
    """
    found: dict[tuple[Block, str], tuple[float, float, bool]] = {}
    for key, sample in stored.items():
        value = sample.value[~np.isnan(sample.value)]
        if len(value):
            low, high, binary = found.get((key.block, key.metric), (np.inf, -np.inf, True))
            binary = binary and _binary(value)
            found[key.block, key.metric] = min(low, float(value.min())), max(high, float(value.max())), binary
    return frozenset(name for name, (low, high, binary) in found.items() if binary or (low == 0 and high == 100))


def _binary(value: Floats) -> bool:
    return bool(((value == 0) | (value == 100)).all())


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
        columns = [_column(key, sample, context) for key, sample in members]
        few = len(kept) < 2
        drawn: list[Draws | None] = [None] * len(columns) if few else [*statistics.resample(columns, context.bootstrap)]
        for (key, sample), column, draws in zip(members, columns, drawn, strict=True):
            scored = (
                statistics.without_interval(column)
                if draws is None
                else statistics.interval(draws, column, context.bootstrap.level)
            )
            measured[key] = Measured(sample, kept, scored, draws)
    return measured


def _column(key: Key, sample: Sample, context: Context) -> Column:
    column = sample.column(context.plan.metrics[key.metric])
    counts = (key.block, key.metric) in context.percentages and len(column.value) > 0 and _binary(column.value)
    return replace(column, proportion=counts and statistics.is_mean(column))


def drawn_over(
    images: tuple[str, ...], members: Sequence[Measured], metric: Summarised, bootstrap: Bootstrap
) -> list[Draws]:
    """The draws of one metric's scores over two images or more that all of the members have."""
    own = [member.draws for member in members if member.kept == images and member.draws is not None]
    if len(own) == len(members):
        return own
    return statistics.resample([member.sample.only(images).column(metric) for member in members], bootstrap)


def values_over(images: tuple[str, ...], measured: Measured) -> Floats:
    """The images' own values, in the order of the images' ids."""
    sample = measured.sample if measured.sample.images == images else measured.sample.only(images)
    return sample.value
