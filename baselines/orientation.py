"""Does a map lie over the image as the image lies? A bright patch is moved over it, and the map's change is followed.

Random weights are enough: no map of theirs means anything, but what a patch changes in it must be where the patch is. A
transposed grid, or windows in a wrong order, cannot follow in both axes by chance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dix.baselines.cam import GradCam, grid
from dix.classifier import Classifier
from dix.explainer import Dix, Explainer, PathIntegral
from dix.look import SPOT, SPOTS, follows
from dix.passes import Passes

#: Least correlation of the patch's position with that of the change, in both axes, centre and peak.
RIGHT = 0.9
#: The maps that are followed besides the layer's activation; one step is the clean run's gradient.
METHODS: dict[str, Explainer] = {"Grad-CAM": GradCam(), "DIX1": Dix(depth=1, path=PathIntegral(steps=1))}


def patches(size: int) -> Tensor:
    """[1 + positions, 3, size, size] a dim seeded image in [0, 1], and copies of it with one bright patch each."""
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(1))
    image = 0.4 * torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")[0]
    images = image.repeat(1 + len(SPOTS), 1, 1, 1)
    side = max(1, round(SPOT * size))
    for copy, (y, x) in zip(images[1:], SPOTS, strict=True):
        top, left = round(y * size - side / 2), round(x * size - side / 2)
        copy[:, top : top + side, left : left + side] = 1.0
    return images


def orientation(classifier: Classifier, layer: str = "last") -> dict[str, float]:
    """By what is followed, the least correlation of both axes: the layer's activation as [B, C, h, w], and maps.

    One class is explained for all images, that of the image without the patch. Left out are methods that cannot explain
    the classifier, and maps that the patch does not change at all.
    """
    images = patches(classifier.input_size).to(classifier.mean)
    target = classifier.logits(images[:1]).argmax(dim=1)
    passes = Passes(classifier, images, target.expand(len(images)))
    activation = grid(passes, passes.activation(layer))
    found = {"layer": follows((activation[1:] - activation[:1]).abs().sum(dim=1))}
    for name, method in METHODS.items():
        if not method.unsupported(classifier):
            maps = method.explain(passes)
            change = (maps[1:] - maps[:1]).abs()
            if bool((change.flatten(1).amax(dim=1) > 0).all()):
                found[name] = follows(change)
    return found


def is_right(found: dict[str, float]) -> bool:
    """Whether anything that was followed follows."""
    return max(found.values()) >= RIGHT
