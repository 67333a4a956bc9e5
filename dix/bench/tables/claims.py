"""Claims: which method should be better than which on a line, what was measured of it, and a verdict.

Where the thesis prints values, its order is the claim; elsewhere each claimed method is held against each baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dix.bench.tables import paper, samples, signflip
from dix.bench.tables.lines import lead_of
from dix.bench.tables.measured import Context, Measured, drawn_over, values_over
from dix.bench.tables.samples import Block, Key
from dix.bench.tables.signflip import UNTESTED, Paired
from dix.bench.tables.statistics import Floats
from dix.bench.tables.table import BETTER, CONFIRMED, INCOMPARABLE, REFUTED, UNDECIDED, WORSE, Claim

#: A claim with its uncorrected test and, where it has one, the strength that each flip gives it.
Tested = tuple[Claim, Paired, Floats | None]


def tested_claims(block: Block, metric: str, measured: Mapping[Key, Measured], context: Context) -> list[Tested]:
    """The claims on one line with what was measured of them."""
    return [tested(claim, measured, context) for claim in _claimed(block, metric, context)]


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
            general = (block.model, block.dataset) not in known or ours not in paper.CLAIMED
            if general or lead > 0:
                claims.append(Claim(block, metric, ours, rival, lead))
            elif lead < 0:
                claims.append(Claim(block, metric, rival, ours, -lead))
    return claims


def tested(claim: Claim, measured: Mapping[Key, Measured], context: Context) -> Tested:
    """The claim with its measured lead and interval, over the images that count for both methods."""
    better, worse = (measured.get(Key(claim.block, name, claim.metric)) for name in (claim.better, claim.worse))
    if better is None or worse is None:
        return claim, UNTESTED, None
    metric = context.plan.metrics[claim.metric]
    images = samples.common([better.kept, worse.kept])
    if len(images) < 2:
        lead = (better.interval.value - worse.interval.value) * (1 if metric.higher_is_better else -1)
        return replace(claim, lead=lead, n=len(images)), UNTESTED, None
    draws = drawn_over(images, (better, worse), metric, context.bootstrap)
    paired = signflip.paired_test(draws[0], draws[1], context.bootstrap)
    lead, low, high = lead_of(draws[0], draws[1], bool(metric.higher_is_better), context.bootstrap.level)
    p_rank = signflip.wilcoxon(values_over(images, better), values_over(images, worse)).p
    found = replace(claim, lead=lead, low=low, high=high, n=len(images), p_alone=paired.p, p_rank=p_rank)
    return found, paired, signflip.largest(draws, [(0, 1)], context.bootstrap)


def judged(found: Sequence[Tested], context: Context) -> list[Claim]:
    """The claims of a whole table with their p-values corrected together, and their verdicts."""
    maxima = np.zeros(context.bootstrap.flips)
    for _, _, strengths in found:
        maxima = maxima if strengths is None else np.maximum(maxima, strengths)
    return [_judge(replace(claim, p=signflip.corrected(paired, maxima)), context) for claim, paired, _ in found]


def _judge(claim: Claim, context: Context) -> Claim:
    """A verdict on what the thesis printed, or, where it printed nothing, on the measured order alone.

    It is decided where the corrected test is, and the interval of the lead, if it has one, leaves 0 out.
    """
    if not claim.n:
        return claim
    printed = not np.isnan(claim.printed)
    if printed and context.why_incomparable(claim.block):
        return replace(claim, verdict=INCOMPARABLE)
    decided = claim.p < 1 - context.bootstrap.level and not claim.low <= 0 <= claim.high
    if not decided:
        return replace(claim, verdict=UNDECIDED)
    names = (CONFIRMED, REFUTED) if printed else (BETTER, WORSE)
    return replace(claim, verdict=names[0] if claim.lead > 0 else names[1])
