"""Mean ranks with intervals and groups, against second implementations."""

import itertools

import numpy as np
import pandas as pd
import pytest
from support.table_frames import METRICS, rows_of

from dix.bench.tables import build as tables
from dix.bench.tables.samples import Block
from dix.bench.tables.standings import RankDraws, apart, block_ranks, combined, groups, standings
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import Evidence, Plan

BLOCK = Block("thesis", "imagenet", "resnet101")
QUICK = Bootstrap(resamples=300)


def evidence(n=40):
    generator = np.random.default_rng(0)
    base = generator.uniform(40, 60, size=n)
    shifts = {"gc": 0.0, "ig": -10.0, "lift": 0.1, "dix3": 5.0}
    frames = [
        rows_of(method, metric, base + (shift if metric == "neg" else -shift) + generator.normal(0, 2, size=n))
        for method, shift in shifts.items()
        for metric in ("neg", "pos")
    ]
    return Evidence(pd.concat(frames))


def test_estimates_are_the_tables_mean_ranks():
    given, plan = evidence(), Plan(METRICS)
    found = block_ranks(given, plan, QUICK)[BLOCK]
    table = tables.build(given, plan, QUICK)
    for name, estimate, lines in zip(found.methods, found.estimate, found.lines, strict=True):
        assert (estimate, lines) == table.mean_ranks[BLOCK, name][:2]


def test_draws_are_ranks_of_resampled_means():
    """Resampling by hand: the same seed draws the same images, and ranks of means follow."""
    given, plan = evidence(), Plan({"neg": METRICS["neg"]})
    rows = given.rows[given.rows["metric"] == "neg"]
    found = block_ranks(Evidence(rows), plan, QUICK)[BLOCK]
    values = np.stack([rows[rows["method"] == name]["value"].to_numpy() for name in found.methods])
    generator = np.random.default_rng(QUICK.seed)
    for draw in range(5):
        mean = values[:, generator.integers(0, 40, size=40)].mean(axis=1)
        assert found.draws[:, draw].tolist() == [1 + (mean > own).sum() for own in mean]


def test_close_methods_share_a_group_and_far_ones_do_not():
    placed = {one.method: one for one in standings(block_ranks(evidence(), Plan(METRICS), QUICK)[BLOCK])}
    assert next(iter(placed)) == "dix3"
    assert placed["dix3"].groups == (1,)
    assert placed["ig"].groups == (3,)
    assert placed["gc"].groups == placed["lift"].groups == (2,)
    assert placed["gc"].low <= placed["gc"].rank <= placed["gc"].high


def test_groups_are_all_runs_that_cannot_be_extended():
    generator = np.random.default_rng(1)
    for _ in range(200):
        k = int(generator.integers(1, 7))
        upper = np.triu(generator.random((k, k)) < 0.4, 1)
        separate = upper | upper.T

        def joined(run, separate=separate):
            return not any(separate[a, b] for a, b in itertools.combinations(run, 2))

        runs = [range(a, b) for a in range(k) for b in range(a + 1, k + 1) if joined(range(a, b))]
        longest = [r for r in runs if not any(set(r) < set(other) for other in runs)]
        longest.sort(key=lambda run: run.start)
        assert groups(separate) == [tuple(g + 1 for g, run in enumerate(longest) if i in run) for i in range(k)]


def test_equal_methods_are_rarely_told_apart():
    """Six methods whose mean ranks differ by chance alone: in about 5 % of 400 lists is any pair apart."""
    generator = np.random.default_rng(2)
    wrong = 0.0
    for _ in range(400):
        truth = generator.normal(size=6)
        draws = truth[:, None] + generator.normal(size=(6, 400))
        wrong += apart(truth, draws, 0.95).any()
    assert wrong / 400 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)
    assert wrong > 0


def test_a_difference_that_never_varies_is_told_apart():
    estimate, draws = np.array([1.0, 2.0, 2.0]), np.array([[1.0] * 9, [2.0] * 9, [2.0] * 9])
    assert apart(estimate, draws, 0.95).tolist() == [[False, True, True], [True, False, False], [True, False, False]]


def test_blocks_are_averaged_where_a_method_has_a_rank():
    one = RankDraws(("a", "b"), np.array([1.0, 2.0]), np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3, 3]))
    two = RankDraws(("b", "c"), np.array([1.0, 2.0]), np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([1, 2]))
    both = combined([one, two])
    assert both.methods == ("a", "b", "c")
    assert both.estimate.tolist() == [1.0, 1.5, 2.0]
    assert both.draws.tolist() == [[1.0, 2.0], [1.5, 1.0], [2.0, 2.0]]
    assert both.lines.tolist() == [3, 4, 2]


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_ranked_over_fewer_than_two_images(n):
    assert block_ranks(Evidence(rows_of("gc", "neg", [1.0] * n)), Plan(METRICS), QUICK) == {}
