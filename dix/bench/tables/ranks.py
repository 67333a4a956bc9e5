"""Places on a line, and mean ranks over a block's lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dix.bench.tables import statistics
from dix.bench.tables.samples import Block, Key, Summarised
from dix.bench.tables.table import MeanRank, TableCell, TableLayout


def ranked(cells: Mapping[Key, TableCell], higher_is_better: bool, controls: Sequence[str]) -> dict[Key, TableCell]:
    """The cells with rank, best and second; controls take no part."""
    values = [np.nan if key.method in controls else cell.value for key, cell in cells.items()]
    ranks = statistics.ranks(values, higher_is_better)
    places = sorted({rank for rank in ranks if not np.isnan(rank)})
    first, second = (*places, np.nan, np.nan)[:2]
    return {
        key: replace(cell, rank=float(rank), best=bool(rank == first), second=bool(rank == second))
        for (key, cell), rank in zip(cells.items(), ranks, strict=True)
    }


def mean_ranks(
    cells: Mapping[Key, TableCell], layout: TableLayout, metrics: Mapping[str, Summarised]
) -> dict[tuple[Block, str], MeanRank]:
    """Each method's mean rank over the block's lines, without extra metrics and lines that nobody has."""
    means = {}
    lines = [name for name in layout.metrics if not metrics[name].extra]
    for block in layout.blocks:
        ranked = {
            name: [cells[Key(block, method, name)].rank for method in layout.methods]
            for name in lines
            if any(not np.isnan(cells[Key(block, method, name)].rank) for method in layout.methods)
        }
        for position, method in enumerate(layout.methods):
            own = [rank[position] for rank in ranked.values() if not np.isnan(rank[position])]
            means[block, method] = MeanRank(float(np.mean(own)) if own else np.nan, len(own), len(ranked))
    return means
