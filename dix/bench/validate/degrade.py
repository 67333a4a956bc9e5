"""Explainers made worse in known steps: each ladder begins with the method itself and ends where nothing of it is left.

A ladder's order is known by construction, not measured: a map that is mixed with more noise, turned further away from
the picture, mixed with more of the map of the least probable class, or taken from a network of which more layers are
random, says less about the network, the picture and the class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dix.bench.sanity.randomise import Randomiser, weight_layers
from dix.classifier import Classifier
from dix.explainer import CONTROL, Explainer
from dix.maps import by_maximum, resize
from dix.passes import Passes


class Rung(Protocol):
    """One step of a ladder, a frozen dataclass."""

    def maps(self, base: Explainer, passes: Passes) -> Tensor:
        """[B, H, W] the method's maps at the images' resolution, made worse."""
        ...


def whole(base: Explainer, passes: Passes) -> Tensor:
    """[B, H, W] the method's own maps, each divided by its maximum, so that 0 stays 0."""
    return by_maximum(resize(base.explain(passes), passes.size))


@dataclass(frozen=True)
class Noise:
    """Mixed with uniform noise, drawn by image. share: of the noise, in [0, 1]."""

    version: ClassVar[int] = 1
    share: float = 0.0

    def maps(self, base: Explainer, passes: Passes) -> Tensor:
        """(1 - share) times the map, plus share times the noise."""
        return torch.lerp(whole(base, passes), passes.noise(passes.size, "degraded"), self.share)


@dataclass(frozen=True)
class Turned:
    """Turned about the middle of the picture; what comes from outside repeats the border. degrees: counterclockwise."""

    version: ClassVar[int] = 1
    degrees: float = 0.0

    def maps(self, base: Explainer, passes: Passes) -> Tensor:
        """The turned map, bilinear."""
        maps = whole(base, passes)
        angle = math.radians(self.degrees)
        turn = maps.new_tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
        field = F.affine_grid(turn.expand(len(maps), 2, 3), [len(maps), 1, *passes.size], align_corners=False)
        return F.grid_sample(maps[:, None], field, padding_mode="border", align_corners=False)[:, 0]


@dataclass(frozen=True)
class OtherClass:
    """Mixed with the map of the least probable class. share: of that map, in [0, 1]."""

    version: ClassVar[int] = 1
    share: float = 0.0

    def maps(self, base: Explainer, passes: Passes) -> Tensor:
        """(1 - share) times the map, plus share times the other one."""
        least = passes.logits.scatter(1, passes.targets[:, None], torch.inf).argmin(dim=1)
        other = Passes(passes.classifier, passes.images, least, ids=passes.ids, chunk=passes.chunk, seed=passes.seed)
        return torch.lerp(whole(base, passes), whole(base, other), self.share)


@dataclass(frozen=True)
class Randomised:
    """Of a copy of the network whose last weight layers are random. share: of the layers, output first, in [0, 1]."""

    version: ClassVar[int] = 1
    share: float = 0.0

    def maps(self, base: Explainer, passes: Passes) -> Tensor:
        """The map of the copy, for the class that the network itself predicts."""
        network = passes.get(_Copy(self.share, passes.seed))
        again = Passes(network, passes.images, passes.targets, ids=passes.ids, chunk=passes.chunk, seed=passes.seed)
        return whole(base, again)


@dataclass(frozen=True)
class _Copy:
    """The network with a share of its layers random; made once a batch for all methods."""

    share: float
    seed: int

    def compute(self, passes: Passes) -> Classifier:
        layers = weight_layers(passes.classifier)
        return Randomiser(passes.classifier, self.seed).at(layers[: max(1, round(self.share * len(layers)))])


#: By name, the steps of each ladder from the method itself (which all begin with) to the worst.
LADDERS: Mapping[str, tuple[Rung, ...]] = {
    "noise": (Noise(0.25), Noise(0.5), Noise(0.75), Noise(1.0)),
    "turned": (Turned(45.0), Turned(90.0), Turned(135.0), Turned(180.0)),
    "class": (OtherClass(0.5), OtherClass(1.0)),
    "layers": (Randomised(0.1), Randomised(0.5), Randomised(1.0)),
}
#: The method itself, scaled as the others are.
ITSELF = Noise(0.0)
#: Between a method's name and its step in the names of degraded methods.
MARK = "~"


@dataclass(frozen=True)
class Degraded:
    """A method made worse by one step."""

    version: ClassVar[int] = 1
    role: ClassVar[str] = CONTROL
    base: Explainer
    rung: Rung
    label: str = ""
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """As the method."""
        return self.base.unsupported(classifier)

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] the worsened maps."""
        return self.rung.maps(self.base, passes)


def step(base: str, ladder: str, number: int) -> str:
    """The name of a step: 0 is the method itself, whatever the ladder."""
    return f"{base}{MARK}0" if number == 0 else f"{base}{MARK}{ladder}{number}"


def degraded(methods: Mapping[str, Explainer]) -> dict[str, Explainer]:
    """Every step of every ladder for each method, by the names that `step` gives."""
    found: dict[str, Explainer] = {}
    for name, method in methods.items():
        found[step(name, "", 0)] = Degraded(method, ITSELF, step(method.label, "", 0))
        for ladder, rungs in LADDERS.items():
            for number, rung in enumerate(rungs, 1):
                found[step(name, ladder, number)] = Degraded(method, rung, step(method.label, ladder, number))
    return found
