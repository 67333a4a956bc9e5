"""What the authors' published code computes under the name of DIX, which is not what the thesis's equations say.

A method of its own, apart from the thesis's, so that both can be measured. For a layer's activation x [C, h, w]:

- z is the minimum over channels at each place (the thesis: over places in each channel), N = 4.
- phi(r, g) = ReLU(r) ReLU(g), and step n has the weight n; h is one number, |x - z| / N^2 with the Frobenius norm.
- The last layer's baseline is the activation itself, so nothing is integrated there: m^L = (N + 1) ReLU(g) ReLU(x), or
  (N + 1) ReLU(g x) where it is the only layer.
- The layers' tensors are resampled over channels, height and width to one shape and then multiplied (the thesis: maps
  are averaged): DIX2 = m^L (1 + m^{L-1}), DIX3 = (m^L)^2 (1 + m^{L-1} m^{L-2}), summed over channels at last.
- ViT (only DIX2 exists): t A_L with the *last* block's attention A_L is injected at block L and at block L - 1, for
  t = 0, 0.1, ..., 1; E is the mean over the 11 points, and the two gradient rollouts are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dix.attention import attention_runs
from dix.classifier import Classifier
from dix.explainer import DEPTHS, PROPOSED, Rollout, gradient_at, gradient_weighted
from dix.maps import min_max, resize
from dix.models.densenet import NamedReluDenseNet
from dix.models.families import VGG, ConvNeXt
from dix.passes import Passes, halving, rows

CHANNELS = 1024  #: to which the published code resamples every layer's channels
SIDE = 14  #: of the last layer's resampled maps where it is alone; twice as much with other layers
CNN_STEPS = 4
VIT_STEPS = 10


@dataclass(frozen=True)
class WeightedSum:
    """The published code's tensor [B, C, h, w] of a layer before the last: |x - z| / N^2 sum of n ReLU(r) ReLU(g)."""

    layer: str
    steps: int = CNN_STEPS

    def compute(self, passes: Passes) -> Tensor:
        """Walk the path; its last point is the activation, whose gradient the clean pass has."""
        x = passes.activation(self.layer)
        h = x - x.amin(dim=1, keepdim=True)
        length = h.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        last = self.steps * x.relu() * passes.gradient(self.layer).relu()
        before = halving(lambda chunk: self._before(passes, x, h, chunk), passes.chunk)
        return length / self.steps**2 * (before + last)

    def _before(self, passes: Passes, x: Tensor, h: Tensor, chunk: int) -> Tensor:
        total = torch.zeros_like(x)
        numbers = torch.arange(1, self.steps).to(x)
        for part in rows(len(numbers), len(x), chunk, x.device):
            n = part.spread(numbers)
            r = x[part.images] + (n / self.steps - 1) * h[part.images]
            total[part.images] += (n * r.relu() * gradient_at(passes, self.layer, r, part).relu()).sum(dim=0)
        return total


@dataclass(frozen=True)
class InjectedRollout:
    """The published code's rollout [B, h, w] with the last block's attention injected at block `block`."""

    block: int
    steps: int = VIT_STEPS

    def compute(self, passes: Passes) -> Tensor:
        """Mean of E over t = 0, 1/N, ..., 1 and one rollout."""
        return Rollout().patches(passes, halving(lambda chunk: self._mean(passes, chunk), passes.chunk))

    def _mean(self, passes: Passes, chunk: int) -> Tensor:
        times = torch.linspace(0, 1, self.steps + 1).to(passes.images)
        source = len(passes.classifier.attention_layers) - 1
        total: Tensor | None = None
        for _, images, run in attention_runs(passes, self.block, times, chunk, source=source):
            e = gradient_weighted(passes.classifier, run) / len(times)
            total = e.new_zeros(len(passes.ids), *e.shape[1:]) if total is None else total
            total[images] += e
        assert total is not None
        return total


@dataclass(frozen=True)
class Released:
    """DIX as the authors' published code has it: see the module's text.

    A map that is zero everywhere is returned as zeros, where the published code divides zero by zero.

    depth: 1 to 3 layers. label, extra: as for every explainer.
    """

    version: ClassVar[int] = 1
    role: ClassVar[str] = PROPOSED
    depth: int = 2
    label: str = "DIX2-rel"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.depth not in (1, 2, 3):
            raise ValueError(f"depth: expected 1, 2 or 3 layers, got {self.depth}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why the published code has nothing for this classifier, or ""."""
        if classifier.attention and classifier.attention.places:
            return "the published code puts the last block's attention into the block before, which sees other tokens"
        if classifier.kind == "vit":
            return "" if self.depth == 2 else "the published code has DIX2 only for Vision Transformers"
        missing = [alias for alias in DEPTHS[: self.depth] if alias not in classifier.layers]
        if missing:
            return f"the model names no layer {', '.join(missing)}"
        return _unlike_published(classifier, self.depth)

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps in [0, 1] at the images' resolution."""
        if passes.classifier.kind == "vit":
            return min_max(resize(self._vit(passes), passes.size, "bilinear"))
        return min_max(resize(self._cnn(passes), passes.size, "bicubic"))

    def _cnn(self, passes: Passes) -> Tensor:
        x, g = passes.activation("last"), passes.gradient("last")
        if self.depth == 1:
            return _resampled((CNN_STEPS + 1) * (g * x).relu(), SIDE).sum(dim=1)
        last = _resampled((CNN_STEPS + 1) * g.relu() * x.relu(), 2 * SIDE)
        earlier = [_resampled(passes.get(WeightedSum(layer)), 2 * SIDE) for layer in DEPTHS[1 : self.depth]]
        return (last ** (self.depth - 1) * (1 + torch.stack(earlier).prod(dim=0))).sum(dim=1)

    def _vit(self, passes: Passes) -> Tensor:
        last = len(passes.classifier.attention_layers) - 1
        return sum(
            (passes.get(InjectedRollout(last - i)) for i in range(self.depth)), torch.zeros(()).to(passes.images)
        )


def _resampled(values: Tensor, side: int) -> Tensor:
    """[B, CHANNELS, side, side] of values [B, C, h, w], linear along all three axes."""
    return F.interpolate(values[:, None], size=(CHANNELS, side, side), mode="trilinear", align_corners=False)[:, 0]


def _unlike_published(classifier: Classifier, depth: int) -> str:
    """Why the published code would explain another network than this one, or ""."""
    network = classifier.network
    if isinstance(network, NamedReluDenseNet):
        return "the published code skips a DenseNet's last normalisation, and so explains another network"
    if isinstance(network, ConvNeXt):
        return "the published code adds a ReLU to ConvNeXt, and so explains another network"
    if isinstance(network, VGG) and depth > 1:
        return "the published code has no earlier layers for VGG"
    if not _is_rectified(classifier):
        return "the published code puts a ReLU behind the last layer, and this model has none there"
    return ""


def _is_rectified(classifier: Classifier) -> bool:
    """True where the last layer returns nothing negative, so that a ReLU behind it changes nothing."""
    pixels = torch.linspace(0, 1, 3 * classifier.input_size**2).view(1, 3, classifier.input_size, -1)
    with torch.no_grad():
        activation, _ = classifier.tail("last").record(classifier.normalise(pixels.to(classifier.mean)))
    return bool((activation >= 0).all())
