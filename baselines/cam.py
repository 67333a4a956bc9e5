"""Class activation maps from one forward and one backward pass: Grad-CAM and the methods that weight alike.

Each takes the activation A [B, C, h, w] of a layer and the gradient g of the target's logit by it. Maps have the
layer's resolution. A Vision Transformer's patch tokens are laid out as the grid they come from, their features as
channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dix.classifier import Classifier
from dix.passes import Passes


def grid(passes: Passes, values: Tensor) -> Tensor:
    """[B, C, h, w] of a layer's values: those of a CNN as they are, tokens [B, T, C] without their prefix."""
    if values.ndim == 4:
        return values
    patches = values[:, passes.classifier.prefix_tokens :]
    height, width = passes.size
    rows = int(height * (patches.shape[1] / (height * width)) ** 0.5 + 0.5)
    return patches.transpose(1, 2).unflatten(2, (rows, -1))


def missing_layer(classifier: Classifier, layer: str) -> str:
    """Why `layer`, an alias or a module's name, cannot be used: the model has none such; "" if it has."""
    if layer in classifier.layers or layer in dict(classifier.network.named_modules()):
        return ""
    return f"the model names no layer {layer}"


def weighted(weights: Tensor, activation: Tensor) -> Tensor:
    """[B, h, w] ReLU of the sum over channels of weights [B, C] times activations [B, C, h, w]."""
    return (weights[:, :, None, None] * activation).sum(dim=1).relu()


@dataclass(frozen=True)
class _Cam:
    """A map of one layer. layer: an alias of the model's, or a module's name."""

    layer: str = "last"
    label: str = ""
    extra: bool = False

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return missing_layer(classifier, self.layer)

    def _evidence(self, passes: Passes) -> tuple[Tensor, Tensor]:
        """A and g [B, C, h, w]."""
        return grid(passes, passes.activation(self.layer)), grid(passes, passes.gradient(self.layer))


@dataclass(frozen=True)
class GradCam(_Cam):
    """Grad-CAM (Selvaraju et al. 2017, Eq. 1 and 2): channels weighted by their mean gradient."""

    version: ClassVar[int] = 1
    label: str = "GC"

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c w_c A_c), w_c = mean over pixels of g."""
        a, g = self._evidence(passes)
        return weighted(g.mean(dim=(2, 3)), a)


@dataclass(frozen=True)
class GradCamPP(_Cam):
    """Grad-CAM++ (Chattopadhay et al. 2018, Eq. 19): a weighted mean of the positive gradients.

    The paper differentiates exp(logit); that multiplies all weights of an image by one positive number, left out here.
    Eq. 19's ratio is g^2 / (2 g^2 + g^3 sum A); where g is zero the positive gradient, and so the term, is zero.

    eps: added to the ratio's denominator. The paper has none; pytorch-grad-cam adds 1e-6, as large as g^2 itself in
    many networks. At zero the ratio is computed as 1 / (2 + g sum A), which cannot underflow.
    """

    version: ClassVar[int] = 1
    eps: float = 0.0
    label: str = "GC++"

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c w_c A_c), w_c = sum over pixels of alpha ReLU(g)."""
        a, g = self._evidence(passes)
        return weighted((self._alpha(a, g) * g.relu()).sum(dim=(2, 3)), a)

    def _alpha(self, a: Tensor, g: Tensor) -> Tensor:
        total = a.sum(dim=(2, 3), keepdim=True)
        if self.eps:
            return g**2 / (2 * g**2 + total * g**3 + self.eps)
        denominator = 2 + g * total
        return 1 / denominator.where(denominator != 0, 1)


@dataclass(frozen=True)
class XGradCam(_Cam):
    """XGrad-CAM (Fu et al. 2020): gradients weighted by each pixel's share of its channel's activation."""

    version: ClassVar[int] = 1
    label: str = "XGC"

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c w_c A_c), w_c = sum(g A_c) / sum(A_c); 0 for a channel whose sum is 0."""
        a, g = self._evidence(passes)
        total = a.sum(dim=(2, 3))
        weights = (g * a).sum(dim=(2, 3)) / total.where(total != 0, 1)
        return weighted(weights.where(total != 0, 0), a)


@dataclass(frozen=True)
class LayerCam(_Cam):
    """LayerCAM (Jiang et al. 2021): every pixel of every channel weighted by its own positive gradient."""

    version: ClassVar[int] = 1
    label: str = "LC"

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c ReLU(g) A_c)."""
        a, g = self._evidence(passes)
        return (g.relu() * a).sum(dim=1).relu()


@dataclass(frozen=True)
class HiResCam(_Cam):
    """HiResCAM (Draelos & Carin 2020): gradient times activation, summed over channels; signed."""

    version: ClassVar[int] = 1
    label: str = "HiResCAM"
    extra: bool = True

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] sum_c g A_c."""
        a, g = self._evidence(passes)
        return (g * a).sum(dim=1)
