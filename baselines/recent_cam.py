"""Class activation maps of 2025 and 2026: Finer-CAM, ShapleyCAM and RefineCAM.

As in `dix.baselines.cam`, A [B, C, h, w] is what a layer returns, y [K] are the logits, c is the explained class. The
first two differentiate a score of their own, through the part of the network behind the layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dix.baselines.cam import GradCamPP, grid, missing_layer, weighted
from dix.classifier import Classifier
from dix.explainer import DEPTHS
from dix.maps import min_max, resize
from dix.passes import Passes
from dix.probability import Probability

Shares = Literal["equal", "probability"]
Utility = Literal["rest", "logit"]

#: ln p of logits [B, K], without a detour through a p that may be too small for a number.
_LOG: Mapping[Probability, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.log_softmax(dim=1),
    "sigmoid": F.logsigmoid,
}


def _behind(passes: Passes, layer: str) -> tuple[Tensor, Tensor]:
    """A as a leaf, and the logits [B, K] that the network makes of it, which can be differentiated twice."""
    leaf = passes.activation(layer).requires_grad_()
    # Of the kernels for scaled dot products, only the plain one has a second derivative.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        return leaf, passes.classifier.tail(layer).logits(leaf, passes.context(layer))


@dataclass(frozen=True)
class FinerCam:
    """Finer-CAM (Zhang et al., CVPR 2025, Sec. 3.2): Grad-CAM of what tells a class from those most like it.

    The differentiated score is the mean of y_c - gamma y_d over the classes d that are most like c: those whose logits
    are nearest to y_c, above or below it. At gamma = 0 this is Grad-CAM. Costs as much as Grad-CAM (2 F), and once more
    the part of the network behind the layer.

    similar: the number of classes d; all others where there are fewer. gamma: the strength of the comparison; the
    authors' script takes 0.6 and 3 classes. shares: how the classes count, "equal" or by their "probability", as in
    pytorch-grad-cam and the authors' later code; these shares are then differentiated, too.
    """

    version: ClassVar[int] = 1
    layer: str = "last"
    similar: int = 3
    gamma: float = 0.6
    shares: Shares = "equal"
    label: str = "Finer-CAM"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.similar < 1:
            raise ValueError(f"similar: expected an integer of at least 1, got {self.similar}")
        if self.shares not in ("equal", "probability"):
            raise ValueError(f"shares: expected equal or probability, got {self.shares!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return missing_layer(classifier, self.layer)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_k w_k A_k), w_k = mean over pixels of the gradient of the difference."""
        leaf, logits = _behind(passes, self.layer)
        with torch.enable_grad():
            total = self._difference(passes, logits).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
        return weighted(grid(passes, gradient).mean(dim=(2, 3)), grid(passes, leaf.detach()))

    def _difference(self, passes: Passes, logits: Tensor) -> Tensor:
        """[B] the score."""
        like = nearest(passes.logits, passes.targets, self.similar)
        difference = passes.score(logits)[:, None] - self.gamma * logits.gather(1, like)
        if self.shares == "equal":
            return difference.mean(dim=1)
        shares = passes.classifier.probabilities(logits).gather(1, like)
        return (shares * difference).sum(dim=1) / shares.sum(dim=1)


def nearest(logits: Tensor, targets: Tensor, count: int) -> Tensor:
    """[B, count] outputs whose logits are nearest to that of the target, nearest first; of equals the first output."""
    own = targets[:, None]
    distance = (logits - logits.gather(1, own)).abs().scatter(1, own, torch.inf)
    return distance.argsort(dim=1, stable=True)[:, : min(count, logits.shape[1] - 1)]


@dataclass(frozen=True)
class ShapleyCam:
    """ShapleyCAM (Cai 2025): channels weighted by their Shapley values, up to second order.

    Every value of A is a player in a game that pays U(A). With the second-order Taylor expansion of U a player's
    Shapley value is A times g - H A / 2, g the gradient and H the Hessian of U at A; a channel's weight is the mean of
    that factor over its pixels. Where H is zero this is Grad-CAM: with the logit for U, all networks that are piecewise
    linear behind the layer. Costs 2 F, and three times the part of the network behind the layer.

    utility: U. "rest" is the paper's residual softmax target-class utility y_c + ln p_c; "logit" is y_c.
    """

    version: ClassVar[int] = 1
    layer: str = "last"
    utility: Utility = "rest"
    label: str = "ShapleyCAM"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.utility not in ("rest", "logit"):
            raise ValueError(f"utility: expected rest or logit, got {self.utility!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return missing_layer(classifier, self.layer)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_k w_k A_k), w_k = mean over pixels of g - H A / 2."""
        leaf, logits = _behind(passes, self.layer)
        with torch.enable_grad():
            gradient = torch.autograd.grad(self._utility(passes, logits).sum(), leaf, create_graph=True)[0]
        factor = gradient.detach() - _curvature(gradient, leaf) / 2
        return weighted(grid(passes, factor).mean(dim=(2, 3)), grid(passes, leaf.detach()))

    def _utility(self, passes: Passes, logits: Tensor) -> Tensor:
        """[B] U."""
        own = passes.score(logits)
        return own if self.utility == "logit" else own + passes.score(_LOG[passes.classifier.probability](logits))


def _curvature(gradient: Tensor, leaf: Tensor) -> Tensor:
    """[B, ...] H A: the derivative of the gradient in the direction of the leaf itself."""
    if not gradient.requires_grad:
        return torch.zeros_like(leaf)
    found = torch.autograd.grad(gradient, leaf, leaf.detach(), allow_unused=True)[0]
    return torch.zeros_like(leaf) if found is None else found


@dataclass(frozen=True)
class RefineCam:
    """RefineCAM ("How to Evaluate and Refine your CAM", 2026): the product of several layers' Grad-CAM++ maps.

    Each layer's map is enlarged to the image and scaled to [0, 1]; what one layer does not show is dark in the product.
    So the last layer says where the object is and earlier ones where its edges are. It is DIX's nearest kin among
    class activation maps: the same layers, gradients at one point instead of integrals, a product instead of a mean.
    All layers are seen in one forward and one backward pass: 2 F.

    depth: 1 to 3 of the layers L, L-1, L-2. eps: as in GradCamPP; that of pytorch-grad-cam, in which the method was
    published, and not 0: where activations are signed, as between the blocks of a MobileNet, Grad-CAM++'s own ratio has
    denominators of either sign near zero, and its maps are noise.
    """

    version: ClassVar[int] = 1
    depth: int = 3
    eps: float = 1e-6
    label: str = "RefineCAM"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.depth not in (1, 2, 3):
            raise ValueError(f"depth: expected 1, 2 or 3 layers, got {self.depth}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return next(filter(None, (missing_layer(classifier, layer) for layer in DEPTHS[: self.depth])), "")

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] the product of the layers' maps."""
        maps = [GradCamPP(layer, eps=self.eps).explain(passes) for layer in DEPTHS[: self.depth]]
        return torch.stack([min_max(resize(m, passes.size)) for m in maps]).prod(dim=0)
