"""Turn attributions into explanation maps: reduce, resize, normalise, check."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Resize = Literal["bilinear", "bicubic", "nearest"]


def resize(maps: Tensor, size: tuple[int, int], mode: Resize = "bilinear") -> Tensor:
    """Maps [B, h, w] at [B, H, W]; samples at pixel centres, no antialias (maps are only ever enlarged)."""
    if maps.shape[-2:] == size:
        return maps
    corners = None if mode == "nearest" else False
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=corners)[:, 0]


def grid(row: Tensor, size: tuple[int, int]) -> Tensor:
    """Values of patches [B, patches], row by row over an image of `size` pixels (height, width), as maps [B, h, w]."""
    height = int(size[0] * (row.shape[1] / (size[0] * size[1])) ** 0.5 + 0.5)
    return row.view(len(row), height, -1)


def min_max(maps: Tensor) -> Tensor:
    """Maps [B, ...] scaled to [0, 1] each by its own minimum and maximum; a constant map becomes zero."""
    flat = maps.flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    shape = (-1, *[1] * (maps.ndim - 1))
    return (maps - low.view(shape)) / span.view(shape)


def by_maximum(maps: Tensor) -> Tensor:
    """Maps [B, ...] divided each by its largest value, so that 0 stays 0.

    Where no value is positive, by the largest magnitude; a map of zeros stays zero.
    """
    flat = maps.flatten(1)
    high, size = flat.amax(dim=1), flat.abs().amax(dim=1)
    scale = torch.where(high > 0, high, torch.where(size > 0, size, torch.ones_like(size)))
    return maps / scale.view(-1, *[1] * (maps.ndim - 1))


def faults(maps: Tensor) -> list[str]:
    """For each map [B, H, W]: "not finite" (NaN or infinite values), "constant", or "" if it is sound."""
    flat = maps.flatten(1)
    finite = flat.isfinite().all(dim=1).tolist()
    constant = (flat == flat[:, :1]).all(dim=1).tolist()
    return ["not finite" if not f else "constant" if c else "" for f, c in zip(finite, constant, strict=True)]
