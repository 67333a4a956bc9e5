"""Maps scaled to [0, 1], and the maps that cannot be."""

from __future__ import annotations

import torch
from torch import Tensor

from dix.metrics.api import Case
from dix.metrics.options import ConstantMaps


def constant(case: Case) -> Tensor:
    """Whether all values of a map are equal: [B] bool."""
    flat = case.maps.flatten(1)
    return case.once("constant", lambda: flat.amin(dim=1) == flat.amax(dim=1))


def flat(case: Case, constant_maps: ConstantMaps) -> dict[str, Tensor]:
    """Which images a constant map leaves out, as a rule for `reasons`: all of them where such maps are dropped."""
    return {"constant map": constant(case) & (constant_maps == "drop")}


def unit(case: Case) -> Tensor:
    """Each map scaled by its own minimum and maximum to [0, 1]: [B, H, W] float64; a constant map becomes 0."""
    return case.once("unit", lambda: _unit(case.maps.double()))


def _unit(maps: Tensor) -> Tensor:
    low = maps.amin(dim=(1, 2), keepdim=True)
    span = maps.amax(dim=(1, 2), keepdim=True) - low
    return torch.where(span > 0, (maps - low) / span.where(span > 0, torch.ones_like(span)), torch.zeros_like(maps))


def reasons(rules: dict[str, Tensor]) -> list[str]:
    """The first reason that applies to each image, "" where none does; rules: reason -> [B] bool."""
    columns = [mask.tolist() for mask in rules.values()]
    return [next((why for why, hit in zip(rules, row, strict=True) if hit), "") for row in zip(*columns, strict=True)]


def excluded(value: Tensor, why: list[str]) -> Tensor:
    """The values with NaN where there is a reason: [B] float64."""
    drop = torch.tensor([bool(w) for w in why], device=value.device)
    return value.double().masked_fill(drop, torch.nan)
