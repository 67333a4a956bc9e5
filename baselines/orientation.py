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
#: DIX1 explains the layer `last` alone; one step is the clean run's gradient.
_DIX1 = Dix(depth=1, path=PathIntegral(steps=1))


def _methods(layer: str) -> dict[str, Explainer]:
    """The maps that are followed besides the layer's activation."""
    return {"Grad-CAM": GradCam(layer)} | ({"DIX1": _DIX1} if layer == "last" else {})


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


def orientation(classifier: Classifier, layer: str = "last", rank: int = 0) -> dict[str, float]:
    """By what is followed, the least correlation of both axes: the layer's activation as [B, C, h, w], and maps.

    One class is explained for all images: that of the image without the patch, or its next `rank`. Left out are methods
    that cannot explain the classifier, and maps that the patch does not change at all. On 3 x 3 places no change can
    reach more than .926, on 2 x 2 .866: several spots then share a row.
    """
    images = patches(classifier.input_size).to(classifier.mean)
    target = classifier.logits(images[:1]).argsort(dim=1, descending=True)[:, rank]
    passes = Passes(classifier, images, target.expand(len(images)))
    activation = grid(passes, passes.activation(layer))
    found = {"layer": follows((activation[1:] - activation[:1]).abs().sum(dim=1))}
    for name, method in _methods(layer).items():
        if not method.unsupported(classifier):
            maps = method.explain(passes)
            change = (maps[1:] - maps[:1]).abs()
            if bool((change.flatten(1).amax(dim=1) > 0).all()):
                found[name] = follows(change)
    return found


def best_map(classifier: Classifier, classes: int = 5) -> tuple[str, float]:
    """The first map that follows, of the named layers and of the likeliest classes, or else the best; and how well.

    Maps of random weights often do not follow for one class: a channel's weight changes its sign with the patch. But a
    grid that is transposed, or in a wrong order, follows for none (the best of five classes: .48 on 4 x 4 places).
    """
    best = ("", -1.0)
    for layer in classifier.layers:
        for rank in range(classes):
            maps = {name: value for name, value in orientation(classifier, layer, rank).items() if name != "layer"}
            best = max([best, *((f"{name} {layer}", value) for name, value in maps.items())], key=lambda one: one[1])
            if best[1] >= RIGHT:
                return best
    return best


def with_held_weights(classifier: Classifier, classes: int = 5) -> float:
    """How well Grad-CAM's map follows whose channels are weighted in all images as in the one without the patch.

    The first that does, of the named layers and of the likeliest classes, or else the best. Where no map follows and
    this does, the layer lies right, and the patch has changed the weights.
    """
    images, found = patches(classifier.input_size).to(classifier.mean), [-1.0]
    ranked = classifier.logits(images[:1])[0].argsort(descending=True)
    for layer in classifier.layers:
        activation = Passes(classifier, images).activation(layer)
        for target in ranked[:classes]:
            passes = Passes(classifier, images[:1], target[None])
            weights = grid(passes, passes.gradient(layer)).mean(dim=(2, 3), keepdim=True)
            change = grid(passes, activation[1:] - activation[:1])
            found.append(follows((weights * change).sum(dim=1).abs()))
            if found[-1] >= RIGHT:
                return found[-1]
    return max(found)


def is_right(found: dict[str, float]) -> bool:
    """Whether anything that was followed follows."""
    return max(found.values()) >= RIGHT
