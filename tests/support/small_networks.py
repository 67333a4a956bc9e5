"""Small random networks of every kind, with their tails written out by hand, for the tests of DIX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import VGG, ConvNeXt, DenseNet, ResNet
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import make_layers

from dix.classifier import Classifier, Weights
from dix.models.densenet import NamedReluDenseNet

CLASSES = 5
SIDE = 64
VIT_SIDE = 32
MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.2, 0.25)


@dataclass(frozen=True)
class Small:
    """build: makes the network. layers: by alias. tails: by alias, the network behind the layer, sliced by hand."""

    build: Callable[[], nn.Module]
    layers: Mapping[str, str]
    tails: Mapping[str, Callable[[nn.Module, Tensor], Tensor]]


def _resnet_head(net: nn.Module, x: Tensor) -> Tensor:
    return net.fc(torch.flatten(net.avgpool(x), 1))


def _densenet_head(net: nn.Module, x: Tensor) -> Tensor:
    return net.classifier(x.mean(dim=(2, 3)))


def _densenet_tail(after: int, net: nn.Module, x: Tensor) -> Tensor:
    return _densenet_head(net, net.features[after + 1 :](x).clamp(min=0))


def _flat_tail(after: int, net: nn.Module, x: Tensor) -> Tensor:
    x = net.avgpool(net.features[after + 1 :](x))
    return net.classifier(x if isinstance(net, ConvNeXt) else x.flatten(1))


def _flat(build: Callable[[], nn.Module], after: tuple[int, int, int]) -> Small:
    aliases = ("last", "second", "third")
    return Small(
        build,
        {alias: f"features.{i}" for alias, i in zip(aliases, after, strict=True)},
        {alias: partial(_flat_tail, i) for alias, i in zip(aliases, after, strict=True)},
    )


def _vgg() -> VGG:
    """VGG of torchvision with a classifier that fits 12 channels."""
    with torch.device("meta"):
        network = VGG(nn.Sequential(), num_classes=CLASSES, init_weights=False)
    network.features = make_layers([8, "M", 8, "M", 12, "M", 12, 12, "M"])
    network.avgpool = nn.AdaptiveAvgPool2d(7)
    hidden = [nn.Linear(12 * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, CLASSES)]
    network.classifier = nn.Sequential(*hidden)
    return network


_STAGES = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 2), CNBlockConfig(16, 20, 1), CNBlockConfig(20, None, 1)]

CNNS: Mapping[str, Small] = {
    "resnet": Small(
        lambda: ResNet(Bottleneck, [1, 2, 2, 1], num_classes=CLASSES, width_per_group=8),
        {"last": "layer4", "second": "layer3", "third": "layer2"},
        {
            "last": _resnet_head,
            "second": lambda net, x: _resnet_head(net, net.layer4(x)),
            "third": lambda net, x: _resnet_head(net, net.layer4(net.layer3(x))),
        },
    ),
    "densenet": Small(
        lambda: NamedReluDenseNet(DenseNet(4, (2, 2, 3, 2), 8, num_classes=CLASSES)),
        {"last": "relu5", "second": "features.denseblock3", "third": "features.denseblock2"},
        {"last": _densenet_head, "second": partial(_densenet_tail, 8), "third": partial(_densenet_tail, 6)},
    ),
    "convnext": _flat(lambda: ConvNeXt(_STAGES, num_classes=CLASSES, layer_scale=0.5), (7, 5, 3)),
    "vgg": _flat(_vgg, (12, 7, 4)),
}


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Every parameter and running statistic moved away from its neutral start, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator) - 0.5
            if tensor.ndim > 1:
                scale = (3.0 / tensor[0].numel()) ** 0.5 if tensor.ndim in (2, 4) else 0.2
                tensor.copy_(2 * noise * scale)
            else:
                tensor.copy_(noise * 0.6 + (0.0 if name.endswith(("bias", "mean")) else 1.0))
    return network.eval()


def small_cnn(kind: str, dtype: torch.dtype = torch.float64) -> Classifier:
    """A small convolutional classifier with random weights."""
    small = CNNS[kind]
    with torch.random.fork_rng(devices=[]):
        network = randomise(small.build(), seed=3)
    weights = Weights("random", trained=False)
    classifier = Classifier(
        kind, network, mean=MEAN, std=STD, input_size=SIDE, layers=small.layers, kind="cnn", weights=weights
    )
    return classifier.to("cpu", dtype)


def small_vit(dtype: torch.dtype = torch.float64, blocks: int = 4) -> Classifier:
    """A small Vision Transformer with random weights: 16 patches of 8 x 8 pixels, 3 heads."""
    with torch.random.fork_rng(devices=[]):
        network = VisionTransformer(
            img_size=VIT_SIDE, patch_size=8, embed_dim=24, depth=blocks, num_heads=3, num_classes=CLASSES
        )
        randomise(network, seed=4)
    layers = {alias: f"blocks.{blocks - 1 - i}.norm1" for i, alias in enumerate(("last", "second", "third")[:blocks])}
    weights = Weights("random", trained=False)
    classifier = Classifier(
        "vit", network, mean=MEAN, std=STD, input_size=VIT_SIDE, layers=layers, kind="vit", weights=weights
    )
    return classifier.to("cpu", dtype)


def pixels(count: int, side: int = SIDE, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """[count, 3, side, side] smooth random images in [0, 1]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    fine = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return fine.to(dtype)
