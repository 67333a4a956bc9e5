"""The published code's DIX for CNNs, from its description, one image at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.small_networks import CNNS, SIDE, pixels, small_cnn
from torch import Tensor

from dix.explainer import Dix
from dix.maps import faults
from dix.passes import Passes
from dix.released import Released

ALIASES = ("last", "second", "third")


def literal_gradient(alias: str, network, r: Tensor, target: int) -> Tensor:
    r = r.clone().requires_grad_()
    CNNS["resnet"].tails[alias](network, r[None])[0, target].backward()
    assert r.grad is not None
    return r.grad


def literal_layer(alias: str, network, x: Tensor, target: int) -> Tensor:
    """5 ReLU(g) ReLU(x) at the last layer; before it, the norm of x - z over 16 times the sum of n ReLU(g) ReLU(r)."""
    if alias == "last":
        return 5 * literal_gradient(alias, network, x, target).clamp(min=0) * x.clamp(min=0)
    z = torch.empty_like(x)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            z[:, row, column] = min(float(v) for v in x[:, row, column])
    total = torch.zeros_like(x)
    for n in range(5):
        r = z + n / 4 * (x - z)
        total += n * literal_gradient(alias, network, r, target).clamp(min=0) * r.clamp(min=0)
    return float(((x - z) ** 2).sum()) ** 0.5 / 16 * total


def resampled(m: Tensor, side: int = 28) -> Tensor:
    return F.interpolate(m[None, None], size=(1024, side, side), mode="trilinear", align_corners=False)[0, 0]


def finished(m: Tensor) -> Tensor:
    full = F.interpolate(m.sum(dim=0)[None, None], size=(SIDE, SIDE), mode="bicubic", align_corners=False)[0, 0]
    return (full - full.min()) / (full - full.min()).max()


def literal_map(depth: int, network, activations: list[Tensor], target: int) -> Tensor:
    if depth == 1:
        gradient = literal_gradient("last", network, activations[0], target)
        return finished(resampled(5 * (gradient * activations[0]).clamp(min=0), 14))
    layers = [
        resampled(literal_layer(alias, network, x, target))
        for alias, x in zip(ALIASES[:depth], activations[:depth], strict=True)
    ]
    if depth == 2:
        return finished(layers[0] * (1 + layers[1]))
    return finished(layers[0] ** 2 * (1 + layers[1] * layers[2]))


@pytest.mark.numeric
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("chunk", [2, 32])
def test_maps_are_what_the_published_code_computes(depth: int, chunk: int) -> None:
    classifier, images = small_cnn("resnet"), pixels(2)
    passes = Passes(classifier, images, torch.tensor([2, 4]), chunk=chunk)
    found = Released(depth=depth).explain(passes)
    for i in range(2):
        activations = [passes.activation(alias)[i] for alias in ALIASES]
        expected = literal_map(depth, classifier.network, activations, int(passes.targets[i]))
        assert (found[i] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_they_are_not_the_thesiss(depth: int) -> None:
    passes = Passes(small_cnn("resnet"), pixels(1))
    assert (Released(depth=depth).explain(passes) - Dix(depth=depth).explain(passes)).abs().max() > 0.1


def test_a_map_of_zeros_is_reported_as_constant() -> None:
    classifier = small_cnn("resnet")
    classifier.network.fc.weight.fill_(-1.0)
    assert faults(Released(depth=3).explain(Passes(classifier, pixels(1)))) == ["constant"]


@pytest.mark.parametrize(
    ("kind", "depth", "reason"),
    [
        ("resnet", 3, ""),
        ("vgg", 1, ""),
        ("vgg", 2, "no earlier layers for VGG"),
        ("densenet", 1, "explains another network"),
        ("convnext", 1, "explains another network"),
    ],
)
def test_reasons_to_skip(kind: str, depth: int, reason: str) -> None:
    found = Released(depth=depth).unsupported(small_cnn(kind))
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_model_without_a_last_relu_is_skipped() -> None:
    classifier = small_cnn("resnet")
    classifier.layers["last"] = "layer4.0.bn3"
    assert "puts a ReLU behind the last layer" in Released(depth=1).unsupported(classifier)


def test_a_wrong_depth_names_itself() -> None:
    with pytest.raises(ValueError, match="depth: expected 1, 2 or 3 layers, got 0"):
        Released(depth=0)
