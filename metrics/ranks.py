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


def permutations(batch: ImageBatch, seed: int) -> Tensor:
    """One random order of the pixels for each image, the same for all maps of the image: [B, H*W]."""
    pixels = batch.images[0, 0].numel()
    drawn = [torch.randperm(pixels, generator=generator(seed, i, "ties")) for i in batch.ids]
    return torch.stack(drawn).to(batch.images.device)


def ranking(case: Case, ties: Ties, seed: int = 0) -> Tensor:
    """The rank of each pixel, 0 for the least relevant: [B, H*W], computed once for the case.

    ties: "index" ranks equal values by their row-major index (the lower index is the less relevant); "random" ranks
    them by a permutation seeded with the image's id.
    """
    choose("protocol.ties", ties, get_args(Ties))

    def compute() -> Tensor:
        if ties == "index":
            return inverse(ascending(case.maps))
        shuffle = case.batch.once(("ties", seed), lambda: permutations(case.batch, seed))
        return inverse(ascending(case.maps, shuffle))

    return case.once(("ranking", ties, seed), compute)


def places(case: Case, order: Order, ties: Ties, seed: int = 0) -> Tensor:
    """When each pixel is masked, 0 for the first: [B, H, W]; "most" is exactly the reverse of "least"."""
    choose("order", order, get_args(Order))
    ranks = ranking(case, ties, seed).view_as(case.maps)
    return ranks if order == "least" else ranks[0].numel() - 1 - ranks


def tie_share(maps: Tensor) -> Tensor:
    """The share of pixels whose value occurs elsewhere in the map too, in [0, 1]: [B]."""
    values = maps.flatten(1).sort(dim=1).values
    same = values[:, 1:] == values[:, :-1]
    tied = torch.nn.functional.pad(same, (1, 0)) | torch.nn.functional.pad(same, (0, 1))
    return tied.double().mean(dim=1)


def first(count: int, fraction: float) -> int:
    """How many of `count` pixels a fraction means: rounded down, safe against 0.29 * 100 = 28.999..."""
    return int(fraction * count + 1e-9)
