"""Areas under curves, as pure tensor functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from dix.metrics.options import Auc, choose


def trapezoid(y: Tensor, x: Tensor) -> Tensor:
    """The area under piecewise linear curves: y [B, C] over x [C] gives [B]."""
    return torch.trapezoid(y, x, dim=-1)


def area(y: Tensor, fractions: Sequence[float], form: Auc) -> Tensor:
    """Summarise one value per masking level, in percent.

    y: [B, C] the value at each of the C fractions. form: "trapezoid" is 100 times the area over the fractions as they
    are (at most 90 over 0 ... 0.9); "normalised" divides it by the range of the fractions (at most 100); "mean" is 100
    times the mean of the masked levels, without the level 0.
    """
    choose("protocol.auc", form, get_args(Auc))
    y = y.double()
    x = torch.tensor(fractions, dtype=torch.float64, device=y.device)
    if form == "mean":
        return 100 * y[:, x > 0].mean(dim=1)
    whole = 100 * trapezoid(y, x)
    return whole if form == "trapezoid" else whole / (x[-1] - x[0])
