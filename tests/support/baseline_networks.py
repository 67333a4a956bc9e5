"""Small networks with random weights for the tests of the methods; no bias and no running statistic is nil."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from dix.classifier import Classifier, Kind, Weights
from dix.models.densenet import NamedReluDenseNet

SIDE = 64


def classifier(network: nn.Module, layers: dict[str, str], kind: Kind = "cnn", side: int = SIDE) -> Classifier:
    weights = Weights("random", trained=False)
    norm = {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.25, 0.2]}
    return Classifier("small", network, **norm, input_size=side, layers=layers, kind=kind, weights=weights)


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random biases, running statistics and layer scales."""
    random = torch.Generator().manual_seed(seed)
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith(("running_mean", "bias")):
            value.data.uniform_(-0.3, 0.3, generator=random)
        elif name.endswith("running_var"):
            value.data.uniform_(0.5, 2, generator=random)
        elif name.endswith(("layer_scale", "gamma")):
            value.data.uniform_(0.3, 0.7, generator=random)
    return network


@cache
def resnet() -> Classifier:
    from timm.models.resnet import BasicBlock, ResNet

    torch.manual_seed(1)
    layers = {"last": "layer4", "second": "layer3", "third": "layer2"}
    return classifier(drawn(ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 32, 48, 64), num_classes=10)), layers)


@cache
def densenet() -> Classifier:
    import torchvision

    torch.manual_seed(2)
    network = torchvision.models.DenseNet(12, (2, 2, 2, 2), 24, num_classes=10)
    layers = {"last": "relu5", "second": "features.denseblock3", "third": "features.denseblock2"}
    return classifier(drawn(NamedReluDenseNet(network)), layers)


@cache
def convnext() -> Classifier:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    torch.manual_seed(3)
    blocks = [CNBlockConfig(24, 48, 1), CNBlockConfig(48, 96, 1), CNBlockConfig(96, None, 1)]
    network = ConvNeXt(blocks, num_classes=10)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return classifier(drawn(network), {"last": "features.5", "second": "features.3", "third": "features.1"})


@cache
def vit() -> Classifier:
    import timm

    torch.manual_seed(4)
    kwargs = {"img_size": SIDE, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    network = timm.create_model("vit_tiny_patch16_224", **kwargs)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return classifier(drawn(network), {"last": "blocks.1.norm1"}, "vit")


NETWORKS: dict[str, Callable[[], Classifier]] = {"resnet": resnet, "densenet": densenet, "convnext": convnext}
ALL = NETWORKS | {"vit": vit}


def images(count: int = 3, side: int = SIDE, seed: int = 5) -> Tensor:
    """Smooth random pictures [B, 3, side, side] in [0, 1]."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)


def trainable_copy(model: Classifier) -> nn.Module:
    """The network as other libraries expect it: a copy whose parameters take gradients."""
    return copy.deepcopy(model.network).requires_grad_(True)


def in_double(model: Classifier) -> Classifier:
    """The same classifier in float64."""
    double = classifier(copy.deepcopy(model.network), model.layers, model.kind, model.input_size)
    return double.to("cpu", torch.float64)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """[B] correlation of each pair of maps [B, h, w]."""
    a, b = (m.double().flatten(1) - m.double().flatten(1).mean(dim=1, keepdim=True) for m in (a, b))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))


def alike(ours: Tensor, theirs: Tensor, least: float = 0.999) -> bool:
    """Whether maps of one shape are black together and otherwise correlate; at least one must not be black."""
    lit = theirs.flatten(1).amax(dim=1) > 0
    correlated = bool((pearson(ours[lit], theirs[lit]) >= least).all())
    return bool(lit.any()) and ours.shape == theirs.shape and correlated and bool((ours[~lit] == 0).all())


def traces(network: nn.Module) -> list[str]:
    """What a method may leave behind in a network: hooks and replaced forward functions, by module name."""
    found = []
    for name, module in network.named_modules():
        hooks = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]
        left = [hook for each in hooks for hook in each.values() if hook.__module__ != "dix.norms"]  # part of it
        if left or "forward" in vars(module):
            found.append(name)
    return found
