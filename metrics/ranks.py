"""Pixel orders: each map is ranked once, and every masking of it is read from that one ranking."""

from __future__ import annotations

import hashlib
from typing import get_args

import torch
from torch import Tensor

from dix.metrics.api import Case, ImageBatch
from dix.metrics.options import Order, Ties, choose


def generator(seed: int, image_id: str, purpose: str) -> torch.Generator:
    """A CPU generator that depends on the image and the purpose, never on the position in a batch."""
    digest = hashlib.sha256(f"{seed}\x1f{image_id}\x1f{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def ascending(maps: Tensor, permutation: Tensor | None = None) -> Tensor:
    """Pixels from the least to the most relevant; equal values keep the order of `permutation`.

    maps: [B, H, W] finite maps. permutation: [B, H*W] the pixels in the order that settles ties, or None for the
    row-major order. Returns [B, H*W] pixel indices. Both zeros count as one value, and the sort is stable, so CPU and
    CUDA agree.
    """
    flat = maps.flatten(1) + 0.0
    if permutation is None:
        return torch.argsort(flat, dim=1, stable=True)
    shuffled = torch.argsort(flat.gather(1, permutation), dim=1, stable=True)
    return permutation.gather(1, shuffled)


def inverse(order: Tensor) -> Tensor:
    """The place of each pixel in an order: [B, N] with 0 for the first."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def permutations(batch: ImageBatch, count: int, seed: int) -> Tensor:
    """One random order of the pixels (or patches) for each image, the same for all maps of the image: [B, count]."""
    drawn = [torch.randperm(count, generator=generator(seed, i, "ties")) for i in batch.ids]
    return torch.stack(drawn).to(batch.images.device)


def ranking(case: Case, ties: Ties, seed: int = 0) -> Tensor:
    """The rank of each pixel, 0 for the least relevant: [B, H*W], computed once for the case.

    ties: "index" ranks equal values by their row-major index (the lower index is the less relevant); "random" ranks
    them by a permutation seeded with the image's id.
    """
    return case.once(("ranking", ties, seed), lambda: ranked(case.batch, case.maps, ties, seed))


def ranked(batch: ImageBatch, maps: Tensor, ties: Ties, seed: int) -> Tensor:
    """The rank of each value in maps [B, h, w] of any resolution, as in `ranking`: [B, h*w]."""
    choose("protocol.ties", ties, get_args(Ties))
    if ties == "index":
        return inverse(ascending(maps))
    count = maps[0].numel()
    return inverse(ascending(maps, batch.once(("ties", seed, count), lambda: permutations(batch, count, seed))))


def places(case: Case, order: Order, ties: Ties, seed: int = 0) -> Tensor:
    """When each pixel is masked, 0 for the first: [B, H, W]; "most" is exactly the reverse of "least"."""
    return turns(ranking(case, ties, seed), order).view_as(case.maps)


def turns(ranks: Tensor, order: Order) -> Tensor:
    """The ranks [B, N] from the end that `order` begins with."""
    choose("order", order, get_args(Order))
    return ranks if order == "least" else ranks.shape[1] - 1 - ranks


def tie_share(maps: Tensor) -> Tensor:
    """The share of pixels whose value occurs elsewhere in the map too, in [0, 1]: [B]."""
    values = maps.flatten(1).sort(dim=1).values
    same = values[:, 1:] == values[:, :-1]
    tied = torch.nn.functional.pad(same, (1, 0)) | torch.nn.functional.pad(same, (0, 1))
    return tied.double().mean(dim=1)


def first(count: int, fraction: float) -> int:
    """How many of `count` pixels a fraction means: rounded down, safe against 0.29 * 100 = 28.999..."""
    return int(fraction * count + 1e-9)
