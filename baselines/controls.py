"""Maps that explain nothing: the rows that every table needs to be read (a metric that a control wins is gamed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dix.classifier import Classifier
from dix.explainer import CONTROL
from dix.passes import Passes

#: Weights of red, green and blue in the luma Y' of ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)


class _Control:
    """A map that does not look at the network, so every network will do."""

    role: ClassVar[str] = CONTROL

    def unsupported(self, classifier: Classifier) -> str:
        """Always "": a control works with every classifier."""
        return ""


@dataclass(frozen=True)
class Random(_Control):
    """Uniform noise, each image's drawn from its id: the same map in every batch, shard and run."""

    version: ClassVar[int] = 1
    label: str = "Random"
    extra: bool = True

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] independent numbers in [0, 1)."""
        return passes.noise(passes.size, "random map")


@dataclass(frozen=True)
class Ones(_Control):
    """All pixels alike: keeps the whole picture where a metric multiplies by the map, and ties everywhere else."""

    version: ClassVar[int] = 1
    label: str = "Ones"
    extra: bool = True

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] ones."""
        return torch.ones_like(passes.images[:, 0])


@dataclass(frozen=True)
class CenterGaussian(_Control):
    """A blob in the middle, where photographers put the object.

    sigma: standard deviation as a fraction of the image's height and of its width.
    """

    version: ClassVar[int] = 1
    sigma: float = 0.25
    label: str = "Center"
    extra: bool = True

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma: expected a positive fraction of the image's side, got {self.sigma}")

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] exp(-(u^2 + v^2) / (2 sigma^2)), u and v the offsets from the centre in image sides."""
        height, width = (self._falloff(n, passes.images) for n in passes.size)
        return (height[:, None] * width[None, :]).expand(len(passes.images), -1, -1).clone()

    def _falloff(self, side: int, like: Tensor) -> Tensor:
        offset = (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side - 0.5
        return torch.exp(-offset.square() / (2 * self.sigma**2))


@dataclass(frozen=True)
class Edges(_Control):
    """Sobel's gradient magnitude of the grey image: what an edge detector without any network shows."""

    version: ClassVar[int] = 1
    label: str = "Edges"
    extra: bool = True

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] sqrt(Gx^2 + Gy^2) of the luma, the border pixels repeated outwards."""
        grey = (passes.images * passes.images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        across = grey.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.stack([across, across.T])[:, None])
        return torch.linalg.vector_norm(slopes, dim=1)
