"""Which blocks, methods and metrics a table has, and which of its cells cannot exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dix.bench.tables import paper
from dix.bench.tables.samples import Block, Derived, Key, Summarised
from dix.bench.tables.table import Plan, Skip, TableLayout


def thesis_layout(number: int, protocol: str = "thesis", more_metrics: Sequence[str] = ()) -> TableLayout:
    """The layout of the thesis's Table 1-5, with further metrics as more lines."""
    printed = paper.layout(number)
    blocks = tuple(Block(protocol, dataset, model) for dataset, model in printed.blocks)
    return TableLayout(blocks, printed.methods, printed.metrics + tuple(more_metrics))


def stored_layout(stored: Iterable[Key], skips: Sequence[Skip], plan: Plan) -> TableLayout:
    """What is stored, or skipped where something else is stored; labelled names first, metrics in the plan's order."""
    keys = list(stored)
    datasets = _ordered((key.block.dataset for key in keys), plan.labels.datasets)
    models = _ordered((key.block.model for key in keys), plan.labels.models)
    blocks = sorted(
        {key.block for key in keys},
        key=lambda block: (block.protocol, datasets.index(block.dataset), models.index(block.model)),
    )
    methods = {key.method for key in keys} | {skip[2] for skip in skips if skip[2] != "*"}
    metrics = {key.metric for key in keys} | {skip[3] for skip in skips if skip[3] != "*"}
    return TableLayout(tuple(blocks), _ordered(methods, plan.labels.methods), _ordered(metrics, plan.metrics))


def _ordered(names: Iterable[str], order: Iterable[str]) -> tuple[str, ...]:
    present = set(names)
    known = [name for name in order if name in present]
    return tuple(known + sorted(present - set(known)))


def skip_reasons(skips: Sequence[Skip], layout: TableLayout, metrics: Mapping[str, Summarised]) -> dict[Key, str]:
    """The reason for each skipped cell of the layout; a derived metric is skipped with its inputs."""
    reasons: dict[Key, str] = {}
    for block in layout.blocks:
        for method in layout.methods:
            for metric in layout.metrics:
                owner = metrics[metric]
                inputs = owner.inputs if isinstance(owner, Derived) else (metric,)
                for skip in skips:
                    if _covers(skip, block, method, inputs):
                        reasons.setdefault(Key(block, method, metric), skip[4])
    return reasons


def _covers(skip: Skip, block: Block, method: str, metrics: Sequence[str]) -> bool:
    names = zip(skip[:3], (block.model, block.dataset, method), strict=True)
    return all(mine in ("*", theirs) for mine, theirs in names) and (skip[3] == "*" or skip[3] in metrics)
