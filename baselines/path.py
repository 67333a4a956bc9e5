"""Integrated, Guided Integrated and Blur Integrated Gradients: gradients summed along a path of images.

Each walks from an image without information to the image under explanation and sums (step) * (gradient) over the
path, in pixels or in the network's normalised input: an image's step is std times smaller in the second and its
gradient std times larger, so their product is the same. Defaults are the thesis's settings: the softmax probability is
differentiated and the information-free image is zero after normalisation, which is the mean colour in pixels.

Costs are stated in forward-equivalents F (one forward pass of one image; the backward pass to the input, with frozen
parameters, is another F).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dix.baselines.guide import Guide
from dix.capture import gradients
from dix.classifier import Classifier
from dix.integrate import Rule, quadrature
from dix.passes import Passes, Score, halving, rows
from dix.precision import Precision, check_precision, evaluator, images_together
from dix.recording import Lean

PathRule = Rule | Literal["endpoints"]
Colour = Literal["mean_colour", "black", "white"]
Reduction = Literal["sum_abs", "abs_sum", "max_abs", "sum"]

#: How attributions [B, C, h, w] of channels become a map [B, h, w]; "sum" keeps the sign.
REDUCTIONS: Mapping[Reduction, Callable[[Tensor], Tensor]] = {
    "sum_abs": lambda a: a.abs().sum(dim=1),
    "abs_sum": lambda a: a.sum(dim=1).abs(),
    "max_abs": lambda a: a.abs().amax(dim=1),
    "sum": lambda a: a.sum(dim=1),
}


@dataclass(frozen=True)
class IntegratedGradients:
    """IG (Sundararajan et al. 2017, Eq. 3): a = (x - z) sum of w_n g(z + t_n (x - z)), on the straight line.

    steps: N; the default costs 2 N = 50 F. rule: the quadrature ("right" is the paper's Riemann sum), or "endpoints",
    which weighs N points from 0 to 1, both included, by 1/N each, as the library `saliency` does. baseline: z.
    score: what is differentiated. reduction: from channels to a map; "sum" adds up to score(x) - score(z).
    """

    version: ClassVar[int] = 1
    steps: int = 25
    rule: PathRule = "right"
    baseline: Colour = "mean_colour"
    score: Score = "probability"
    reduction: Reduction = "sum_abs"
    label: str = "IG"
    extra: bool = False

    def __post_init__(self) -> None:
        points(self.rule, self.steps)
        check_options(baseline=self.baseline, score=self.score, reduction=self.reduction)

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        line = StraightLine(self.steps, self.rule, self.baseline, self.score)
        return REDUCTIONS[self.reduction](passes.get(line))


@dataclass(frozen=True)
class StraightLine:
    """The attributions [B, 3, S, S] of IG."""

    steps: int
    rule: PathRule
    baseline: Colour
    score: Score

    def compute(self, passes: Passes) -> Tensor:
        """Attributions in units of the score."""
        return halving(lambda chunk: self._attributions(passes, chunk), passes.chunk)

    def _attributions(self, passes: Passes, chunk: int) -> Tensor:
        images = passes.images
        times, weights = (torch.from_numpy(v).to(images) for v in points(self.rule, self.steps))
        z = colour(self.baseline, passes.classifier).to(images)
        total = torch.zeros_like(images)
        for part in rows(len(times), len(images), chunk, images.device):
            r = z + part.spread(times) * (images[part.images] - z)
            g = pixel_gradients(passes, r.flatten(0, 1), part.image_of_row, self.score).view_as(r)
            total[part.images] += (part.spread(weights) * g).sum(dim=0)
        return (images - z) * total


@dataclass(frozen=True)
class GuidedIntegratedGradients:
    """Guided IG (Kapishnikov et al. 2021, Algorithm 1): in each step only the features of least gradient move.

    A step takes the L1 distance to the image down by 1/N of its start. It moves the `fraction` of the features with the
    smallest absolute gradients, further ones where these have arrived, and lets none stray from the straight line by
    more than `max_dist` of the way. The choice depends on the scale of channels: as in the authors' release, features
    are values of the network's normalised input.

    steps: N; the default costs 2 N = 50 F. fraction: 0 to 1. max_dist: 0 (nearly IG) to 1 (free). baseline, score,
    reduction: as in IntegratedGradients. The authors' release defaults to 200 steps, 0.25 and 0.02. precision: with
    "native" single precision, rounding decides which of two nearly equal gradients moves first, one pixel that moves
    changes gradients by percents, and the map comes to depend on the batch size (correlations below 0.5 occur).
    "double" settles that for every batch and processor, and takes two to four times as long on a CPU; "alone" settles
    it for every batch on one machine, but another processor or number of threads may still draw another map.
    """

    version: ClassVar[int] = 1
    steps: int = 25
    fraction: float = 0.5
    max_dist: float = 1.0
    baseline: Colour = "mean_colour"
    score: Score = "probability"
    reduction: Reduction = "sum_abs"
    precision: Precision = "double"
    label: str = "GIG"
    extra: bool = False

    def __post_init__(self) -> None:
        points("right", self.steps)
        check_options(baseline=self.baseline, score=self.score, reduction=self.reduction)
        check_precision(self.precision)
        check_shares(fraction=self.fraction, max_dist=self.max_dist)

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        guided = GuidedPath(self.steps, self.fraction, self.max_dist, self.baseline, self.score, self.precision)
        return REDUCTIONS[self.reduction](passes.get(guided).attribution)


@dataclass(frozen=True)
class Walked:
    """What a guided walk leaves behind: all that Guided IG and IDGI make of the same gradients.

    attribution: [B, 3, S, S] of Guided IG. gained: [B, 3, S, S] of IDGI, without the last step. share: [B, 3, S, S] of
    the last step's gain. score: [B] before that step. end: [B, 3, S, S] where it led, as the network's input. What IDGI
    needs is float64.
    """

    attribution: Tensor
    gained: Tensor
    share: Tensor
    score: Tensor
    end: Tensor


@dataclass(frozen=True)
class GuidedPath:
    """Guided IG's walk from an image without information to the image, which costs 2 F a step."""

    steps: int
    fraction: float
    max_dist: float
    baseline: Colour
    score: Score
    precision: Precision

    def compute(self, passes: Passes) -> Walked:
        """Attributions in units of the score."""
        return halving(lambda chunk: self._walked(passes, chunk), passes.chunk)

    def _walked(self, passes: Passes, chunk: int) -> Walked:
        classifier = passes.classifier
        inputs = classifier.normalise(passes.images.double())  # float64: distances are told apart to 1e-9
        z = classifier.normalise(colour(self.baseline, classifier).double())
        parts = torch.arange(len(inputs), device=inputs.device).split(images_together(self.precision, chunk))
        walks = [self._walk(passes, z.expand_as(inputs[part]), inputs[part], part) for part in parts]
        return Walked(*(torch.cat(piece) for piece in zip(*walks, strict=True)))

    def _walk(self, passes: Passes, start: Tensor, end: Tensor, images: Tensor) -> tuple[Tensor, ...]:
        """The fields of `Walked` for the images with the indices [b]."""
        logits, guide = evaluator(passes.classifier, self.precision), Guide(self.fraction, self.max_dist)
        x, attribution, gained, share = start, *(torch.zeros_like(start) for _ in range(3))
        before = passes.images.new_zeros(len(images))
        for step in range(1, self.steps + 1):
            after, g = scores_and_gradients(passes, logits, x, images, self.score)
            gained += (after - before).view(-1, 1, 1, 1) * share
            before, share = after, shares(g)
            moved = guide.step(x, g.abs(), start, end, step / self.steps)
            attribution += (moved - x) * g
            x = moved
        return attribution.to(passes.images.dtype), gained, share, before, x


def shares(gradient: Tensor) -> Tensor:
    """Squares of g [b, 3, S, S] as shares of their sum; equal ones where all are zero."""
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    # Divided by the largest first: a saturated softmax has gradients whose squares are no numbers any more.
    squares = (gradient / largest.where(largest > 0, 1)).square()
    total = squares.sum(dim=(1, 2, 3), keepdim=True)
    return torch.where(total > 0, squares / total.where(total > 0, 1), 1 / gradient[0].numel())


@dataclass(frozen=True)
class BlurIntegratedGradients:
    """Blur IG (Xu et al. 2020, Eq. 5): the path removes Gaussian blur; a = -sum of dx/dsigma g(x(sigma)) dsigma.

    sigma runs from 0 in `steps` equal steps up to `max_sigma` pixels (left sum, the largest not included); dx/dsigma is
    a forward difference over `grad_step`. Kernels end at four sigma, and beyond the border lies `border`, as in the
    authors' release (zero after normalisation). With "sum" the map adds up to score(x) - score(fully blurred).

    steps: N; the default costs 2 N = 200 F. score, reduction: as in IntegratedGradients.
    """

    version: ClassVar[int] = 1
    steps: int = 100
    max_sigma: float = 50.0
    grad_step: float = 0.01
    border: Colour = "mean_colour"
    score: Score = "probability"
    reduction: Reduction = "sum_abs"
    label: str = "BIG"
    extra: bool = False

    def __post_init__(self) -> None:
        points("left", self.steps)
        check_options(border=self.border, score=self.score, reduction=self.reduction)
        for key, value in (("max_sigma", self.max_sigma), ("grad_step", self.grad_step)):
            if not value > 0:
                raise ValueError(f"{key}: expected a number above 0, got {value}")

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        path = BlurPath(self.steps, self.max_sigma, self.grad_step, self.border, self.score)
        return REDUCTIONS[self.reduction](passes.get(path))


@dataclass(frozen=True)
class BlurPath:
    """The attributions [B, 3, S, S] of Blur IG."""

    steps: int
    max_sigma: float
    grad_step: float
    border: Colour
    score: Score

    def compute(self, passes: Passes) -> Tensor:
        """Attributions in units of the score."""
        return halving(lambda chunk: self._attributions(passes, chunk), passes.chunk)

    def _attributions(self, passes: Passes, chunk: int) -> Tensor:
        images = passes.images
        times, _ = points("left", self.steps)
        blurs = {side: _blurs(times * self.max_sigma, self.grad_step, side, images) for side in set(passes.size)}
        down, across = (blurs[side] for side in passes.size)
        z = colour(self.border, passes.classifier).to(images)
        total = torch.zeros_like(images)
        for part in rows(self.steps, len(images), chunk, images.device):
            x, slope = _blurred(images[part.images] - z, down, across, part.points)
            g = pixel_gradients(passes, (x + z).flatten(0, 1), part.image_of_row, self.score).view_as(x)
            total[part.images] -= (slope * g).sum(dim=0)
        return total * (self.max_sigma / self.steps)


@dataclass(frozen=True)
class _Blur:
    """Blur along one axis of n pixels as matrices [N, n, n]: at sigma, at sigma + step, and (second - first) / step."""

    here: Tensor
    ahead: Tensor
    slope: Tensor


def _blurs(sigmas: np.ndarray, step: float, side: int, like: Tensor) -> _Blur:
    here = np.stack([blur_matrix(sigma, side) for sigma in sigmas])
    ahead = np.stack([blur_matrix(sigma + step, side) for sigma in sigmas])
    return _Blur(*(torch.from_numpy(m).to(like) for m in (here, ahead, (ahead - here) / step)))


def blur_matrix(sigma: float, side: int) -> np.ndarray:
    """[side, side] Gaussian blur of a signal that is zero outside; the kernel ends at four sigma and sums to 1."""
    radius = floor(4 * sigma + 0.5)
    if radius == 0:
        return np.eye(side)
    kernel = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    kernel /= 2 * kernel.sum() - 1
    distance = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    return np.where(distance <= radius, kernel[np.minimum(distance, radius)], 0)


def _blurred(images: Tensor, down: _Blur, across: _Blur, points: Tensor) -> tuple[Tensor, Tensor]:
    """Blurred images and their forward differences by sigma [p, b, C, h, w].

    The difference of two blurs R x C' - R0 x C0' is (R - R0) x C' + R0 x (C - C0)': nothing cancels.
    """
    r_here, r_slope = (m[points, None, None] for m in (down.here, down.slope))
    c_here, c_ahead, c_slope = (m[points, None, None].mT for m in (across.here, across.ahead, across.slope))
    halfway = r_here @ images
    return halfway @ c_here, r_slope @ images @ c_ahead + halfway @ c_slope


def points(rule: PathRule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points t in [0, 1] of a path and their weights. Raises ValueError for an unknown rule or a count below 1."""
    if rule == "endpoints" and steps >= 1:
        return np.linspace(0, 1, steps), np.full(steps, 1 / steps)
    return quadrature("right" if rule == "endpoints" else rule, steps)


def colour(name: Colour, classifier: Classifier) -> Tensor:
    """A constant image [1, 3, 1, 1] in pixels; "mean_colour" is zero after normalisation."""
    levels = {"mean_colour": classifier.mean, "black": classifier.mean * 0, "white": classifier.mean * 0 + 1}
    return levels[name]


def pixel_gradients(passes: Passes, images: Tensor, image_of_row: Tensor, score: Score) -> Tensor:
    """[M, 3, S, S] gradient of the target's score by the pixels of images [M, 3, S, S]."""
    return score_gradients(passes, passes.classifier.logits, images, image_of_row, score)


def score_gradients(
    passes: Passes, logits: Callable[[Tensor], Tensor], inputs: Tensor, image_of_row: Tensor, score: Score
) -> Tensor:
    """[M, ...] gradient of the target's score by `inputs`, which `logits` maps to [M, K]; 2 F a row."""
    return scores_and_gradients(passes, logits, inputs, image_of_row, score)[1]


def scores_and_gradients(
    passes: Passes, logits: Callable[[Tensor], Tensor], inputs: Tensor, image_of_row: Tensor, score: Score
) -> tuple[Tensor, Tensor]:
    """[M] the target's score of `inputs`, which `logits` maps to [M, K], and its gradient [M, ...]; 2 F a row."""
    leaf = inputs.detach().requires_grad_()
    with torch.enable_grad(), Lean():
        found = passes.score(logits(leaf), image_of_row, score)
    return found.detach(), gradients(found.sum(), [leaf])[0]


_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "baseline": get_args(Colour),
    "border": get_args(Colour),
    "score": get_args(Score),
    "reduction": get_args(Reduction),
}


def check_options(**options: str) -> None:
    """Raise ValueError, which names the key and the valid values, for a value that an option does not have."""
    for key, value in options.items():
        if value not in _ALLOWED[key]:
            raise ValueError(f"{key}: expected one of {', '.join(_ALLOWED[key])}, got {value!r}")


def check_shares(**options: float) -> None:
    """Raise ValueError, which names the key, for a number that is not from 0 to 1."""
    for key, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{key}: expected a number from 0 to 1, got {value}")
