"""One line of a table: who is compared with whom, over which images, and the places that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dix.bench.tables import samples, signflip, statistics
from dix.bench.tables.measured import Context, Measured, drawn_over, values_over
from dix.bench.tables.ranks import marks, ranks
from dix.bench.tables.samples import Block, Key
from dix.bench.tables.signflip import Paired
from dix.bench.tables.statistics import Draws, Floats
from dix.bench.tables.table import TableCell


@dataclass(frozen=True)
class Contest:
    """The methods that are ranked on a line, with their scores over the images that all of them have.

    keys: K cells. images: two or more, or no method is ranked. draws: K scores over these images.
    """

    keys: tuple[Key, ...]
    images: tuple[str, ...]
    draws: tuple[Draws, ...]
    higher_is_better: bool

    def pairs(self, baselines: Sequence[Key]) -> list[tuple[int, int]]:
        """All pairs of which one is a baseline: whichever baseline turns out best, its comparisons are among them."""
        both = [(a, b) for b in range(len(self.keys)) for a in range(b)]
        return [(a, b) for a, b in both if self.keys[a] in baselines or self.keys[b] in baselines]


def contest_of(block: Block, metric: str, measured: Mapping[Key, Measured], context: Context) -> Contest | None:
    """The contest of a line; None where its metric has no direction or fewer than two images are shared."""
    owner = context.plan.metrics[metric]
    methods = [name for name in context.layout.methods if name not in context.plan.controls]
    present = {key: measured[key].kept for name in methods if (key := Key(block, name, metric)) in measured}
    keys, images = shared_images({key: kept for key, kept in present.items() if len(kept) > 1})
    if owner.higher_is_better is None or not keys:
        return None
    draws = drawn_over(images, [measured[key] for key in keys], owner, context.bootstrap)
    return Contest(keys, images, tuple(draws), owner.higher_is_better)


def shared_images(kept: Mapping[Key, tuple[str, ...]]) -> tuple[tuple[Key, ...], tuple[str, ...]]:
    """Which methods are ranked, and the images that all of them have.

    A method that would leave the line less than half of its images is not ranked: those with the fewest go first.
    """
    keys = sorted(kept, key=lambda key: len(kept[key]), reverse=True)
    most = len(kept[keys[0]]) if keys else 0
    while keys:
        images = samples.common([kept[key] for key in keys])
        if len(images) >= max(2, most / 2):
            return tuple(key for key in kept if key in keys), images
        keys.pop()
    return (), ()


def placed(contest: Contest, cells: Mapping[Key, TableCell], measured: Mapping[Key, Measured]) -> dict[Key, TableCell]:
    """The contest's cells with rank and mark, and how many images of the others each of them lacks."""
    rank = ranks([draws.estimate for draws in contest.draws], contest.higher_is_better)
    best, second = marks(rank)
    union = {image for key in contest.keys for image in measured[key].kept}
    return {
        key: replace(
            cells[key],
            rank=float(rank[k]),
            best=bool(best[k]),
            second=bool(second[k]),
            shared=len(contest.images),
            lacks=len(union) - len(measured[key].kept),
        )
        for k, key in enumerate(contest.keys)
    }


def against_best_baseline(
    contest: Contest, cells: Mapping[Key, TableCell], measured: Mapping[Key, Measured], context: Context
) -> dict[Key, tuple[TableCell, Paired]]:
    """The cells that have a rival with their lead over it, and the uncorrected test of it."""
    own = [key for key in contest.keys if key.method not in context.plan.proposed]
    if not own:
        return {}
    rival = min(own, key=lambda key: cells[key].rank)
    other = contest.draws[contest.keys.index(rival)]
    values = {key: values_over(contest.images, measured[key]) for key in contest.keys}
    few = statistics.few_note(len(contest.images), context.bootstrap.level)
    found = {}
    for key, draws in zip(contest.keys, contest.draws, strict=True):
        if key != rival:
            paired = signflip.paired_test(draws, other, context.bootstrap)
            lead, low, high = lead_of(draws, other, contest.higher_is_better, context.bootstrap.level)
            p_rank = signflip.wilcoxon(values[key], values[rival]).p
            cell = replace(cells[key], rival=rival.method, lead=lead, lead_low=low, lead_high=high, p_rank=p_rank)
            if few and not cell.note:
                cell = replace(cell, note=f"lead: {few}")
            found[key] = replace(cell, p_alone=paired.p), paired
    return found


def lead_of(first: Draws, second: Draws, higher_is_better: bool, level: float) -> tuple[float, float, float]:
    """How much better the first score is, with its interval; none where every resample says the same."""
    apart = first - second if higher_is_better else second - first
    drawn: Floats = apart.draws[~np.isnan(apart.draws)]
    if not len(drawn) or np.ptp(drawn) <= statistics.TIE * np.nanmax(np.abs(first.draws)):
        return apart.estimate, np.nan, np.nan
    return apart.estimate, *statistics.bca(apart, level)
