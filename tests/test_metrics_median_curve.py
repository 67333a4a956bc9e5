"""The area under a median curve and its resamples, against NumPy's interpolation and median."""

from collections.abc import Callable

import numpy as np
import pytest

from dix.metrics import median_curve
from dix.metrics.median_curve import GRID, Curves, MedianArea, WeightedMedians, on_grid


def test_the_grid_is_that_of_pairs_code() -> None:
    """Its curves are read at 1,000 equal steps and at 1."""
    assert pytest.approx([k / 1000 for k in range(1001)], abs=1e-15) == GRID.tolist()


def points(n: int, seed: int = 0, k: int = 13) -> np.ndarray:
    """Information that rises, and predictions that mostly rise with it."""
    draw = np.random.default_rng(seed)
    x = np.sort(draw.random((n, k)), axis=1)
    return np.concatenate([x, (x + 0.3 * draw.standard_normal((n, k))).clip(0, 1)], axis=1)


def answers(n: int, seed: int = 0, k: int = 13) -> np.ndarray:
    """Information that rises, and answers that become right on the way."""
    draw = np.random.default_rng(seed)
    x = np.sort(draw.random((n, k)), axis=1)
    return np.concatenate([x, x > draw.beta(2, 3, (n, 1))], axis=1)


def literal(curve: np.ndarray, monotone: bool) -> np.ndarray:
    """One curve on the grid by NumPy's own interpolation."""
    x, y = np.split(curve, 2)
    y = np.maximum.accumulate(y) if monotone else y
    x, y = np.append(x, [0.0, 1.0]), np.append(y, [0.0, 1.0])
    order = np.argsort(x, kind="stable")
    out = np.interp(GRID, x[order], y[order])
    out[-1] = 1.0
    return out


@pytest.mark.parametrize("monotone", [True, False])
def test_curves_on_the_grid_are_numpys(monotone: bool) -> None:
    curves = points(50)
    curves[0, :13] = 0.0  # every point at the start
    curves[1, :13] = 1.0
    curves[2, 3:9] = 0.25  # several points on one of the grid's
    curves[3, :13] = curves[3, :13][::-1]
    expected = np.array([literal(curve, monotone) for curve in curves])
    np.testing.assert_array_equal(on_grid(curves, monotone), expected)
    ready = Curves.of(curves, monotone)
    for part in ((100, 317), (990, 1001), (0, 1001, 20), (3, 1001, 7), (5, 6)):
        np.testing.assert_array_equal(ready.at(*part), expected.T[slice(*part)])


@pytest.mark.parametrize("n", [1, 2, 9, 40, 301])
def test_weighted_medians_are_medians_of_repeated_values(n: int) -> None:
    draw = np.random.default_rng(n)
    values = np.stack([draw.integers(0, 5, n).astype(float), draw.random(n)])
    weights = draw.integers(0, 3, (20, n))
    weights[0], weights[1, : n // 2 + 1] = 1, 7
    weights[2] = np.where(values[1] > np.quantile(values[1], 0.8), 50, 0)  # its middle lies far from the values' own
    medians = WeightedMedians.of(values)(np.ascontiguousarray(weights.T, dtype=np.float32))
    for got, weight in zip(medians, weights, strict=True):
        repeated = np.repeat(values, weight, axis=1)
        np.testing.assert_array_equal(got, np.median(repeated, axis=1) if weight.any() else [np.nan] * 2)


@pytest.mark.parametrize("n", [30, 31])
def test_area_under_the_median_curve(n: int) -> None:
    curves, kept = points(n), np.arange(n) != 4
    weights = np.random.default_rng(3).integers(0, 3, (5, n))
    area = MedianArea(curves, kept)
    every = np.array([literal(curve, True) for curve in curves])[kept]
    assert area().tolist() == pytest.approx([100 * np.trapezoid(np.median(every, axis=0), GRID)], abs=1e-12)
    expected = [
        100 * np.trapezoid(np.median(np.repeat(every, weight[kept], axis=0), axis=0), GRID) for weight in weights
    ]
    np.testing.assert_allclose(area(weights), expected, rtol=1e-12)


def test_blocks_of_the_grid_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    curves, kept = points(40), np.ones(40, dtype=bool)
    whole = MedianArea(curves, kept)()
    monkeypatch.setattr(median_curve, "HELD", 40 * 33)
    np.testing.assert_array_equal(MedianArea(curves, kept)(), whole)


def test_where_no_curve_counts_there_is_no_area() -> None:
    area = MedianArea(points(3), np.zeros(3, dtype=bool))
    assert np.isnan(area()).all()
    assert np.isnan(area(np.ones((4, 3)))).tolist() == [True] * 4


@pytest.mark.parametrize("made", [points, answers])
def test_resamples_of_many_curves_spread_as_if_the_whole_grid_were_read(
    made: Callable[[int], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    n, draws = 2100, 150
    curves, kept = made(n), np.ones(n, dtype=bool)
    draw = np.random.default_rng(5)
    weights = np.stack([np.bincount(draw.integers(0, n, n), minlength=n) for _ in range(draws)])
    few = MedianArea(curves, kept)
    assert len(few._prepared.points) == 51
    monkeypatch.setattr(median_curve, "MANY", n)
    whole = MedianArea(curves, kept)
    assert few() == whole()
    exact, coarse = whole(weights), few(weights)
    assert np.corrcoef(exact, coarse)[0, 1] > 0.995
    assert coarse.std() == pytest.approx(exact.std(), rel=0.05)
    assert coarse.mean() == pytest.approx(exact.mean(), abs=exact.std() / 20)
