"""Iterated Integrated Attributions: DIX's elder sister, which integrates over the image and over layers at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dix.baselines.cam import missing_layer
from dix.baselines.path import Colour, check_options, colour
from dix.capture import substituting
from dix.classifier import Classifier
from dix.explainer import AttentionSums, LayerSums, PathIntegral, Rollout
from dix.integrate import Rule, baseline, quadrature
from dix.passes import Passes


@dataclass(frozen=True)
class Iia:
    """IIA (Barkan et al., ICCV 2023, Eq. 9): m = psi of the integral of (u - r) o integral of q, one inside another.

    The image moves from a colour z to itself, x(a) = z + a (x - z). For each a, layer L returns u, whose channels'
    minima over places are r, and moves as well: v(b) = r + b (u - r). The integrand is q = v o dy_c/dv; psi is the mean
    over channels. With `depth` 3 layer L-1 moves between the two: u is what layer L makes of r' + c (u' - r').

    On a Vision Transformer u is the last block's attention, r is zero, and q is Gradient Rollout at every step, a map
    over patches already, without the factor (u - r), as in DIX. Only `depth` 2 is offered there.

    Each integral is a sum of N points. IIA2 costs about 2 N F and 2 N^2 times the network behind L, IIA3
    about 2 N^2 F and 2 N^3 times that part: an image is N times as expensive as with DIX. The authors' code differs:
    its integrands are rectified, u - r is left out, the minimum is taken over other axes, and rolled-out matrices are
    averaged before, not after, the rollout.

    depth: 2 (IIA2: image and L) or 3 (IIA3: image, L-1 and L). steps: N. rule: the quadrature of every integral.
    baseline: z.
    """

    version: ClassVar[int] = 1
    depth: int = 2
    steps: int = 10
    rule: Rule = "right"
    baseline: Colour = "mean_colour"
    label: str = "IIA2"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.depth not in (2, 3):
            raise ValueError(f"depth: expected 2 or 3, got {self.depth}")
        quadrature(self.rule, self.steps)
        check_options(baseline=self.baseline)

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if classifier.kind == "vit":
            return "" if self.depth == 2 else "attention is integrated in one block only: depth 2"
        layers = ("last", "second")[: self.depth - 1]
        return next(filter(None, (missing_layer(classifier, layer) for layer in layers)), "")

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps at the resolution of layer L, or of the patches; signed on CNNs."""
        inside = self._attention_map if passes.classifier.kind == "vit" else self._layer_map
        if self.depth == 3:
            inside = self._two_layers
        return self._integral(lambda time: inside(self._moved(passes, time)))

    @property
    def _path(self) -> PathIntegral:
        return PathIntegral(self.steps, self.rule)

    def _integral(self, integrand: Callable[[float], Tensor]) -> Tensor:
        times, weights = quadrature(self.rule, self.steps)
        values = [weight * integrand(time) for time, weight in zip(times.tolist(), weights.tolist(), strict=True)]
        return torch.stack(values).sum(dim=0)

    def _moved(self, passes: Passes, time: float) -> Passes:
        """The images on their way: at the end of it the passes that all methods share."""
        if time == 1:
            return passes
        z = colour(self.baseline, passes.classifier)
        return _of(passes, z + time * (passes.images - z))

    def _layer_map(self, passes: Passes) -> Tensor:
        h, sums = passes.get(LayerSums("last", self._path))
        return (h * sums["product"]).mean(dim=1)

    def _attention_map(self, passes: Passes) -> Tensor:
        last = len(passes.classifier.attention_layers) - 1
        return passes.get(AttentionSums(last, self._path, Rollout(), per_step=True))["product"]

    def _two_layers(self, passes: Passes) -> Tensor:
        """The integral over layer L-1 of those over layer L."""
        u = passes.activation("second")
        r = baseline("channel_min", u)
        return self._integral(lambda time: self._layer_map(_behind(passes, r, u, time)))


def _of(passes: Passes, images: Tensor) -> Passes:
    """Passes of other images in the place of these, whose targets they keep."""
    return Passes(passes.classifier, images, passes.targets, ids=passes.ids, chunk=passes.chunk, seed=passes.seed)


def _behind(passes: Passes, r: Tensor, u: Tensor, time: float) -> Passes:
    """Passes in which layer L-1 returned r + time (u - r), as far as layer L can tell."""
    if time == 1:
        return passes
    tail = passes.classifier.tail("second")
    value = tail.layout.to_raw(r + time * (u - r), passes.context("second").prefix)
    moved = _of(passes, passes.images)
    passes.classifier.tail("last")  # recorded, once and for all, while nothing is replaced
    with substituting(passes.classifier.network, {tail.layer: value}):
        moved.gradient("last")  # computed now and kept: later passes start at layer L, where nothing is replaced
        moved.context("last")
    return moved
