"""Linear imputation of removed pixels (Rong et al. 2022, ROAD); NumPy only, so that worker processes start fast."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

#: The neighbours of a pixel as row and column offsets, and their weights: 1/6 beside it, 1/12 across.
NEIGHBOURS = tuple(
    (dy, dx, 1 / 12 if dy and dx else 1 / 6) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
)


def impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Give each removed pixel the weighted mean of its neighbours, all at once: [C, H, W] float64.

    image: [C, H, W]. removed: [H, W] bool; neighbours outside the image have no weight.
    Raises ValueError where no pixel is left to start from.
    """
    if removed.all():
        raise ValueError("metric.road.fractions: expected at least one pixel that is not removed, got none")
    out = image.astype(float)
    if removed.any():
        matrix, right = _system(out, removed)
        out[:, removed] = splu(matrix).solve(right).T
    return out


def _system(image: np.ndarray, removed: np.ndarray) -> tuple[csc_matrix, np.ndarray]:
    """The equations of n removed pixels: matrix [n, n], right side [n, C]."""
    y, x = np.nonzero(removed)
    number = np.cumsum(removed).reshape(removed.shape) - 1
    total, right = np.zeros(len(y)), np.zeros((len(y), len(image)))
    rows, columns, entries = [], [], []
    for dy, dx, weight in NEIGHBOURS:
        inside = (y + dy >= 0) & (y + dy < removed.shape[0]) & (x + dx >= 0) & (x + dx < removed.shape[1])
        row = np.flatnonzero(inside)
        there = (y[row] + dy, x[row] + dx)
        total[row] += weight
        open_ = removed[there]
        known = tuple(c[~open_] for c in there)
        right[row[~open_]] += weight * image[:, known[0], known[1]].T
        rows.append(row[open_])
        columns.append(number[there][open_])
        entries.append(np.full(int(open_.sum()), -weight))
    diagonal = np.arange(len(y))
    where = (np.concatenate([*rows, diagonal]), np.concatenate([*columns, diagonal]))
    return csc_matrix((np.concatenate([*entries, total]), where), shape=(len(y), len(y))), right


def impute_levels(image: np.ndarray, place: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Impute the first pixels of an order, for each of V counts: [V, C, H, W]; place: [H, W] each pixel's turn."""
    return np.stack([impute(image, place < count) for count in counts])
