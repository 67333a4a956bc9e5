"""Class activation maps beyond the thesis's tables that users of such a suite expect: Eigen-CAM and Score-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dix.baselines.cam import grid, missing_layer, weighted
from dix.classifier import Classifier
from dix.maps import min_max, resize
from dix.passes import Passes, halving, rows

#: Shares below which two numbers count as equal when a map is oriented: far above the rounding of single precision
#: (a sum over 3,136 pixels is exact to 2e-4 of the sum of magnitudes at worst), far below any difference that is seen.
MARGIN = 1e-3


@dataclass(frozen=True)
class EigenCam:
    """Eigen-CAM (Muhammad & Yeasin 2020): the activation projected on its first right singular vector.

    The same for every class. A singular vector's sign is arbitrary; `oriented` chooses it.

    centre: subtract each channel's mean first, as pytorch-grad-cam does, so that the vector is the first principal
    component. The map's sum is nil then, so that its strongest location is the positive one.
    """

    version: ClassVar[int] = 2
    layer: str = "last"
    centre: bool = False
    label: str = "Eigen-CAM"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return missing_layer(classifier, self.layer)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] A v, v [C] the first right singular vector of the activation as a matrix [h w, C]."""
        activation = grid(passes, passes.activation(self.layer))
        matrix = activation.flatten(2).transpose(1, 2)
        if self.centre:
            matrix = matrix - matrix.mean(dim=1, keepdim=True)
        left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
        return oriented(left[..., 0] * values[:, :1]).view_as(activation[:, 0])


def oriented(maps: Tensor) -> Tensor:
    """Maps [B, N], each known up to its sign, with the sign that rounding cannot turn.

    The sum is positive. Where it is nil, that is below MARGIN of the sum of magnitudes, the location of the largest
    magnitude is positive instead; of several that are equal within MARGIN, the first.
    """
    size = maps.abs()
    total = maps.sum(dim=1, keepdim=True)
    first = (size >= (1 - MARGIN) * size.amax(dim=1, keepdim=True)).int().argmax(dim=1, keepdim=True)
    nil = total.abs() <= MARGIN * size.sum(dim=1, keepdim=True)
    return torch.where(torch.where(nil, maps.gather(1, first), total) < 0, -maps, maps)


@dataclass(frozen=True)
class ScoreCam:
    """Score-CAM (Wang et al. 2020): channels weighted by the score of the image seen through them.

    Each channel, enlarged to the image and scaled to [0, 1], multiplies the normalised image, so what it hides becomes
    the mean colour. Weights are the softmax over channels of the target's logit; the paper's subtraction of a baseline
    image's logit drops out of it. One forward pass of the whole network for every channel.
    """

    version: ClassVar[int] = 1
    layer: str = "last"
    label: str = "Score-CAM"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return missing_layer(classifier, self.layer)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] ReLU(sum_c w_c A_c)."""
        activation = grid(passes, passes.activation(self.layer))
        scores = halving(lambda chunk: self._scores(passes, activation, chunk), passes.chunk)
        return weighted(scores.softmax(dim=1), activation)

    @torch.no_grad()
    def _scores(self, passes: Passes, activation: Tensor, chunk: int) -> Tensor:
        """[B, C] the target's logit of the image seen through each channel."""
        images = passes.classifier.normalise(passes.images)
        scores = activation.new_empty(activation.shape[:2])
        for part in rows(activation.shape[1], len(activation), chunk, activation.device):
            channels = activation[part.images][:, part.points].transpose(0, 1).flatten(0, 1)
            masks = min_max(resize(channels, passes.size))
            logits = passes.classifier.network(images[part.image_of_row] * masks[:, None])
            found = passes.score(logits, part.image_of_row).view(len(part.points), -1)
            scores[part.images[:, None], part.points] = found.T
        return scores
