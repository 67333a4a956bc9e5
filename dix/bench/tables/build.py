"""A table: every cell with its uncertainty, its place among the methods, and its distance from the thesis's value.

`build` reduces stored rows. A *line* is one metric of one block (protocol, data set, model): its methods are ranked
and tested against the best baseline. A *claim* is the thesis's order of two methods in one line, and gets a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dix.bench.tables import samples, statistics
from dix.bench.tables.claims import claims_of
from dix.bench.tables.layouts import skip_reasons, stored_layout
from dix.bench.tables.measured import Context, Measured, measure, paired_test
from dix.bench.tables.ranks import mean_ranks, ranked
from dix.bench.tables.samples import Block, Key
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import Claim, Evidence, Plan, Status, Table, TableCell


def build(evidence: Evidence, plan: Plan, bootstrap: Bootstrap | None = None) -> Table:
    """Reduce stored rows to a table.

    Raises ValueError where a stored metric is unknown or an image has two rows in one cell.
    """
    bootstrap = bootstrap or Bootstrap()
    stored = samples.read(evidence.rows)
    stored |= samples.derive(stored, plan.metrics)
    layout = plan.layout or stored_layout(stored, evidence.skips, plan)
    unknown = sorted(set(layout.metrics) - set(plan.metrics))
    if unknown:
        raise ValueError(f"expected metrics among {sorted(plan.metrics)}, got {unknown}")
    skips = skip_reasons(evidence.skips, layout, plan.metrics)
    context = Context(plan, layout, bootstrap, skips, evidence.provenance.get("incomparable", {}))
    cells: dict[Key, TableCell] = {}
    claims: list[Claim] = []
    for block in layout.blocks:
        measured = measure(block, stored, context)
        for metric in layout.metrics:
            cells |= _line(block, metric, measured, context)
            claims += claims_of(block, metric, measured, context)
    return Table(
        title=plan.title,
        layout=layout,
        labels=replace(plan.labels, metrics={name: metric.label for name, metric in plan.metrics.items()}),
        directions={name: plan.metrics[name].higher_is_better for name in layout.metrics},
        cells=cells,
        mean_ranks=mean_ranks(cells, layout, plan.metrics),
        claims=tuple(claims),
        bootstrap=bootstrap,
        provenance=evidence.provenance,
        identities=evidence.cells,
        proposed=tuple(plan.proposed),
        controls=tuple(plan.controls),
    )


def _line(block: Block, metric: str, measured: Mapping[Key, Measured], context: Context) -> dict[Key, TableCell]:
    """One metric of a block: every method's cell, ranked and compared with the best baseline."""
    keys = [Key(block, method, metric) for method in context.layout.methods]
    cells = {key: _cell(key, measured, context) for key in keys}
    direction = context.plan.metrics[metric].higher_is_better
    if direction is None:
        return cells
    placed = ranked(cells, direction, context.plan.controls)
    return _compared(placed, measured, context.plan)


def _cell(key: Key, measured: Mapping[Key, Measured], context: Context) -> TableCell:
    """One cell by itself, with its distance from the thesis's value."""
    printed = context.printed(key.block, key.method, key.metric)
    if key not in measured:
        reason = context.skips.get(key, "")
        status: Status = "skipped" if reason else "missing" if _asked(key, measured, context) else "absent"
        return TableCell(key, status, printed=printed, reason=reason)
    scored, sample = measured[key].interval, measured[key].sample
    reason = "" if np.isnan(printed) else context.why_incomparable(key.block)
    return TableCell(
        key,
        "measured",
        scored.value,
        scored.low,
        scored.high,
        scored.n,
        sample.excluded,
        scored.note,
        printed,
        scored.value - printed,
        outside=not reason and (printed < scored.low or printed > scored.high),
        reason=reason,
        flagged=sample.flagged,
    )


def _asked(key: Key, measured: Mapping[Key, Measured], context: Context) -> bool:
    """Whether a cell is missing: it is in the given layout, or its method and its metric are stored in its block."""
    if context.plan.layout is not None:
        return True
    return {key.method, key.metric} <= {name for other in measured for name in (other.method, other.metric)}


def _compared(cells: Mapping[Key, TableCell], measured: Mapping[Key, Measured], plan: Plan) -> dict[Key, TableCell]:
    """The ranked cells with their paired test against the best baseline, Holm-corrected over the line's methods."""
    baselines = [key for key, cell in cells.items() if key.method not in plan.proposed and not np.isnan(cell.rank)]
    if not baselines:
        return dict(cells)
    rival = min(baselines, key=lambda key: cells[key].rank)
    others = [key for key, cell in cells.items() if key != rival and not np.isnan(cell.rank)]
    p_values = statistics.holm([paired_test(measured[key], measured[rival]).p for key in others])
    tested = {key: replace(cells[key], p=float(p), rival=rival.method) for key, p in zip(others, p_values, strict=True)}
    return {key: tested.get(key, cell) for key, cell in cells.items()}
