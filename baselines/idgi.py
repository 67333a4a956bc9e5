"""IDGI: what a score gains on each step of a path, laid on the pixels that the gradient there points at.

Integrated Gradients multiplies a gradient by the step to the next point. Of that step only the part along the gradient
changes the score (to first order); the rest adds to a map what it adds to nothing else. IDGI leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from dix.baselines.path import (
    REDUCTIONS,
    Colour,
    GuidedPath,
    Reduction,
    blur_matrix,
    check_options,
    check_shares,
    colour,
    scores_and_gradients,
    shares,
)
from dix.classifier import Classifier
from dix.integrate import quadrature
from dix.passes import Passes, Score, halving
from dix.precision import Precision, check_precision, evaluator, images_together

#: The score [b] of a path's point for each of b images, and its gradient [b, 3, S, S].
Point = tuple[Tensor, Tensor]


class Walk(Protocol):
    """A path from an image without information to the image itself."""

    def gains(self, passes: Passes, score: Score) -> Tensor:
        """IDGI's attributions [B, 3, S, S] along the path.

        Gradients are those by the network's normalised input, whose channels have one scale.
        """
        ...


@dataclass(frozen=True)
class StraightWalk:
    """Integrated Gradients' path: x_j = z + j/N (x - z), j = 0 ... N. steps: N. baseline: z."""

    version: ClassVar[int] = 1
    steps: int = 25
    baseline: Colour = "mean_colour"

    def __post_init__(self) -> None:
        quadrature("right", self.steps)
        check_options(baseline=self.baseline)

    def gains(self, passes: Passes, score: Score) -> Tensor:
        """As in Walk."""
        return _gains(self.points, passes, score)

    def points(self, passes: Passes, images: Tensor, score: Score, chunk: int) -> Iterator[Point]:
        """The path's points in their order, for the images with the indices [b]; both ends are among them."""
        x, z = passes.images[images], colour(self.baseline, passes.classifier)
        times = torch.linspace(0, 1, self.steps + 1, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1, 1)
        for group in times.split(max(1, chunk // len(images))):
            yield from _at(passes, z + group * (x - z), images, score)


@dataclass(frozen=True)
class BlurredWalk:
    """Blur IG's path: Gaussian blur of max_sigma (1 - j/N) pixels, j = 0 ... N.

    steps: N. border: what lies beyond the image; kernels end at four sigma.
    """

    version: ClassVar[int] = 1
    steps: int = 100
    max_sigma: float = 50.0
    border: Colour = "mean_colour"

    def __post_init__(self) -> None:
        quadrature("right", self.steps)
        check_options(border=self.border)
        if not self.max_sigma > 0:
            raise ValueError(f"max_sigma: expected a number above 0, got {self.max_sigma}")

    def gains(self, passes: Passes, score: Score) -> Tensor:
        """As in Walk."""
        return _gains(self.points, passes, score)

    def points(self, passes: Passes, images: Tensor, score: Score, chunk: int) -> Iterator[Point]:
        """The path's points in their order, for the images with the indices [b]; both ends are among them."""
        z = colour(self.border, passes.classifier)
        x = passes.images[images] - z
        blurs = {side: self._blurs(side, x) for side in set(passes.size)}
        down, across = (blurs[side] for side in passes.size)
        for group in torch.arange(self.steps + 1).split(max(1, chunk // len(images))):
            yield from _at(passes, down[group] @ x @ across[group].mT + z, images, score)

    def _blurs(self, side: int, like: Tensor) -> Tensor:
        """[N + 1, 1, 1, side, side] by point, the blur along one axis."""
        sigmas = self.max_sigma * (1 - np.arange(self.steps + 1) / self.steps)
        matrices = np.stack([blur_matrix(sigma, side) for sigma in sigmas])
        return torch.from_numpy(matrices).to(like)[:, None, None]


@dataclass(frozen=True)
class GuidedWalk:
    """Guided IG's path: in each of N steps the pixels of least gradient move; see GuidedIntegratedGradients."""

    version: ClassVar[int] = 1
    steps: int = 25
    fraction: float = 0.5
    max_dist: float = 1.0
    baseline: Colour = "mean_colour"
    precision: Precision = "double"

    def __post_init__(self) -> None:
        quadrature("right", self.steps)
        check_options(baseline=self.baseline)
        check_precision(self.precision)
        check_shares(fraction=self.fraction, max_dist=self.max_dist)

    def gains(self, passes: Passes, score: Score) -> Tensor:
        """As in Walk; where Guided IG has walked the same path, only its end is new."""
        path = GuidedPath(self.steps, self.fraction, self.max_dist, self.baseline, score, self.precision)
        walked = passes.get(path)
        scores = halving(lambda chunk: self._scores(passes, walked.end, score, chunk), passes.chunk)
        return (walked.gained + (scores - walked.score).view(-1, 1, 1, 1) * walked.share).to(passes.images.dtype)

    def _scores(self, passes: Passes, inputs: Tensor, score: Score, chunk: int) -> Tensor:
        logits, images = evaluator(passes.classifier, self.precision), torch.arange(len(inputs), device=inputs.device)
        parts = images.split(images_together(self.precision, chunk))
        return torch.cat([scores_and_gradients(passes, logits, inputs[part], part, score)[0] for part in parts])


def _at(passes: Passes, pixels: Tensor, images: Tensor, score: Score) -> Iterator[Point]:
    """The points whose pixels are [p, b, 3, S, S]."""
    inputs = passes.classifier.normalise(pixels.flatten(0, 1))
    found, gradient = scores_and_gradients(passes, passes.classifier.network, inputs, images.repeat(len(pixels)), score)
    yield from zip(found.view(pixels.shape[:2]), gradient.view_as(pixels), strict=True)


@dataclass(frozen=True)
class Idgi:
    """IDGI (Yang et al., CVPR 2023, Algorithm 1): a = sum over j of (f(x_j+1) - f(x_j)) g_j^2 / |g_j|^2.

    g_j is the gradient at x_j, squared element by element, so that each step's shares are positive and sum to 1: with
    "sum" the map adds up to f(x) - f(z) exactly, whatever the number of steps. Where a gradient is zero all elements
    get an equal share, which the paper does not speak of and its code divides by zero. Costs 2 (N + 1) F: 52 on the
    straight path, 52 in double precision on the guided, 202 on the blurred one.

    path: the points x_j; StraightWalk (IG + IDGI), GuidedWalk or BlurredWalk. score: f. reduction: as in
    IntegratedGradients.
    """

    version: ClassVar[int] = 1
    path: Walk = field(default_factory=StraightWalk)
    score: Score = "probability"
    reduction: Reduction = "sum_abs"
    label: str = "IDGI"
    extra: bool = True

    def __post_init__(self) -> None:
        check_options(score=self.score, reduction=self.reduction)

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        return REDUCTIONS[self.reduction](passes.get(ImportantDirections(self.path, self.score)))


@dataclass(frozen=True)
class ImportantDirections:
    """The attributions [B, 3, S, S] of IDGI along a path."""

    path: Walk
    score: Score

    def compute(self, passes: Passes) -> Tensor:
        """Attributions in units of the score."""
        return self.path.gains(passes, self.score)


#: Gives a path's points for some images, when at most so many rows pass the network together.
Points = Callable[[Passes, Tensor, Score, int], Iterator[Point]]


def _gains(points: Points, passes: Passes, score: Score) -> Tensor:
    """IDGI's attributions [B, 3, S, S] along any path."""

    def run(chunk: int) -> Tensor:
        images = torch.arange(len(passes.images), device=passes.images.device)
        parts = [_sum(points(passes, part, score, chunk)) for part in images.split(max(1, chunk))]
        return torch.cat(parts).to(passes.images.dtype)

    return halving(run, passes.chunk)


def _sum(points: Iterator[Point]) -> Tensor:
    before, gradient = next(points)
    total = torch.zeros_like(gradient)
    for after, following in points:
        total += (after - before).view(-1, 1, 1, 1) * shares(gradient)
        before, gradient = after, following
    return total
