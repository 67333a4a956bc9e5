"""Two methods against each other on every line of a table: the lead, its interval and the test, corrected together."""

from __future__ import annotations

import numpy as np

from dix.bench.tables import samples
from dix.bench.tables.claims import Tested, judged, tested
from dix.bench.tables.layouts import stored_layout
from dix.bench.tables.measured import Context, measure, percentages
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import Claim, Evidence, Plan, TableLayout


def pairwise(
    evidence: Evidence, plan: Plan, first: str, second: str, bootstrap: Bootstrap | None = None
) -> list[Claim]:
    """By line whether `first` is better than `second`, over the images that count for both.

    Lines whose metric has no direction are left out. The p-values are corrected for all lines that are returned.
    """
    stored = samples.read(evidence.rows)
    stored |= samples.derive(stored, plan.metrics)
    whole = stored_layout(stored, evidence.skips, plan)
    layout = TableLayout(whole.blocks, (first, second), whole.metrics)
    context = Context(plan, layout, bootstrap or Bootstrap(), {}, {}, percentages(stored))
    found: list[Tested] = []
    for block in layout.blocks:
        measured = measure(block, stored, context)
        lines = [name for name in layout.metrics if plan.metrics[name].higher_is_better is not None]
        found += [tested(Claim(block, name, first, second, np.nan), measured, context) for name in lines]
    return judged([one for one in found if one[0].n], context)
