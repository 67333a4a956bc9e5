"""The same score under every protocol: one line for each metric and method, one column for each protocol."""

from __future__ import annotations

from typing import NamedTuple

from dix.bench.tables.samples import Block, Key
from dix.bench.tables.table import Table, TableCell


class Line(NamedTuple):
    """One metric and method. cells: one for each protocol, in their order; None where a protocol lacks the block."""

    metric: str
    method: str
    cells: tuple[TableCell | None, ...]


class Beside(NamedTuple):
    """One model on one data set under several protocols."""

    dataset: str
    model: str
    protocols: tuple[str, ...]
    lines: tuple[Line, ...]


def protocols_of(table: Table) -> tuple[str, ...]:
    """The protocols of a table, in its order."""
    return tuple(dict.fromkeys(block.protocol for block in table.layout.blocks))


def beside(table: Table) -> list[Beside]:
    """Every model and data set that has at least two protocols."""
    found = []
    for dataset, model in dict.fromkeys((block.dataset, block.model) for block in table.layout.blocks):
        blocks = [block for block in table.layout.blocks if (block.dataset, block.model) == (dataset, model)]
        if len(blocks) > 1:
            protocols = tuple(block.protocol for block in blocks)
            found.append(Beside(dataset, model, protocols, tuple(_lines(table, blocks))))
    return found


def _lines(table: Table, blocks: list[Block]) -> list[Line]:
    """Lines that at least one protocol has measured, or should have."""
    metrics = [name for name in table.layout.metrics if any(name in table.metrics_of(block) for block in blocks)]
    methods = [name for name in table.layout.methods if any(name in table.methods_of(block) for block in blocks)]
    return [
        Line(metric, method, tuple(table.cells.get(Key(block, method, metric)) for block in blocks))
        for metric in metrics
        for method in methods
    ]
