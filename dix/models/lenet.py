"""LeNet-5 (LeCun et al. 1998) with batch normalisation and ReLU, the small network of the data-randomisation test."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from dix.models.unfilled import unfilled

IMAGE_SIZE = 32  #: pixels a side


def build_network(seed: int = 0, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """An untrained LeNet-5: images [B, in_channels, 32, 32] to logits [B, num_classes].

    The stages are named modules and none works in place: `bn2` gives the features [B, 16, 10, 10] before the ReLU,
    `relu2` after it. Weights follow torch's default distribution, drawn from a generator seeded with `seed`.
    """
    with unfilled():
        network = nn.Sequential(OrderedDict([*_features(in_channels), *_classifier(num_classes)]))
    network.to_empty(device="cpu")
    _initialise(network, torch.Generator().manual_seed(seed))
    return network.eval()


def _features(in_channels: int) -> list[tuple[str, nn.Module]]:
    return [
        ("conv1", nn.Conv2d(in_channels, 6, kernel_size=5)),
        ("bn1", nn.BatchNorm2d(6)),
        ("relu1", nn.ReLU()),
        ("pool1", nn.AvgPool2d(2)),
        ("conv2", nn.Conv2d(6, 16, kernel_size=5)),
        ("bn2", nn.BatchNorm2d(16)),
        ("relu2", nn.ReLU()),
        ("pool2", nn.AvgPool2d(2)),
    ]


def _classifier(num_classes: int) -> list[tuple[str, nn.Module]]:
    return [
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(16 * 5 * 5, 120)),
        ("relu3", nn.ReLU()),
        ("fc2", nn.Linear(120, 84)),
        ("relu4", nn.ReLU()),
        ("fc3", nn.Linear(84, num_classes)),
    ]


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases uniform within 1 / sqrt(fan-in); batch normalisation the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
