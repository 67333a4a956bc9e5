"""Ablation-CAM: channels weighted by what the score loses without them (Desai & Ramaswamy 2020).

The network behind the layer runs once for each channel, unless channels act on its logits independently of each other
(pooling and a linear layer): then what a channel adds is its gradient times its activation, and nothing runs at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dix.baselines.cam import grid, missing_layer, weighted
from dix.capture import gradients
from dix.classifier import Classifier
from dix.passes import Passes, halving, rows
from dix.seeding import generator
from dix.split import Context

Fill = Literal["zero", "far_below"]

_PROBES, _TOLERANCE = 6, 1e-3
_GROUP, _DEPTH = 32, 1e7  # pytorch-grad-cam's batch of channels and how far below the minimum it goes


def channels_first(activation: Tensor) -> Tensor:
    """A view [B, C, ...] of a CNN's activation [B, C, h, w] or of tokens [B, T, C]."""
    return activation if activation.ndim == 4 else activation.transpose(1, 2)


@dataclass(frozen=True)
class Additive:
    """Whether each channel of a layer adds to the logits on its own, and as much as gradient times activation says.

    Tried on the network and not looked up: the activation is drawn at random, as large as 100, and random halves of its
    channels are set to zero. The answer depends on the network alone, never on the images at hand. Max pooling, ReLU
    and linear layers directly behind the layer pass where they keep channels apart; any mixing before a nonlinearity
    does not.
    """

    layer: str

    def compute(self, passes: Passes) -> bool:
        """True if the change of a fixed mixture of all logits is the sum of g A over the channels set to zero."""
        tail = passes.classifier.tail(self.layer)
        context = Context() if tail.is_bottleneck else tail.record(tail.example)[1]
        full, mask, mixture = self._draw(passes)
        image = torch.zeros(_PROBES, dtype=torch.int64, device=full.device)
        with torch.enable_grad():
            leaf = full.requires_grad_()
            before = tail.logits(leaf, context, image)
            (gradient,) = gradients((before @ mixture).sum(), [leaf])
        with torch.no_grad():
            change = (before - tail.logits(full * mask, context, image)) @ mixture
            expected = (gradient * full * (1 - mask)).flatten(1).sum(dim=1)
        return bool((change - expected).norm() <= _TOLERANCE * expected.norm())

    def _draw(self, passes: Passes) -> tuple[Tensor, Tensor, Tensor]:
        """Activations [probes, ...], masks that are constant over a channel, and a weight for each logit."""
        x, random = passes.activation(self.layer), generator("additive", self.layer)
        scale = torch.logspace(-1, 2, _PROBES).view(-1, *[1] * (x.ndim - 1))
        full = torch.randn(_PROBES, *x.shape[1:], generator=random) * scale
        mask = torch.ones_like(full)
        channels = channels_first(mask)
        kept = torch.rand(_PROBES, channels.shape[1], generator=random) < 0.5
        channels.mul_(kept.view(*kept.shape, *[1] * (x.ndim - 2)))
        mixture = torch.randn(passes.logits.shape[1], generator=random)
        return full.to(x), mask.to(x), mixture.to(x)


@dataclass(frozen=True)
class ChannelProducts:
    """Gradient times activation, summed over each channel."""

    layer: str

    def compute(self, passes: Passes) -> Tensor:
        """[B, C] sum over pixels or tokens of g A."""
        product = passes.gradient(self.layer) * passes.activation(self.layer)
        return channels_first(product).flatten(2).sum(dim=2)


@dataclass(frozen=True)
class ChannelDrops:
    """What the target's logit loses when one channel is replaced.

    fill: what replaces it. "zero" (the paper), or pytorch-grad-cam's "far_below": zero where the activation's minimum
    is exactly zero, otherwise the minimum less 1e7, once more for each channel since the last multiple of 32.
    """

    layer: str
    fill: Fill = "zero"

    def compute(self, passes: Passes) -> Tensor:
        """[B, C] y - y_k."""
        if self.fill == "zero" and passes.get(Additive(self.layer)):
            return passes.get(ChannelProducts(self.layer))
        return halving(lambda chunk: self._run(passes, chunk), passes.chunk)

    def _run(self, passes: Passes, chunk: int) -> Tensor:
        x, tail, context = passes.activation(self.layer), passes.classifier.tail(self.layer), passes.context(self.layer)
        whole = passes.score(passes.logits)
        drops = whole.new_empty(len(x), channels_first(x).shape[1])
        for part in rows(drops.shape[1], len(x), chunk, x.device):
            ablated = x[part.images].repeat(len(part.points), *[1] * (x.ndim - 1))
            channel = part.points.repeat_interleave(len(part.images))
            values = self._values(x, channel, part.image_of_row)
            channels_first(ablated)[torch.arange(len(ablated), device=x.device), channel] = values
            with torch.no_grad():
                scores = passes.score(tail.logits(ablated, context, part.image_of_row), part.image_of_row)
            left = whole[part.image_of_row] - scores
            drops[part.images[:, None], part.points] = left.view(len(part.points), -1).T
        return drops

    def _values(self, x: Tensor, channel: Tensor, image: Tensor) -> Tensor:
        """What replaces channel [M] of image [M], shaped to broadcast over the channel's pixels."""
        low = x.flatten(1).amin(dim=1)[image]
        deep = low - _DEPTH * (channel % _GROUP + 1)
        values = torch.zeros_like(low) if self.fill == "zero" else deep.where(low != 0, 0)
        return values.view(-1, *[1] * (x.ndim - 2))


@dataclass(frozen=True)
class AblationCam:
    """Ablation-CAM (Desai & Ramaswamy 2020): w_c = (y - y_c) / y, y_c the target's logit without channel c.

    The paper takes y for positive. Where it is negative, dividing by it would turn the map around, so that the channels
    that speak against the class light up: the default divides by |y|. On a Vision Transformer a channel is a feature
    of all tokens.

    fill: see ChannelDrops. divide_by: "magnitude" |y|, or "score" y itself as pytorch-grad-cam does.
    """

    version: ClassVar[int] = 1
    layer: str = "last"
    fill: Fill = "zero"
    divide_by: Literal["magnitude", "score"] = "magnitude"
    label: str = "AC"
    extra: bool = False

    def __post_init__(self) -> None:
        if self.fill not in ("zero", "far_below"):
            raise ValueError(f"fill: expected zero or far_below, got {self.fill!r}")
        if self.divide_by not in ("magnitude", "score"):
            raise ValueError(f"divide_by: expected magnitude or score, got {self.divide_by!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return missing_layer(classifier, self.layer)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c w_c A_c)."""
        score = passes.score(passes.logits)
        divisor = score.abs() if self.divide_by == "magnitude" else score
        weights = passes.get(ChannelDrops(self.layer, self.fill)) / divisor.where(divisor != 0, 1)[:, None]
        return weighted(weights, grid(passes, passes.activation(self.layer)))
