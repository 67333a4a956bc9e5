"""How what a layer returns lies over the image, and the one form in which methods see it: [B, C, h, w]."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    """A way in which values lie over an image, there and back again."""

    def to_map(self, raw: Tensor) -> Tensor:
        """What a layer returned [B, ...], as channels over places: [B, C, h, w]."""
        ...

    def prefix(self, raw: Tensor) -> Tensor | None:
        """The values that lie nowhere in the image [B, p, C], or None where there are none."""
        ...

    def to_raw(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """What the layer would have returned: the inverse of `to_map`."""
        ...


@dataclass(frozen=True)
class ChannelsFirst:
    """[B, C, h, w]: nothing to do."""

    def __str__(self) -> str:
        return "channels first"

    def to_map(self, raw: Tensor) -> Tensor:
        """The same tensor."""
        return raw

    def prefix(self, raw: Tensor) -> None:
        """Every value has its place."""

    def to_raw(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """The same tensor."""
        return maps


@dataclass(frozen=True)
class ChannelsLast:
    """[B, h, w, C], as in Swin Transformers."""

    def __str__(self) -> str:
        return "channels last"

    def to_map(self, raw: Tensor) -> Tensor:
        """A view [B, C, h, w]."""
        return raw.permute(0, 3, 1, 2)

    def prefix(self, raw: Tensor) -> None:
        """Every value has its place."""

    def to_raw(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """[B, h, w, C]."""
        return maps.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class Tokens:
    """[B, p + h w, C]: p tokens that lie nowhere, then the patches row by row."""

    before: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.before} + {self.height} x {self.width} tokens"

    def to_map(self, raw: Tensor) -> Tensor:
        """[B, C, h, w] of the patches' tokens."""
        return raw[:, self.before :].transpose(1, 2).unflatten(2, (self.height, self.width))

    def prefix(self, raw: Tensor) -> Tensor | None:
        """[B, p, C], or None where p = 0."""
        return raw[:, : self.before] if self.before else None

    def to_raw(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """[B, p + h w, C]."""
        patches = maps.flatten(2).transpose(1, 2).contiguous()
        return patches if prefix is None else torch.cat([prefix, patches], dim=1)


@dataclass(frozen=True)
class ScatteredTokens:
    """[B, h w, C]: patches in an order of the network's own, as in Hiera. order: where each place of the grid is."""

    order: tuple[int, ...]
    height: int
    width: int

    def __str__(self) -> str:
        digest = hashlib.sha256(repr(self.order).encode()).hexdigest()[:8]
        return f"{self.height} x {self.width} tokens in the order {digest}"

    def to_map(self, raw: Tensor) -> Tensor:
        """[B, C, h, w], row by row."""
        return raw[:, list(self.order)].transpose(1, 2).unflatten(2, (self.height, self.width))

    def prefix(self, raw: Tensor) -> None:
        """Every value has its place."""

    def to_raw(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """[B, h w, C] in the network's order."""
        return maps.flatten(2).transpose(1, 2)[:, torch.tensor(self.order, device=maps.device).argsort()].contiguous()


@dataclass(frozen=True)
class BatchSecond:
    """[T, B, C]: tokens come before the images of the batch, as in CLIP's own code. inner: how [B, T, C] lies."""

    inner: Layout

    def __str__(self) -> str:
        return f"{self.inner}, before the batch"

    def to_map(self, raw: Tensor) -> Tensor:
        """As `inner` gives it, of [B, T, C]."""
        return self.inner.to_map(raw.transpose(0, 1))

    def prefix(self, raw: Tensor) -> Tensor | None:
        """As `inner` gives it, of [B, T, C]."""
        return self.inner.prefix(raw.transpose(0, 1))

    def to_raw(self, maps: Tensor, prefix: Tensor | None) -> Tensor:
        """[T, B, C]."""
        return self.inner.to_raw(maps, prefix).transpose(0, 1)


#: What a layer is taken for where nobody has looked.
CHANNELS_FIRST = ChannelsFirst()
