"""Points, weights and baselines of the path integral (thesis Sec. 4, Eq. 1-5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from torch import Tensor

Rule = Literal["right", "left", "midpoint", "trapezoid", "gauss"]
Baseline = Literal["channel_min", "zero", "mean", "noise"]
Phi = Literal["product", "gradient", "rectified", "positive_gradient"]


def quadrature(rule: Rule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points t in [0, 1] and weights, which sum to 1, of a quadrature of N = `steps` intervals.

    "right" is the thesis's sum over t = 1/N, 2/N, ..., 1 (Eq. 5). "trapezoid" has N + 1 points, all others N.
    Raises ValueError for an unknown rule or a count below 1.
    """
    if steps < 1:
        raise ValueError(f"steps: expected an integer of at least 1, got {steps}")
    grid = np.arange(steps) / steps
    if rule == "right":
        return np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)
    if rule == "left":
        return grid, np.full(steps, 1 / steps)
    if rule == "midpoint":
        return grid + 0.5 / steps, np.full(steps, 1 / steps)
    if rule == "trapezoid":
        weights = np.full(steps + 1, 1 / steps)
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps + 1), weights
    if rule == "gauss":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    raise ValueError(f"rule: expected right, left, midpoint, trapezoid or gauss, got {rule!r}")


def baseline(kind: Baseline, activation: Tensor, noise: Tensor | None = None) -> Tensor:
    """The reference z of an activation x [B, C, h, w], broadcastable to its shape.

    "channel_min": each channel's spatial minimum (thesis Sec. 4.1); "zero"; "mean": each channel's spatial mean;
    "noise": `noise` [B, C, h, w] in [0, 1) scaled to each channel's range.
    """
    space = tuple(range(2, activation.ndim))
    low = activation.amin(dim=space, keepdim=True)
    if kind == "channel_min":
        return low
    if kind == "zero":
        return low * 0
    if kind == "mean":
        return activation.mean(dim=space, keepdim=True)
    if kind == "noise" and noise is not None:
        return low + noise.to(activation) * (activation.amax(dim=space, keepdim=True) - low)
    raise ValueError(f"baseline: expected channel_min, zero, mean or noise, got {kind!r}")


#: phi(r, g) of Eq. 3 by name: the thesis's product and Eq. 2's plain gradient, and both as the released code rectifies.
PHI: Mapping[Phi, Callable[[Tensor, Tensor], Tensor]] = {
    "product": lambda r, g: r * g,
    "gradient": lambda r, g: g,
    "rectified": lambda r, g: r.relu() * g.relu(),
    "positive_gradient": lambda r, g: g.relu(),
}
