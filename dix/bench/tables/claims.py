"""The thesis's claims: which method is better than which on a line, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dix.bench.tables import samples, statistics
from dix.bench.tables.measured import Context, Measured, paired_test
from dix.bench.tables.samples import Block, Key, Summarised
from dix.bench.tables.statistics import Bootstrap, Draws, Paired
from dix.bench.tables.table import CONFIRMED, INCOMPARABLE, REFUTED, UNDECIDED, Claim


def claims_of(block: Block, metric: str, measured: Mapping[Key, Measured], context: Context) -> list[Claim]:
    """The thesis's claims on one line with their verdicts, Holm-corrected together."""
    claims = _claimed(block, metric, context)
    tests = [_test(claim, measured, context) for claim in claims]
    p_values = statistics.holm([paired.p for _, paired in tests])
    why = context.why_incomparable(block)
    level = context.bootstrap.level
    return [
        _judge(replace(claim, p=float(p)), paired, level, why)
        for (claim, paired), p in zip(tests, p_values, strict=True)
    ]


def _claimed(block: Block, metric: str, context: Context) -> list[Claim]:
    """Each claimed method against each baseline: as printed, or as generally claimed where nothing is printed."""
    plan, owner = context.plan, context.plan.metrics[metric]
    if owner.higher_is_better is None or owner.extra:
        return []
    sign = 1.0 if owner.higher_is_better else -1.0
    rivals = [method for method in context.layout.methods if method not in (*plan.proposed, *plan.controls)]
    known = {(model, dataset) for model, dataset, _, _ in plan.printed}
    claims = []
    for ours in [method for method in context.layout.methods if method in plan.claimed]:
        for rival in rivals:
            lead = sign * (context.printed(block, ours, metric) - context.printed(block, rival, metric))
            general = (block.model, block.dataset) not in known
            if general or lead > 0:
                claims.append(Claim(block, metric, ours, rival, lead))
            elif lead < 0:
                claims.append(Claim(block, metric, rival, ours, -lead))
    return claims


def _test(claim: Claim, measured: Mapping[Key, Measured], context: Context) -> tuple[Claim, Paired]:
    """The claim with its measured lead and interval, and the paired test of its two methods."""
    better, worse = (measured.get(Key(claim.block, name, claim.metric)) for name in (claim.better, claim.worse))
    if better is None or worse is None:
        return claim, Paired(0, np.nan, 0)
    metric = context.plan.metrics[claim.metric]
    images = samples.common([better.kept, worse.kept])
    paired = paired_test(better, worse)
    draws = _lead(better, worse, images, metric, context.bootstrap)
    if draws is None:
        lead, low, high = better.interval.value - worse.interval.value, np.nan, np.nan
    else:
        lead, (low, high) = draws.estimate, statistics.bca(draws, context.bootstrap.level)
    if not metric.higher_is_better:
        lead, low, high = -lead, -high, -low
        paired = replace(paired, sign=-paired.sign)
    return replace(claim, lead=lead, low=low, high=high, n=len(images)), paired


def _lead(
    better: Measured, worse: Measured, images: tuple[str, ...], metric: Summarised, bootstrap: Bootstrap
) -> Draws | None:
    """The draws of a difference of two scores, over the images that count for both."""
    if len(images) < 2:
        return None
    if better.kept == worse.kept and better.draws is not None and worse.draws is not None:
        return better.draws - worse.draws
    columns = [measured.sample.only(images).column(metric) for measured in (better, worse)]
    first, second = statistics.resample(columns, bootstrap)
    return first - second


def _judge(claim: Claim, paired: Paired, level: float, why_incomparable: str) -> Claim:
    """A verdict: decided only where the paired test and the interval of the lead agree on a direction."""
    if not paired.n:
        return claim
    decided = claim.p < 1 - level
    if why_incomparable:
        verdict = INCOMPARABLE
    elif decided and paired.sign > 0 and claim.low > 0:
        verdict = CONFIRMED
    elif decided and paired.sign < 0 and claim.high < 0:
        verdict = REFUTED
    else:
        verdict = UNDECIDED
    return replace(claim, verdict=verdict)
