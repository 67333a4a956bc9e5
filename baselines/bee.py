"""BEE: baselines drawn at random, by bandits that learn which kind of them a declared objective likes.

A map that was chosen by a metric wins that metric by construction: compare it by others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import tanh
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from dix.baselines.cam import missing_layer
from dix.baselines.path import blur_matrix
from dix.classifier import Classifier
from dix.explainer import DEPTHS, LayerSums, PathIntegral
from dix.integrate import quadrature
from dix.maps import min_max, resize
from dix.passes import Passes, halving, rows

Objective = Literal["insertion", "deletion", "drop"]

#: Shares of the pixels that are blacked out, one after another.
HIDDEN = tuple(i / 10 for i in range(1, 10))
#: Newton's steps for an arm's weight; each doubles the number of exact digits.
_NEWTON = 20


def _normal(x: Tensor, random: Generator) -> Tensor:
    """Each channel's own normal distribution over places."""
    noise = torch.randn(x.shape, generator=random).to(x)
    return x.mean(dim=(1, 2), keepdim=True) + x.std(dim=(1, 2), keepdim=True, correction=0) * noise


def _uniform(x: Tensor, random: Generator) -> Tensor:
    """Between each channel's smallest and largest value."""
    return _within(x, torch.rand(x.shape, generator=random))


def _constant(x: Tensor, random: Generator) -> Tensor:
    """One number a channel, between its smallest and largest value."""
    return _within(x, torch.rand((len(x), 1, 1), generator=random)).expand_as(x)


def _within(x: Tensor, share: Tensor) -> Tensor:
    low, high = x.amin(dim=(1, 2), keepdim=True), x.amax(dim=(1, 2), keepdim=True)
    return low + share.to(x) * (high - low)


def _blurred(x: Tensor, random: Generator) -> Tensor:
    """The activation itself, blurred by half a place up to half its side; zero lies beyond its border."""
    sigma = 0.5 + float(torch.rand((), generator=random)) * (max(x.shape[-2:]) - 1) / 2
    down, across = (torch.from_numpy(blur_matrix(sigma, side)).to(x) for side in x.shape[-2:])
    return down @ x @ across.mT


#: The arms of the bandit: how a baseline is drawn for an activation x [C, h, w].
FAMILIES: tuple[Callable[[Tensor, Generator], Tensor], ...] = (_normal, _uniform, _blurred, _constant)


@dataclass(frozen=True)
class Bee:
    """BEE (Barkan et al., AAAI 2025): the best of many path integrals, each from a baseline drawn at random.

    Each of `draws` times a family of baselines is chosen by Thompson sampling: weights w_z are drawn from N(m_z, 1/q_z)
    and the largest wins. A baseline b is drawn from that family (normal, uniform, blurred, constant), and each layer's
    map is psi of (x - b) o the integral of dy/dr along r(t) = b + t (x - b). The objective judges the maps. The draw is
    rewarded (+1, else -1) with a probability that is its rank among the draws so far, and its family's posterior is
    updated by logistic regression with Laplace's approximation: m the minimum of q (w - m)^2 / 2 + ln(1 + exp(-reward
    w)), q + p (1 - p) with p = 1 / (1 + exp(-w)). The map that the objective likes best is the explanation.

    The paper learns priors before, on training images, from features of each image that a network learns with them,
    and has a fifth family, training images. A method of this suite sees one image and no others: here priors are N(0,
    1) and the only feature is 1, which is the paper's fine-tuning alone. The objective is near one of the suite's
    metrics, on purpose: such a metric is won by construction. Comparisons decide, so that maps that are equally good up
    to rounding may change places in another batch.

    objective: "insertion", the mean probability of the class while the least relevant 10 ... 90 % of the pixels are
    black; "deletion", the most relevant ones, with the opposite sign; "drop", the share of the probability that is lost
    where the map, scaled to [0, 1], multiplies the pixels, with the opposite sign. draws: T; each costs `depth` times
    9 F (1 F for "drop") and 2 N times the networks behind its layers. depth: 1 to 3 of the layers L, L-1, L-2.
    steps: N.
    """

    version: ClassVar[int] = 1
    objective: Objective = "insertion"
    draws: int = 8
    depth: int = 2
    steps: int = 10
    label: str = "BEE (INS)"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if self.draws < 1:
            raise ValueError(f"draws: expected an integer of at least 1, got {self.draws}")
        quadrature("right", self.steps)
        if self.depth not in (1, 2, 3):
            raise ValueError(f"depth: expected 1, 2 or 3 layers, got {self.depth}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if classifier.kind == "vit":
            return "baselines are drawn for feature maps, and this network is explained by its attention"
        return next(filter(None, (missing_layer(classifier, layer) for layer in DEPTHS[: self.depth])), "")

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] signed maps."""
        bandits = [_Bandit() for _ in passes.ids]
        best = torch.zeros_like(passes.images[:, 0])
        record = best.new_full((len(best),), -torch.inf)
        for draw in range(self.draws):
            arms = [bandit.choose(passes.generator(i, f"bee arm {draw}")) for i, bandit in enumerate(bandits)]
            found = best.new_full((len(best),), -torch.inf)
            for layer in DEPTHS[: self.depth]:
                maps = self._maps(passes, layer, arms, draw)
                values = self._judged(passes, maps)
                best = torch.where((values > record).view(-1, 1, 1), maps, best)
                record, found = torch.maximum(record, values), torch.maximum(found, values)
            for i, (bandit, arm, value) in enumerate(zip(bandits, arms, found.tolist(), strict=True)):
                bandit.learn(arm, value, passes.generator(i, f"bee reward {draw}"))
        return best

    def _judged(self, passes: Passes, maps: Tensor) -> Tensor:
        return halving(lambda chunk: OBJECTIVES[self.objective](passes, maps, chunk), passes.chunk)

    def _maps(self, passes: Passes, layer: str, arms: list[int], draw: int) -> Tensor:
        """[B, S, S] the maps of a layer from baselines of the chosen families."""
        x = passes.activation(layer)
        drawn = [FAMILIES[arm](x[i], passes.generator(i, f"bee {layer} {draw}")) for i, arm in enumerate(arms)]
        h, sums = LayerSums(layer, PathIntegral(self.steps)).between(passes, torch.stack(drawn))
        return resize((h * sums["gradient"]).mean(dim=1), passes.size)


class _Bandit:
    """What one image's draws have taught about the families so far."""

    def __init__(self) -> None:
        self.means = [0.0] * len(FAMILIES)
        self.precisions = [1.0] * len(FAMILIES)
        self.values: list[float] = []

    def choose(self, random: Generator) -> int:
        """The family whose weight, drawn from its posterior, is largest."""
        noise = torch.randn(len(FAMILIES), generator=random, dtype=torch.float64).tolist()
        drawn = [m + n / q**0.5 for m, n, q in zip(self.means, noise, self.precisions, strict=True)]
        return drawn.index(max(drawn))

    def learn(self, arm: int, value: float, random: Generator) -> None:
        """Reward the family by the rank of what came of it, and update its posterior."""
        rank = sum(value > other for other in self.values) / len(self.values) if self.values else 1.0
        self.values.append(value)
        reward = 1.0 if float(torch.rand((), generator=random)) < rank else -1.0
        self.means[arm], self.precisions[arm] = updated(self.means[arm], self.precisions[arm], reward)


