"""Guided IG's step: which pixels of an image move next towards another image, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guide:
    """The rule of Guided IG's steps (Kapishnikov et al. 2021, Algorithm 1).

    fraction: of the pixels that can move, which share of least gradient does so. max_dist: how far a pixel may be from
    the straight line, as a share of its way.
    """

    fraction: float
    max_dist: float

    def step(self, x: Tensor, size: Tensor, start: Tensor, end: Tensor, alpha: float) -> Tensor:
        """Move x [B, ...] until its distance to `end` is (1 - alpha) of that of `start`, small gradients first.

        Each pixel may run ahead of the straight line, or lag behind it, by at most max_dist of the whole way: `front`
        and `rear` are the two ends of its leash.
        """
        front = start + (end - start) * min(alpha + self.max_dist, 1)
        goal = (way := _distance(start, end)) * (1 - alpha)
        if alpha > self.max_dist:  # pixels that lag too far behind are pulled up first, whatever their gradient
            rear = start + (end - start) * (alpha - self.max_dist)
            x = torch.where(_progress(x, start, end) < alpha - self.max_dist, rear, x)
        unfinished = way > 0
        # Then the pixels with the smallest gradients move, a `fraction` of those that still can. Where all of them at
        # the end of their leash would not close the gap, they go there, and the next ones are chosen. Every pass takes
        # at least one pixel of each unfinished image to its `front`, so this ends.
        while unfinished.any():
            now = _distance(x, end)
            unfinished = unfinished & ~_close(now, goal)
            free = (x != front) & unfinished.view(-1, 1, 1, 1)
            chosen = free & (size <= _quantile(size.masked_fill(~free, torch.inf), self.fraction))
            reach = ((front - x).abs() * chosen).flatten(1).sum(dim=1)
            unfinished = unfinished & (reach > 0)
            share = ((now - goal) / reach).view(-1, 1, 1, 1)  # of the way to `front` that closes the gap
            target = torch.where(share > 1, front, x + (front - x) * share)
            x = torch.where(chosen, target, x)
            unfinished = unfinished & (share.flatten() > 1)
        return x


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().flatten(1).sum(dim=1)


def _close(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs() <= 1e-9 * torch.maximum(a, b).clamp(min=1)


def _progress(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Position along the straight line, 0 at `start`, 1 at `end`; 1 where they are equal."""
    way = end - start
    return torch.where(way != 0, (x - start) / torch.where(way != 0, way, 1), 1)


def _quantile(values: Tensor, fraction: float) -> Tensor:
    """The value [B, 1, 1, 1] below which `fraction` of each image's values lie, always one of them."""
    flat = values.flatten(1)
    rank = floor(fraction * (flat.shape[1] - 1)) + 1
    return flat.kthvalue(rank, dim=1).values.view(-1, 1, 1, 1)
