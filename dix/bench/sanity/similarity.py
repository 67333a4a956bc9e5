"""How alike two explanation maps are, image by image. A number that does not exist is NaN, never 0 or 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import entropy as shannon
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import Tensor

from dix.maps import min_max

#: Cells of the HOG along each side of a map, of 4 pixels at least: 16 pixels at 224, as Adebayo et al. (2018).
HOG_CELLS = 14
#: Bins of the histogram behind the entropy (Hedström et al. 2023, Sec. 4).
BINS = 100


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """[B] rank correlation of maps [B, H, W], ties at their mean rank (Spearman 1904); NaN where one is constant."""
    return pearson(mean_ranks(first.flatten(1)), mean_ranks(second.flatten(1)))


def spearman_absolute(first: Tensor, second: Tensor) -> Tensor:
    """[B] rank correlation of the maps' absolute values."""
    return spearman(first.abs(), second.abs())


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """[B] structural similarity of the maps scaled to [0, 1] each (Wang et al. 2004: Gaussian window, sigma 1.5)."""
    return _each(_ssim, min_max(first), min_max(second))


def hog_correlation(first: Tensor, second: Tensor) -> Tensor:
    """[B] Pearson correlation of histograms of oriented gradients (Dalal & Triggs 2005) of the scaled maps."""
    return _each(_hog, min_max(first), min_max(second))


def entropy(_: Tensor, second: Tensor) -> Tensor:
    """[B] entropy in nats of the second map's histogram: its complexity, for the efficient test's relative rise."""
    return _each(lambda _, b: float(shannon(np.histogram(b, bins=BINS)[0])), second, second)


Similarity = Callable[[Tensor, Tensor], Tensor]

#: By the name that rows and settings use.
SIMILARITIES: Mapping[str, Similarity] = {
    "spearman": spearman,
    "spearman_absolute": spearman_absolute,
    "ssim": ssim,
    "hog": hog_correlation,
    "entropy": entropy,
}


@dataclass(frozen=True)
class Explained:
    """Maps [B, h, w] of one method and network, and what is wrong with each ("" where nothing is)."""

    maps: Tensor
    faults: tuple[str, ...]

    def repeated(self, i: int, count: int) -> Explained:
        """The i-th map, `count` times."""
        return Explained(self.maps[i].expand(count, -1, -1), (self.faults[i],) * count)


def alike(measure: str, original: Explained, other: Explained) -> Tensor:
    """[B] likeness; NaN where either map is faulty (the maps are then replaced so that libraries accept them)."""
    faulty = [bool(a or b) for a, b in zip(original.faults, other.faults, strict=True)]
    mask = torch.tensor(faulty, device=original.maps.device)
    first, second = (e.maps.masked_fill(mask[:, None, None], 0.0) for e in (original, other))
    return SIMILARITIES[measure](first, second).double().masked_fill(mask, torch.nan)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """[B] correlation of rows [B, N], in double precision; exactly 1 for equal rows, NaN where a row is constant."""
    a, b = (rows.double() - rows.double().mean(dim=1, keepdim=True) for rows in (first, second))
    norm = ((a * a).sum(dim=1) * (b * b).sum(dim=1)).sqrt()
    constant = ((rows == rows[:, :1]).all(dim=1) for rows in (first, second))
    return ((a * b).sum(dim=1) / norm).masked_fill(torch.stack(list(constant)).any(dim=0), torch.nan)


def mean_ranks(rows: Tensor) -> Tensor:
    """Ranks 1..N [B, N] of rows [B, N], equal values at the mean of their ranks."""
    return torch.stack([_mean_ranks(row) for row in rows])


def _mean_ranks(row: Tensor) -> Tensor:
    _, place, counts = torch.unique(row, return_inverse=True, return_counts=True)
    counts = counts.double()
    return (counts.cumsum(0) - (counts - 1) / 2)[place]


def _each(of: Callable[[np.ndarray, np.ndarray], float], first: Tensor, second: Tensor) -> Tensor:
    pairs = zip(*(maps.detach().double().cpu().numpy() for maps in (first, second)), strict=True)
    return torch.tensor([of(a, b) for a, b in pairs], dtype=torch.float64, device=first.device)


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(
        structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    )


def _hog(a: np.ndarray, b: np.ndarray) -> float:
    side = max(4, min(a.shape) // HOG_CELLS)
    described = (torch.from_numpy(hog(m, pixels_per_cell=(side, side)))[None] for m in (a, b))
    return float(pearson(*described)[0])
