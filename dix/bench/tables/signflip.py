"""Paired tests of the scores that a table prints, and their correction for all comparisons of a table.

Two methods score the same images. If neither is better, each image might as well have spoken for the other one: the
difference of the two printed scores is compared with what it would be had every image's contribution to it a random
sign (R. A. Fisher 1935, Sec. 21). A mean's contributions are the images' own differences, so the test is exact, and
McNemar's where scores are binary. For ratios of sums they are what the difference changes by when the two methods are
exchanged in one image; for areas under median curves, and for more images than are told apart (`Bootstrap.groups`), the
difference plus the images' influences, scaled to the bootstrap's variance. One draw of signs serves all comparisons, so
that the largest of them is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from dix.bench.tables.statistics import TIE, Bootstrap, Draws, Floats

#: Relative distance within which two sums of flipped contributions are the same number.
SAME = 1e-9
#: Up to so many differences Wilcoxon's test goes through all their sign patterns, ties or not.
EXACT = 13
#: Flips whose sums are held at a time.
AT_A_TIME = 1000


@dataclass(frozen=True)
class Paired:
    """A paired comparison of two methods.

    n: images, or groups of images, that both methods score. p: two-sided p-value, NaN without images. sign: 1 where
    the first scores higher, -1 lower, 0 the same. strength: the difference over the root of its squared contributions.
    """

    n: int
    p: float
    sign: int
    strength: float = 0.0


UNTESTED = Paired(0, np.nan, 0)


def contributions(first: Draws, second: Draws) -> Floats:
    """What each image, or group of images, contributes to first - second: [G], with the difference as their mean.

    Rounding errors of images that score the same are no contributions.
    """
    apart = first - second
    exchanged = None
    if not apart.linear and first.column is not None and second.column is not None:
        exchanged = first.column.exchanged(second.column)
    if exchanged is None:
        influence = apart.influence()
        exchanged = apart.estimate + influence * (1.0 if apart.linear else _scale(apart, influence))
    noise = np.abs(exchanged) <= TIE * len(exchanged) * _size_of(first, second)
    return np.where(noise, 0.0, exchanged)


def _size_of(first: Draws, second: Draws) -> float:
    return max(abs(first.estimate), abs(second.estimate), float(np.abs(first.jackknife).max(initial=0.0)))


def _scale(apart: Draws, influence: Floats) -> float:
    """What makes the influences' spread the bootstrap's: the jackknife is not consistent for medians."""
    n = len(influence)
    jackknife = float(np.sqrt((influence**2).sum() / (n * (n - 1))))
    bootstrap = float(np.nanstd(apart.draws)) * np.sqrt(n / (n - 1))
    return bootstrap / jackknife if jackknife > 0 else 1.0


def paired_test(first: Draws, second: Draws, bootstrap: Bootstrap) -> Paired:
    """The two-sided test that two scores over the same images are equal.

    Exact where all contributions that are not nil are equal in size (McNemar's test) or few enough for all their sign
    patterns; else by random flips, p = (1 + flips at least as extreme) / (1 + flips).
    """
    every = contributions(first, second)
    n = len(every)
    own = every[every != 0]
    if not len(own):
        return Paired(n, 1.0, 0)
    strength = float(own.sum() / np.sqrt((own**2).sum()))
    size = np.abs(own)
    if np.ptp(size) <= SAME * size.max():
        fewer = min((own > 0).sum(), (own < 0).sum())
        p = min(1.0, 2 * float(special.bdtr(fewer, len(own), 0.5)))
    else:
        p = _flipped(own, bootstrap)
    return Paired(n, p, int(np.sign(first.estimate - second.estimate)), strength)


def _flipped(own: Floats, bootstrap: Bootstrap) -> float:
    """The share of sign patterns whose sum is at least as far from 0 as the one seen."""
    n = len(own)
    seen = abs(own.sum()) - SAME * np.abs(own).sum()
    if 2 ** (n - 1) <= bootstrap.flips:
        return float(np.mean(np.abs(_all_signs(n) @ own) >= seen))
    extreme = sum(int((np.abs(signs @ own) >= seen).sum()) for signs in _signs(n, bootstrap))
    return (1 + extreme) / (1 + bootstrap.flips)


def _all_signs(n: int) -> Floats:
    """All patterns [2^(n-1), n] of signs whose last is positive: the others mirror them."""
    return 1.0 - 2.0 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)


def _signs(n: int, bootstrap: Bootstrap) -> Iterator[Floats]:
    """Random signs [flips, n], in chunks."""
    signs = _drawn_signs(n, bootstrap.flips, bootstrap.seed)
    for start in range(0, len(signs), AT_A_TIME):
        yield signs[start : start + AT_A_TIME].astype(float)


@lru_cache(maxsize=4)
def _drawn_signs(n: int, flips: int, seed: int) -> NDArray[np.int8]:
    """The same signs for all comparisons of n images, whose dependence the largest strength then has."""
    bits = np.random.default_rng(seed).integers(0, 2, size=(flips, n), dtype=np.int8)
    return (2 * bits - 1).astype(np.int8)


def largest(draws: Sequence[Draws], pairs: Sequence[tuple[int, int]], bootstrap: Bootstrap) -> Floats:
    """The largest strength of all pairs of scores over the same images under each flip: [flips].

    The flips of n images are the same in every call, so that the maximum over several lines keeps what they share.
    """
    if not pairs:
        return np.zeros(bootstrap.flips)
    shares = _of_pairs(draws, pairs)
    size = np.sqrt((shares**2).sum(axis=0))
    together = shares[:, size > 0] / size[size > 0]
    if not together.size:
        return np.zeros(bootstrap.flips)
    return np.concatenate([np.abs(signs @ together).max(axis=1) for signs in _signs(len(together), bootstrap)])


def _of_pairs(draws: Sequence[Draws], pairs: Sequence[tuple[int, int]]) -> Floats:
    """The contributions to the differences of many pairs of scores: [G, pairs]."""
    own = [one.own for one in draws if one.own is not None]
    if len(own) < len(draws):
        return np.stack([contributions(draws[a], draws[b]) for a, b in pairs], axis=1)
    values = np.stack(own, axis=1)
    return np.asarray(values[:, [a for a, _ in pairs]] - values[:, [b for _, b in pairs]])


def corrected(paired: Paired, maxima: Floats) -> float:
    """The p-value corrected for a whole family of comparisons (P. Westfall and S. Young 1993, single-step max-T).

    maxima: [flips] the largest strength of the family under each flip. Never below the comparison's own p-value.
    """
    if np.isnan(paired.p):
        return np.nan
    extreme = int((maxima >= abs(paired.strength) * (1 - SAME)).sum())
    return max(paired.p, (1 + extreme) / (1 + len(maxima)))


def wilcoxon(first: Floats, second: Floats) -> Paired:
    """Wilcoxon's signed-rank test of paired scores [n], equal pairs ranked and dropped as J. W. Pratt (1959) does.

    A test of ranks, printed under its own name beside the test of the score: a few large differences move it little.
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if not len(difference):
        return UNTESTED
    if not difference.any():
        return Paired(len(difference), 1.0, 0)
    signed = (np.sign(difference) * stats.rankdata(np.abs(difference)))[difference != 0]
    if len(signed) <= EXACT:
        p = float(np.mean(np.abs(_all_signs(len(signed)) @ signed) >= abs(signed.sum()) * (1 - SAME)))
    else:
        p = float(stats.wilcoxon(difference, zero_method="pratt").pvalue)
    return Paired(len(difference), p, int(np.sign(signed.sum())))