def updated(mean: float, precision: float, reward: float) -> tuple[float, float]:
    """Mean and precision of a weight's posterior after one reward of +1 or -1."""
    w = mean
    for _ in range(_NEWTON):
        p = _sigmoid(w)
        slope = precision * (w - mean) - reward * _sigmoid(-reward * w)
        w -= slope / (precision + p * (1 - p))
    p = _sigmoid(w)
    return w, precision + p * (1 - p)


def _sigmoid(w: float) -> float:
    return (1 + tanh(w / 2)) / 2


def _hiding(passes: Passes, order: Tensor, chunk: int) -> Tensor:
    """[B] the mean probability while the first 10 ... 90 % of the pixels in an order [B, S S] are black."""
    place = order.argsort(dim=1).view(len(order), *passes.size)
    counts = torch.tensor([round(share * order.shape[1]) for share in HIDDEN], device=order.device)
    total = passes.images.new_zeros(len(order))
    for part in rows(len(HIDDEN), len(order), chunk, order.device):
        shown = (place[part.images] >= counts[part.points].view(-1, 1, 1, 1))[:, :, None]
        total[part.images] += _probability(passes, passes.images[part.images] * shown, part.image_of_row).sum(dim=0)
    return total / len(HIDDEN)


@torch.no_grad()
def _probability(passes: Passes, images: Tensor, image_of_row: Tensor) -> Tensor:
    """[p, b] of images [p, b, 3, S, S]."""
    logits = passes.classifier.logits(images.flatten(0, 1))
    return passes.score(logits, image_of_row, "probability").view(images.shape[:2])


def _drop(passes: Passes, maps: Tensor, chunk: int) -> Tensor:
    """[B] minus the share of the probability that is lost."""
    whole = passes.score(passes.logits, kind="probability")
    masked = passes.images * min_max(maps)[:, None]
    left = torch.empty_like(whole)
    for part in rows(1, len(maps), chunk, maps.device):
        left[part.images] = _probability(passes, masked[part.images][None], part.image_of_row)[0]
    return -(whole - left).clamp(min=0) / whole.clamp(min=torch.finfo(whole.dtype).tiny)


#: What judges maps [B, S, S], larger is better. Of equal pixels the first is hidden first.
OBJECTIVES: Mapping[Objective, Callable[[Passes, Tensor, int], Tensor]] = {
    "insertion": lambda passes, maps, chunk: _hiding(passes, maps.flatten(1).argsort(dim=1, stable=True), chunk),
    "deletion": lambda passes, maps, chunk: (
        -_hiding(passes, maps.flatten(1).argsort(dim=1, stable=True, descending=True), chunk)
    ),
    "drop": _drop,
}
