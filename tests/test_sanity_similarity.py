"""Likeness of maps against scipy, against formulas written out, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from dix.bench.sanity.similarity import SIMILARITIES, entropy, hog_correlation, mean_ranks, spearman, ssim

pytestmark = pytest.mark.numeric

LIKENESS = [name for name in SIMILARITIES if name != "entropy"]


def maps(count: int, seed: int, side: int = 32, levels: int | None = None) -> Tensor:
    """Random maps; with `levels`, many equal values."""
    drawn = torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn if levels is None else (drawn * levels / 3).round()


@pytest.mark.parametrize("levels", [None, 2, 40])
def test_spearman_is_scipys_with_and_without_ties(levels: int | None) -> None:
    a, b = maps(3, 0, levels=levels), maps(3, 1, levels=levels) + 0.5 * maps(3, 0, levels=levels)
    expected = [stats.spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert spearman(a, b).tolist() == pytest.approx(expected, abs=1e-12)


def test_ranks_are_scipys() -> None:
    rows = maps(2, 3, levels=5).flatten(1)
    assert np.array_equal(mean_ranks(rows).numpy(), stats.rankdata(rows.numpy(), axis=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("side", [7, 32, 224])
def test_a_map_correlates_with_itself_at_exactly_one(dtype: torch.dtype, levels: int | None, side: int) -> None:
    a = maps(4, 7, side=side, levels=levels).to(dtype)
    assert spearman(a, a.clone()).tolist() == [1.0] * 4


def test_spearman_sees_order_alone_and_the_absolute_variant_no_sign() -> None:
    a = maps(2, 0)
    assert spearman(a, a.exp()).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert spearman(a, -a).tolist() == pytest.approx([-1, -1], abs=1e-12)
    assert SIMILARITIES["spearman_absolute"](a, -a).tolist() == [1.0, 1.0]


def test_ssim_is_wang_et_al() -> None:
    a, b = (maps(1, seed)[0].numpy() for seed in (0, 1))
    a, b = ((m - m.min()) / np.ptp(m) for m in (a, b))

    def blur(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, 1.5, truncate=3.5)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    each = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert float(ssim(maps(1, 0), maps(1, 1))[0]) == pytest.approx(each[5:-5, 5:-5].mean(), abs=1e-12)


def test_hog_tells_horizontal_from_vertical_edges() -> None:
    stripes = (torch.arange(64) // 8 % 2).double()
    across, down = stripes.expand(64, 64)[None], stripes[:, None].expand(64, 64)[None]
    assert float(hog_correlation(across, across.clone())[0]) == pytest.approx(1)
    assert float(hog_correlation(across, 3 * across + 2)[0]) == pytest.approx(1)
    assert float(hog_correlation(across, down)[0]) < 0


def test_entropy_of_equally_many_pixels_in_every_bin_is_the_log_of_their_number() -> None:
    ramp = torch.arange(100 * 100, dtype=torch.float64).view(1, 100, 100)
    assert float(entropy(ramp, ramp)[0]) == pytest.approx(math.log(100), abs=1e-12)
    halves = (ramp > ramp.median()).double()
    assert float(entropy(ramp, halves)[0]) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("name", LIKENESS)
def test_a_constant_map_has_no_likeness(name: str) -> None:
    a = maps(2, 0)
    b = a.clone()
    b[1] = 0.1  # not representable: sums of it are not multiples of it
    first, second = SIMILARITIES[name](a, b).tolist()
    assert first == pytest.approx(1)
    assert math.isnan(second)
    assert math.isnan(SIMILARITIES[name](b, a).tolist()[1])


@pytest.mark.parametrize("name", list(SIMILARITIES))
def test_images_do_not_influence_each_other(name: str) -> None:
    a, b = maps(3, 0), maps(3, 1) + maps(3, 0)
    b[2] *= 1000
    together = SIMILARITIES[name](a, b).tolist()
    assert together == [SIMILARITIES[name](a[i : i + 1], b[i : i + 1]).item() for i in range(3)]
