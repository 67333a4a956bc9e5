"""LIFT-CAM: channels weighted by their DeepLIFT contribution to the score (Jung & Oh 2021).

DeepLIFT (Shrikumar et al. 2017) passes differences from a reference back through the network: linear layers as their
gradient does, a pointwise nonlinearity by the ratio of the differences of its output and its input (the rescale rule).
The reference is the layer's activation set to zero. Contributions of all channels add up to y(A) - y(0).

A layer norm is centring, which is linear, then a division of each feature by the spread. The rescale rule treats the
division as it treats every nonlinearity: the ratio of the differences of the normalised and of the centred feature.
From the zero reference that ratio is 1 / sqrt(variance + eps), and the sum rule above holds exactly. (A path integral
from zero is no way out: it grows with log(1 / eps), so the map would depend on the layer norm's eps.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dix.baselines.ablation import Additive, ChannelProducts, channels_first
from dix.baselines.cam import grid, missing_layer, weighted
from dix.baselines.complete import incomplete, kept
from dix.baselines.nonlinear import POINTWISE, Function, pointwise
from dix.capture import gradients
from dix.classifier import Classifier
from dix.passes import Passes, halving

_SMALL = 1e-6  # below this difference from the reference the ratio is noise, and the derivative its limit


class Rescaled(TorchFunctionMode):
    """While active, gradients of a batch [examples; their references] are DeepLIFT's multipliers.

    Values are unchanged. Covers pointwise functions and layer norm; everything else keeps its gradient, which is right
    for linear functions, and for max pooling where the reference is constant.
    """

    def __torch_function__(
        self, func: Function, types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = _rescaled_norm if func is F.layer_norm else _rescaled_pointwise if func in POINTWISE else None
        if rule is None or not args or not args[0].requires_grad:
            return func(*args, **kwargs)
        return rule(func, *args, **kwargs)


def _rescaled_pointwise(function: Function, z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    values, slope = pointwise(function, z, *args, **kwargs)
    return _linear(values, z, slope)


def _rescaled_norm(
    _: Function,
    z: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    space = tuple(range(-len(shape), 0))
    centred = z - z.mean(dim=space, keepdim=True)
    slope = (z.detach().var(dim=space, unbiased=False, keepdim=True) + eps).rsqrt()
    normal = _linear(centred.detach() * slope, centred, slope)
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias


def _linear(values: Tensor, z: Tensor, slope: Tensor) -> Tensor:
    """`values`, whose gradient by z is the ratio of the differences from the reference, or `slope` at 0/0."""
    (value, value_0), (at, at_0) = values.chunk(2), z.detach().chunk(2)
    near = (at - at_0).abs() < _SMALL
    ratio = torch.where(near, slope.chunk(2)[0], (value - value_0) / (at - at_0).where(~near, 1))
    return values + torch.cat([ratio, ratio]) * (z - z.detach())


@dataclass(frozen=True)
class Contributions:
    """Each channel's DeepLIFT contribution to the target's logit, from the layer's activation at zero."""

    layer: str

    def compute(self, passes: Passes) -> Tensor:
        """[B, C] contributions; gradient times activation where channels are independent (see Additive)."""
        if passes.get(Additive(self.layer)):
            return passes.get(ChannelProducts(self.layer))
        return halving(lambda chunk: self._run(passes, chunk), passes.chunk)

    def _run(self, passes: Passes, chunk: int) -> Tensor:
        x = passes.activation(self.layer)
        parts = torch.arange(len(x), device=x.device).split(max(1, chunk // 2))
        products = torch.cat([x[images] * self._multipliers(passes, x[images], images) for images in parts])
        return channels_first(products).flatten(2).sum(dim=2)

    def _multipliers(self, passes: Passes, x: Tensor, images: Tensor) -> Tensor:
        tail, context = passes.classifier.tail(self.layer), passes.context(self.layer)
        with torch.enable_grad(), Rescaled():
            leaf = x.detach().requires_grad_()
            logits = tail.logits(torch.cat([leaf, torch.zeros_like(leaf)]), context, images.repeat(2))
            score = passes.score(logits[: len(x)], images).sum()
        return gradients(score, [leaf])[0]


@dataclass(frozen=True)
class LiftCam:
    """LIFT-CAM (Jung & Oh 2021): w_c = channel c's DeepLIFT contribution, which approximates its SHAP value."""

    version: ClassVar[int] = 1
    layer: str = "last"
    label: str = "LIFT"
    extra: bool = False

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if classifier.kind == "vit":
            return "DeepLIFT has no rule for attention"
        return missing_layer(classifier, self.layer) or incomplete(self, classifier)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c w_c A_c); NaN where the contributions miss more than 1 % of the logit."""
        maps = weighted(passes.get(Contributions(self.layer)), grid(passes, passes.activation(self.layer)))
        independent = passes.get(Additive(self.layer))  # they add up as they are
        return maps if independent else kept(maps, self.residual(passes), passes)

    def residual(self, passes: Passes) -> Tensor:
        """[B] sum of all contributions less y(A) - y(0): zero, up to rounding, where every rule applies."""
        x, tail = passes.activation(self.layer), passes.classifier.tail(self.layer)
        with torch.no_grad():
            empty = passes.score(tail.logits(torch.zeros_like(x), passes.context(self.layer)))
        return passes.get(Contributions(self.layer)).sum(dim=1) - (passes.score(passes.logits) - empty)
