"""A table: every cell with its uncertainty, its place among the methods, and its distance from the thesis's value.

`build` reduces stored rows. A *line* is one metric of one block (protocol, data set, model): its methods are ranked
and tested against the best baseline. A *claim* is the thesis's order of two methods in one line, and gets a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dix.bench.tables import samples, signflip
from dix.bench.tables.claims import Tested, judged, tested_claims
from dix.bench.tables.layouts import skip_reasons, stored_layout
from dix.bench.tables.lines import against_best_baseline, contest_of, placed
from dix.bench.tables.measured import Context, Measured, measure, percentages
from dix.bench.tables.ranks import mean_ranks
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.signflip import Paired
from dix.bench.tables.statistics import Bootstrap, Floats
from dix.bench.tables.table import Evidence, Plan, Status, Table, TableCell


def build(evidence: Evidence, plan: Plan, bootstrap: Bootstrap | None = None) -> Table:
    """Reduce stored rows to a table.

    Raises ValueError where a stored metric is unknown or an image has two rows in one cell.
    """
    stored, context = _read(evidence, plan, bootstrap or Bootstrap())
    layout, bootstrap = context.layout, context.bootstrap
    cells, claims = _filled(stored, context)
    return Table(
        title=plan.title,
        layout=layout,
        labels=replace(plan.labels, metrics={name: metric.label for name, metric in plan.metrics.items()}),
        directions={name: plan.metrics[name].higher_is_better for name in layout.metrics},
        cells=cells,
        mean_ranks=mean_ranks(cells, layout, plan.metrics),
        claims=tuple(judged(claims, context)),
        bootstrap=bootstrap,
        provenance=evidence.provenance,
        identities=evidence.cells,
        proposed=tuple(plan.proposed),
        controls=tuple(plan.controls),
    )


def scores(evidence: Evidence, plan: Plan, bootstrap: Bootstrap | None = None) -> list[TableCell]:
    """The measured cells of the same table with score and interval alone: tests, ranks and claims take most time."""
    stored, context = _read(evidence, plan, bootstrap or Bootstrap())
    measured = {key: one for block in context.layout.blocks for key, one in measure(block, stored, context).items()}
    return [_cell(key, measured, context) for key in measured]


def _read(evidence: Evidence, plan: Plan, bootstrap: Bootstrap) -> tuple[dict[Key, Sample], Context]:
    """The samples of all rows and of derived metrics, and what every cell is computed with."""
    stored = dict(samples.read(evidence.rows))
    stored |= samples.derive(stored, plan.metrics)
    layout = plan.layout or stored_layout(stored, evidence.skips, plan)
    unknown = sorted(set(layout.metrics) - set(plan.metrics))
    if unknown:
        raise ValueError(f"expected metrics among {sorted(plan.metrics)}, got {unknown}")
    skips = skip_reasons(evidence.skips, layout, plan.metrics)
    incomparable = evidence.provenance.get("incomparable", {})
    announced = frozenset(_key(cell) for cell in evidence.cells)
    return stored, Context(plan, layout, bootstrap, skips, incomparable, percentages(stored), announced)


def _key(cell: Mapping[str, Any]) -> Key:
    return Key(Block(*(str(cell[name]) for name in Block._fields)), str(cell["method"]), str(cell["metric"]))


def _filled(stored: Mapping[Key, Sample], context: Context) -> tuple[dict[Key, TableCell], list[Tested]]:
    """All cells, their p-values corrected for the comparisons of all lines of all blocks; and all claims."""
    cells: dict[Key, TableCell] = {}
    claims: list[Tested] = []
    tests: dict[Key, Paired] = {}
    maxima = np.zeros(context.bootstrap.flips)
    for block in context.layout.blocks:
        measured = measure(block, stored, context)
        for metric in context.layout.metrics:
            line, found, strengths = _line(block, metric, measured, context)
            cells |= line
            tests |= found
            maxima = np.maximum(maxima, strengths)
            claims += tested_claims(block, metric, measured, context)
    corrected = {key: replace(cells[key], p=signflip.corrected(paired, maxima)) for key, paired in tests.items()}
    return {key: corrected.get(key, cell) for key, cell in cells.items()}, claims


def _line(
    block: Block, metric: str, measured: Mapping[Key, Measured], context: Context
) -> tuple[dict[Key, TableCell], dict[Key, Paired], Floats]:
    """One metric of a block: every method's cell, the tests against the best baseline, and the flips' strengths."""
    keys = [Key(block, method, metric) for method in context.layout.methods]
    cells = {key: _cell(key, measured, context) for key in keys}
    contest = contest_of(block, metric, measured, context)
    if contest is None:
        return cells, {}, np.zeros(context.bootstrap.flips)
    cells |= placed(contest, cells, measured)
    found = against_best_baseline(contest, cells, measured, context)
    baselines = [key for key in contest.keys if key.method not in context.plan.proposed]
    strengths = signflip.largest(contest.draws, contest.pairs(baselines), context.bootstrap)
    cells |= {key: cell for key, (cell, _) in found.items()}
    return cells, {key: paired for key, (_, paired) in found.items()}, strengths


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
    """Whether a cell is missing: it is in the given layout, or a job was to fill it.

    Of a metric that no job announces, such as one that follows from others, its block has to have it and the method.
    """
    if context.plan.layout is not None:
        return True
    if any((other.block, other.metric) == (key.block, key.metric) for other in context.announced):
        return key in context.announced
    return {key.method, key.metric} <= {name for other in measured for name in (other.method, other.metric)}
