"""How many images a comparison will take: a run until it is decided, and a test whose size is fixed beforehand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dix.bench.tables import betting
from dix.bench.tables.statistics import Floats

#: Power of the fixed-size test that verdicts while running are compared with.
POWER = 0.8
#: Steps of a bisection that finds an image among a thousand million.
HALVINGS = 40


def fixed_size(lead: float, spread: float, alpha: float) -> float:
    """Images that a two-sided test of level alpha needs to find a lead with probability POWER, by normal quantiles.

    lead: the difference of two means. spread: standard deviation of an image's difference. Infinite without a lead.
    """
    if lead == 0:
        return float("inf")
    reach = special.ndtri(1 - alpha / 2) + special.ndtri(POWER)
    return float(np.ceil((reach * spread / lead) ** 2))


def growth(values: Floats, counts: Floats | None = None) -> Floats:
    """What an image adds to the logarithm of the capital on average, by bet and side [2 G], seen on values [n].

    counts: [R, n] how often each value counts, for R such answers [R, 2 G].
    """
    weights = np.ones((1, len(values))) if counts is None else counts
    shares = weights / weights.sum(axis=1, keepdims=True)
    gains = np.hstack([shares @ np.log1p(sign * np.outer(values, betting.BETS)) for sign in (1, -1)])
    return gains[0] if counts is None else gains


def growth_of(lead: float, spread: float) -> Floats:
    """The same to the second order for a mean and a standard deviation, in units of the largest difference."""
    square = betting.BETS**2 * (spread**2 + lead**2) / 2
    return np.concatenate([betting.BETS * lead - square, -betting.BETS * lead - square])


def images_needed(gains: Floats, alpha: float, most: float = 1e9) -> Floats:
    """Images after which the capital of bets that gain so much an image [..., 2 G] decides; infinite beyond `most`.

    More than half of the runs decide earlier: the bets share in the luck of a run, and the first time counts.
    """
    sides = gains.reshape(*gains.shape[:-1], 2, -1)

    def enough(images: Floats) -> NDArray[np.bool_]:
        capital = special.logsumexp(images[..., None, None] * sides, axis=-1) - np.log(len(betting.BETS))
        return np.asarray(capital.max(axis=-1) >= betting.threshold(alpha))

    low, high = np.zeros(gains.shape[:-1]), np.full(gains.shape[:-1], most)
    possible = enough(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = enough(middle)
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(possible, np.ceil(high), np.inf)
