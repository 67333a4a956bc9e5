"""Confidence sequences for the mean of bounded differences: intervals that hold however often one looks.

A gambler who bets on the mean being above m, and loses on average where it is not, multiplies its stake by
1 + lambda (x - m) at every value x. Its capital reaches 1 / alpha with probability alpha at most if the mean is m
(Ville 1939), so that the values of m under which no capital ever gets there are a confidence sequence (I.
Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2023, Theorem 3). Here the
stake is divided evenly over a grid of constant bets (their Section B.6, grid Kelly), half of it on either side: such
capital depends on the values alone and not on their order, and its set of means is an interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from dix.bench.tables.statistics import Floats

#: Bets as shares of the largest that cannot ruin. Small ones pay where a lead is small against its spread; one that is
#: below .02 would reach no decision within 50,000 images.
BETS = np.geomspace(0.02, 0.95, 10)
#: How far, relative to its range, a value may lie beyond its bounds for rounding alone.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Wealth:
    """The logarithm of what each bet has become, if the mean is 0: on a positive mean [G], on a negative one [G]."""

    up: Floats
    down: Floats

    @staticmethod
    def initial() -> Wealth:
        """A stake of 1 on every bet."""
        return Wealth(np.zeros(len(BETS)), np.zeros(len(BETS)))

    def after(self, values: Floats) -> tuple[Floats, Wealth]:
        """Bet on n further values in [-1, 1]: the logarithm of the larger capital after each [n], and the last wealth.

        The sums run value by value, so that it does not matter to a bit in how many portions the values come.
        """
        up, down = (
            np.cumsum(np.vstack([before, np.log1p(sign * np.outer(values, BETS))]), axis=0)
            for before, sign in ((self.up, 1.0), (self.down, -1.0))
        )
        return np.maximum(_mean(up[1:]), _mean(down[1:])), Wealth(up[-1], down[-1])


def _mean(logarithms: Floats) -> Floats:
    """The logarithm of the mean capital over the bets."""
    return np.asarray(special.logsumexp(logarithms, axis=-1) - np.log(len(BETS)))


def threshold(alpha: float) -> float:
    """The logarithm of the capital that decides: half of alpha on either side."""
    return float(np.log(2 / alpha))


def scaled(differences: Floats, reach: float) -> Floats:
    """Differences [n] in units of the largest that there can be.

    Raises ValueError where one is larger: the guarantee would be void.
    """
    values = np.asarray(differences, dtype=float) / reach
    worst = float(np.abs(values).max(initial=0.0))
    if not worst <= 1 + ROUNDING:
        raise ValueError(f"a difference of {worst * reach:g} exceeds the declared range of {reach:g}")
    return np.clip(values, -1.0, 1.0)


def interval(values: Floats, alpha: float) -> tuple[float, float]:
    """The means in [-1, 1] that n values in [-1, 1] leave possible at level 1 - alpha, now and at every other time."""
    if not len(values):
        return -1.0, 1.0
    share = (1 + values) / 2  # in [0, 1], as the paper has it
    return 1 - 2 * _highest(1 - share, alpha), 2 * _highest(share, alpha) - 1


def _highest(share: Floats, alpha: float) -> float:
    """The largest possible mean of values [n] in [0, 1]: where betting that it is lower reaches the threshold."""
    need = threshold(alpha)

    def lacking(mean: float) -> float:
        profit = (mean - share) / (1 - mean)
        return need - float(_mean(np.log1p(np.outer(profit, BETS)).sum(axis=0)))

    middle, end = float(share.mean()), 1 - 1e-9
    if middle >= end or lacking(end) > 0:
        return 1.0
    return float(optimize.brentq(lacking, middle, end, xtol=1e-9))
