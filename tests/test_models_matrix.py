"""Some of docs/models.md, on small images: maps lie as the image lies, and tails give the logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.hierarchies import hierarchy, pvt, swin
from torch import nn

from dix.baselines.orientation import is_right, orientation, patches
from dix.classifier import Classifier
from dix.look import SPOTS, follows
from dix.models import zoo
from dix.models.fresh import woken
from dix.models.looked import looked
from dix.passes import Passes

#: Input sizes.
TORCHVISION = {"resnet18": 96, "mobilenet_v3_small": 96, "squeezenet1_1": 96, "swin_t": 96}
TIMM = {"resnet10t.c3_in1k": 96, "ghostnet_100.in1k": 96, "pvt_v2_b0.in1k": 96}
TOLD = {"vit_tiny_patch16_224.augreg_in21k_ft_in1k": 112}  # whose builder must be told


def awake(classifier: Classifier) -> Classifier:
    """With every branch of its random weights alive."""
    classifier.network.load_state_dict(woken(classifier.network, classifier.input_size).state_dict())
    classifier.forget_tails()
    return classifier


def built(name: str) -> Classifier:
    if name in TORCHVISION:
        return zoo.torchvision_model(name, name, weights="random", input_size=TORCHVISION[name])
    if name in TIMM:
        return zoo.timm_model(name, name, weights="random", input_size=TIMM[name])
    size = {"img_size": TOLD[name]}
    return zoo.timm_model(name, name, weights="random", input_size=TOLD[name], arguments=size)


@pytest.mark.parametrize("name", [*TORCHVISION, *TIMM, *TOLD])
def test_maps_lie_as_the_image_lies(name: str) -> None:
    classifier = awake(built(name))
    found = orientation(classifier)
    assert is_right(found), found
    images = patches(classifier.input_size)[:2]
    passes = Passes(classifier, images)
    for alias in classifier.layers:
        said = classifier.tail(alias).logits(passes.activation(alias), passes.context(alias))
        # Both take the same way from the layer on; what differs is how many images are summed together.
        assert (said - passes.logits).abs().max() <= 1e-5 * max(1.0, float(passes.logits.abs().max()))


@pytest.mark.parametrize("build", [swin, pvt])
def test_a_transposed_map_does_not_follow(build: Callable[[], nn.Module]) -> None:
    classifier = looked(hierarchy(build))
    assert is_right(orientation(classifier))
    images = patches(classifier.input_size).double()
    activation = Passes(classifier, images).activation("second")
    change = (activation[1:] - activation[:1]).abs().sum(dim=1)
    assert len(change) == len(SPOTS)
    assert follows(change) > 0.9
    assert follows(change.transpose(1, 2)) < 0.5
    windows = change.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).transpose(2, 3).reshape_as(change)
    assert follows(windows) < 0.9
