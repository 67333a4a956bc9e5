"""Tokens that a network stores in an order of its own (Hiera keeps windows together): where each belongs.

Coordinates are sent through the network in place of pixels, by the way that relevance goes (`dix.carrying`), so that
every token holds the mean coordinates of its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isqrt

import torch
from torch import Tensor, nn

from dix.carrying import Numbering, Product, explicit
from dix.layout import ScatteredTokens
from dix.look import FOLLOWS, SPOTS, Sight, follows, watch


class _Placing(Numbering):
    """While entered, numbers go by skips, pooling and merging, and attention adds none."""

    def product(self, product: Product, index: int) -> Tensor:
        """Nothing."""
        return product.taken(torch.zeros_like(product.weights))


def with_orders(network: nn.Module, size: int, sights: Sequence[Sight]) -> list[Sight]:
    """The sights, those of scattered tokens with their layout, where changed spots confirm it."""
    first = [one for one in sights if one.layout is None and len(one.shape) == 2 and not one.second]
    unknown = [one.name for one in first if _side(one.shape[0]) > 1]
    layouts = {name: layout for name, held in _numbers(network, size, unknown).items() if (layout := _order(held))}
    confirmed: set[str] = set()

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and len(output) == 1 + len(SPOTS):
            change = layouts[name].to_map((output[1:] - output[:1]).abs()).sum(dim=1)
            confirmed.update([name] if follows(change) >= FOLLOWS else [])

    if layouts:
        watch(network, size, list(layouts), note)
    return [
        replace(one, layout=layouts[one.name], side=layouts[one.name].height) if one.name in confirmed else one
        for one in sights
    ]


def _side(count: int) -> int:
    """The side of a square of that many places, or 0."""
    return isqrt(count) if isqrt(count) ** 2 == count else 0


def _numbers(network: nn.Module, size: int, names: Sequence[str]) -> dict[str, Tensor]:
    """By module, the coordinates [2, T] of its tokens, y and x; none where an operation before it has no rule."""
    found: dict[str, Tensor] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            found[name] = output.detach().mean(dim=2)

    like = next(network.parameters(), torch.zeros(1))
    axis = torch.linspace(0, 1, size).to(like)
    grids = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))[:, None].expand(2, 3, size, size)
    with ExitStack() as stack:
        for name in names:
            hook = network.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: note(name, out))
            stack.enter_context(hook)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_Placing())
        stack.enter_context(explicit())
        network(grids.clone().requires_grad_())
    return found


def _order(coordinates: Tensor) -> ScatteredTokens | None:
    """The order that lays tokens with these coordinates [2, T] out as a grid, row by row; None where they are none."""
    side = _side(coordinates.shape[1])
    by_row = coordinates[0].argsort().view(side, side)
    order = torch.stack([row[coordinates[1][row].argsort()] for row in by_row])
    y, x = coordinates[0][order], coordinates[1][order]
    apart = (y.diff(dim=0).min(), x.diff(dim=1).min())
    within = (y.amax(dim=1) - y.amin(dim=1)).max(), (x.amax(dim=0) - x.amin(dim=0)).max()
    regular = all(bool(gap > 2 * spread) for gap, spread in zip(apart, within, strict=True))
    return ScatteredTokens(tuple(order.flatten().tolist()), side, side) if regular else None
