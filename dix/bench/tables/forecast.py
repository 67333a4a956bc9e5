"""How many images a comparison will take: a run until it is decided, and a test whose size is fixed beforehand."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from dix.bench.tables import betting
from dix.bench.tables.statistics import Floats

#: Power of the fixed-size test that verdicts while running are compared with.
POWER = 0.8


def fixed_size(lead: float, spread: float, alpha: float) -> float:
    """Images that a two-sided test of level alpha needs to find a lead with probability POWER, by normal quantiles.

    lead: the difference of two means. spread: standard deviation of an image's difference. Infinite without a lead.
    """
    if lead == 0:
        return float("inf")
    reach = special.ndtri(1 - alpha / 2) + special.ndtri(POWER)
    return float(np.ceil((reach * spread / lead) ** 2))


def growth(values: Floats) -> Floats:
    """What an image adds to the logarithm of the capital on average, by bet and side [2 G], seen on values [n]."""
    return np.concatenate([np.log1p(sign * np.outer(values, betting.BETS)).mean(axis=0) for sign in (1, -1)])


def growth_of(lead: float, spread: float) -> Floats:
    """The same to the second order for a mean and a standard deviation, in units of the largest difference."""
    square = betting.BETS**2 * (spread**2 + lead**2) / 2
    return np.concatenate([betting.BETS * lead - square, -betting.BETS * lead - square])


def images_needed(gains: Floats, alpha: float, most: float = 1e9) -> float:
    """Images after which the capital of bets that gain so much an image [2 G] decides; infinite beyond `most`.

    More than half of the runs decide earlier: the bets share in the luck of a run, and the first time counts.
    """

    def lacking(images: float) -> float:
        sides = special.logsumexp((images * gains).reshape(2, -1), axis=1) - np.log(len(betting.BETS))
        return betting.threshold(alpha) - float(sides.max())

    if lacking(most) > 0:
        return float("inf")
    return float(np.ceil(optimize.brentq(lacking, 0, most, xtol=0.5)))
