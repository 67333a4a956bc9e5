"""Intervals, paired tests, corrections and ranks against scipy and against values worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from dix.bench.tables import signflip, statistics
from dix.bench.tables.curves import curve_band
from dix.bench.tables.ranks import ranks
from dix.bench.tables.signflip import Paired
from dix.bench.tables.statistics import Bootstrap, Column, Draws

TEN = np.array([3.0, 0.0, 7.5, 1.0, 2.0, 2.0, 9.0, 4.0, 0.5, 12.0])


def mean_column(value):
    def reduce(weights):
        return np.array([value.mean()]) if weights is None else weights @ value / weights.sum(axis=1)

    return Column(value, reduce)


def ratio_column(parts):
    """A data set's ratio of sums, whose value per image is that image's own ratio."""

    def reduce(weights):
        total = np.ones((1, len(parts))) @ parts if weights is None else weights @ parts
        return 100 * total[:, 0] / total[:, 1]

    return Column(100 * parts[:, 0] / parts[:, 1], reduce)


def reach(n, level):
    """Student's quantile times sqrt(n / (n - 1)): how many standard errors our intervals reach to each side."""
    return stats.t.ppf((1 + level) / 2, n - 1) * np.sqrt(n / (n - 1))


def scipy_bca(data, statistic, *, seed, resamples=2000, paired=False, level=0.95):
    bounds = stats.bootstrap(
        data,
        statistic,
        n_resamples=resamples,
        method="BCa",
        confidence_level=1 - 2 * stats.norm.sf(reach(len(data[0]), level)),
        rng=np.random.default_rng(seed),
        paired=paired,
        vectorized=True,
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_interval_of_a_mean_equals_scipys_from_the_same_resamples(level):
    value = np.random.default_rng(0).exponential(size=60)
    (ours,) = statistics.intervals([mean_column(value)], Bootstrap(seed=11, level=level))
    assert (ours.value, ours.n, ours.note) == (pytest.approx(value.mean(), rel=1e-14), 60, "")
    assert (ours.low, ours.high) == pytest.approx(scipy_bca((value,), np.mean, seed=11, level=level), rel=1e-12)


def test_interval_of_a_ratio_of_sums_equals_scipys_from_the_same_resamples():
    generator = np.random.default_rng(1)
    union = generator.uniform(10, 1000, size=50)
    parts = np.stack([union * generator.uniform(0, 1, size=50), union], axis=1)

    def ratio(inter, total, axis):
        return 100 * inter.sum(axis=axis) / total.sum(axis=axis)

    (ours,) = statistics.intervals([ratio_column(parts)], Bootstrap(seed=3))
    expected = scipy_bca((parts[:, 0], parts[:, 1]), ratio, seed=3, paired=True)
    assert ours.value == pytest.approx(100 * parts[:, 0].sum() / union.sum(), rel=1e-14)
    assert (ours.low, ours.high) == pytest.approx(expected, rel=1e-12)
    assert ours.value != pytest.approx(ratio_column(parts).value.mean(), abs=0.1)


def test_difference_of_two_scores_has_the_interval_of_the_paired_differences():
    generator = np.random.default_rng(2)
    first = generator.normal(size=40)
    second = first + generator.normal(0.1, 0.2, size=40)
    drawn = statistics.resample([mean_column(first), mean_column(second)], Bootstrap(seed=4))
    low, high = statistics.bca(drawn[1] - drawn[0], 0.95)
    assert (low, high) == pytest.approx(scipy_bca((second - first,), np.mean, seed=4), rel=1e-10)


def test_neither_the_chunks_nor_the_other_columns_change_an_interval():
    first, second = mean_column(TEN), mean_column(np.sqrt(TEN))
    alone = statistics.intervals([first], Bootstrap(resamples=500))
    chunked = statistics.intervals([second, first], Bootstrap(resamples=500, chunk_bytes=8 * 10 * 7))
    assert (chunked[1].low, chunked[1].high) == pytest.approx((alone[0].low, alone[0].high), rel=1e-13)
    other = statistics.intervals([first], Bootstrap(resamples=500, seed=1))
    assert other[0].low != alone[0].low


def test_groups_of_images_give_nearly_the_single_image_acceleration():
    value = np.random.default_rng(5).exponential(size=6000)
    (single,) = statistics.resample([mean_column(value)], Bootstrap(resamples=1, groups=6000))
    (grouped,) = statistics.resample([mean_column(value)], Bootstrap(resamples=1, groups=1000))
    assert (len(single.jackknife), len(grouped.jackknife)) == (6000, 1000)
    skewness = stats.skew(value)
    assert statistics.acceleration(single.jackknife) == pytest.approx(skewness / (6 * np.sqrt(6000)), rel=1e-9)
    assert statistics.acceleration(grouped.jackknife) == pytest.approx(skewness / (6 * np.sqrt(6000)), abs=1e-3)


def test_is_mean_tells_means_from_ratios():
    parts = np.array([[1.0, 2.0], [30.0, 40.0], [5.0, 9.0]])
    assert statistics.is_mean(mean_column(TEN))
    assert not statistics.is_mean(ratio_column(parts))


def test_no_image_one_image_and_equal_images_are_said():
    none, one, equal = (
        statistics.intervals([mean_column(value)], Bootstrap(resamples=50))[0]
        for value in (np.array([]), np.array([4.5]), np.full(6, 0.1))
    )
    assert (none.n, none.note) == (0, "no image counts")
    assert np.isnan([none.value, none.low, none.high]).all()
    assert (one.n, one.value, one.note) == (1, 4.5, "one image: no interval")
    assert np.isnan([one.low, one.high]).all()
    assert (equal.n, equal.note) == (6, "all images score the same: no interval")
    assert equal.value == pytest.approx(0.1, rel=1e-15)
    assert np.isnan([equal.low, equal.high]).all()


def test_resamples_without_a_score_are_left_out():
    draws = Draws(2.0, np.array([1.0, np.nan, 2.0, 3.0, np.nan]), np.array([2.0, 2.0]))
    low, high = statistics.bca(draws, 0.95)
    z = reach(2, 0.95)  # of a jackknife of two
    assert (low, high) == pytest.approx(tuple(np.quantile([1.0, 2.0, 3.0], stats.norm.cdf([-z, z]))), rel=1e-12)
    empty = statistics.interval(Draws(2.0, np.full(3, np.nan), np.array([2.0, 2.0])), mean_column(TEN), 0.95)
    assert np.isnan([empty.low, empty.high]).all()
    assert empty.note == "no resample has a score: no interval"


def test_bootstrap_refuses_impossible_settings():
    with pytest.raises(ValueError, match=r"bootstrap\.level in \(0, 1\)"):
        Bootstrap(level=1.0)


@pytest.mark.parametrize("n", [8, 30, 200])
def test_wilcoxon_equals_scipys(n):
    generator = np.random.default_rng(n)
    first = generator.normal(size=n)
    second = first + generator.normal(-1, 1, size=n)
    paired = signflip.wilcoxon(first, second)
    assert paired.p == stats.wilcoxon(first, second, zero_method="pratt").pvalue
    assert (paired.n, paired.sign) == (n, 1)
    assert signflip.wilcoxon(second, first).sign == -1


def test_wilcoxon_of_six_improvements_is_exact():
    # All of six distinct differences positive: two of the 2^6 sign patterns are as extreme.
    paired = signflip.wilcoxon(np.arange(1.0, 7.0), np.zeros(6))
    assert (paired.p, paired.sign) == (2 / 64, 1)


def test_wilcoxon_of_equal_or_absent_scores():
    assert signflip.wilcoxon(TEN, TEN) == Paired(10, 1.0, 0)
    absent = signflip.wilcoxon(np.array([]), np.array([]))
    assert absent.n == 0
    assert np.isnan(absent.p)


def test_wilcoxon_ranks_equal_pairs_before_it_drops_them():
    few = signflip.wilcoxon(np.array([1.0, 1.0, 0.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0, 1.0]))
    assert few.p == pytest.approx(2 * 4 / 8)  # three ranks of 4, two up: half of the 8 choices of signs reach that sum
    difference = np.array([0.0] * 20 + [-1.0] * 5 + [2.0] * 12 + [3.0] * 3 + [-4.0] * 4)
    # Normal approximation with zeros ranked (Pratt 1959) and tied ranks' variance, by hand.
    rank = stats.rankdata(np.abs(difference)) * (difference != 0)
    z = (rank[difference > 0].sum() - rank.sum() / 2) / np.sqrt((rank**2).sum() / 4)
    assert signflip.wilcoxon(difference, 0 * difference).p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_ranks_follow_the_direction_and_share_ties():
    values = [10.0, 30.0, np.nan, 30.0, 20.0]
    assert ranks(values, True) == pytest.approx([4, 1.5, np.nan, 1.5, 3], nan_ok=True)
    assert ranks(values, False) == pytest.approx([1, 3.5, np.nan, 3.5, 2], nan_ok=True)


def test_curve_band_is_students_interval_at_each_point():
    curves = np.random.default_rng(6).normal(size=(12, 3))  # beyond [0, 1]: not cut
    mean, low, high = curve_band(curves)
    for point in range(3):
        column = curves[:, point]
        expected = stats.t.interval(0.95, 11, loc=column.mean(), scale=stats.sem(column))
        assert (low[point], high[point]) == pytest.approx(expected, rel=1e-12)
        assert mean[point] == pytest.approx(column.mean())
    single = curve_band(curves[:1])
    assert all(np.array_equal(part, curves[0]) for part in single)
