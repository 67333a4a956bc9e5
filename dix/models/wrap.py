"""Classifiers of your own: any network, looked at and never guessed, from Python (`wrap`) or from YAML (`network`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dix.classifier import Classifier, Weights, unwrapped
from dix.models.looked import looked
from dix.models.sources import load_state, seeded_initialisation, state_from_file
from dix.probability import Probability

#: One number for each channel, or one for all.
Levels = float | Sequence[float]


def wrap(
    module: nn.Module,
    classes: Sequence[str] | Sequence[int] | None = None,
    mean: Levels = 0.0,
    std: Levels = 1.0,
    size: int = 224,
    layers: Mapping[str, str] | None = None,
    name: str | None = None,
    label_space: str | None = None,
    probability: Probability = "softmax",
) -> Classifier:
    """A classifier around a network of your own, which is copied and stays as it is.

    What the network is gets looked at: whether it takes one channel or three, answers logits or shares, where its
    layers lie over the image, whether its attention is visible.

    Args:
        module: Maps normalised images [B, 3, size, size], or [B, 1, size, size], to logits [B, K].
        classes: [K] what each output is called, or the index within `label_space` of each output; None: unknown.
        mean: What is taken off pixels in [0, 1], for each channel or for all; 0: nothing.
        std: What they are divided by then; 1: nothing.
        size: A side of its images, in pixels.
        layers: Module names by alias ("last", "second", "third"); None: found.
        name: In tables and rows; None: the module's class.
        label_space: Which labels of data sets its outputs mean, where they mean some ("imagenet").
        probability: "softmax" of the outputs, or a "sigmoid" for each, where several classes may be there at once.

    Returns:
        The classifier, on the module's device.

    Raises:
        ValueError: It says what does not fit: an answer that is no row of numbers for each image, another number of
            outputs than of classes, no layer that lies over the image.

    Examples:
        >>> import dix
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> dix.wrap(net, classes=["cat", "dog"], mean=0.5, std=0.25, size=8).class_name(1)
        'dog'
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    bare, wrapped = unwrapped(module)
    named = {alias: layer.removeprefix(wrapped) for alias, layer in (layers or {}).items()}
    source = Weights(f"those of the {type(bare).__name__} that was wrapped", trained=True)
    made = _classifier(
        name or type(bare).__name__, _copy(bare), source, classes, mean, std, size, named, label_space, probability
    )
    with torch.inference_mode(False), torch.enable_grad():
        return looked(made)


def network(
    name: str,
    module: Callable[..., Any],
    arguments: Mapping[str, Any] | None = None,
    weights: str = "built",
    seed: int = 0,
    classes: Sequence[str] | Sequence[int] | None = None,
    mean: Levels = 0.0,
    std: Levels = 1.0,
    input_size: int = 224,
    layers: Mapping[str, str] | None = None,
    label_space: str | None = None,
    probability: Probability = "softmax",
) -> Classifier:
    """A classifier of your own from a configuration.

    Args:
        name: In tables and rows.
        module: What makes the network: its class, or a function; in YAML a dotted name.
        arguments: What it is called with.
        weights: "built" (as the module is made), "random" (the same, but known to be random: tables say so), or the
            path of a state dict (.safetensors, .pth), of which nothing is executed.
        seed: Of what the module draws while it is made.
        classes: As in `wrap`, and so are the rest.
        mean: What is taken off pixels in [0, 1].
        std: What they are divided by then.
        input_size: A side of its images, in pixels.
        layers: Module names by alias; None: found.
        label_space: Which labels of data sets its outputs mean.
        probability: "softmax" or "sigmoid".

    Returns:
        The classifier.

    Raises:
        ValueError: It says what does not fit.
    """
    with seeded_initialisation(seed):
        made = module(**(arguments or {}))
    if not isinstance(made, nn.Module):
        raise ValueError(f"model.module: {_told(module)} gave {type(made).__name__}, which is no torch.nn.Module")
    loaded, source = _loaded(made, weights, seed, _told(module))
    return looked(
        _classifier(name, loaded, source, classes, mean, std, input_size, dict(layers or {}), label_space, probability)
    )


def _loaded(made: nn.Module, weights: str, seed: int, maker: str) -> tuple[nn.Module, Weights]:
    if weights == "built":
        return made, Weights(f"as {maker} makes them", trained=True)
    if weights == "random":
        return made, Weights(f"random, seed {seed}", trained=False, note="random weights: scores mean nothing")
    return load_state(made, state_from_file(weights), weights), Weights(f"file {Path(weights).name}", trained=True)


def _told(module: Callable[..., Any]) -> str:
    return str(getattr(module, "__qualname__", type(module).__name__))


def _copy(module: nn.Module) -> nn.Module:
    """The user's network stays in its own mode and may go on being trained."""
    try:
        with torch.inference_mode(False):
            return deepcopy(module).float()
    except Exception as error:
        raise ValueError(f"module: {type(module).__name__} cannot be copied: {error}") from error


def _classifier(
    name: str,
    made: nn.Module,
    weights: Weights,
    classes: Sequence[str] | Sequence[int] | None,
    mean: Levels,
    std: Levels,
    size: int,
    layers: Mapping[str, str],
    label_space: str | None,
    probability: Probability,
) -> Classifier:
    indices, names = _meanings(classes)
    place = next((each.device for each in made.parameters()), torch.device("cpu"))
    return Classifier(
        name,
        made,
        mean=_levels(mean, "mean"),
        std=_levels(std, "std"),
        input_size=size,
        layers=layers,
        kind="cnn",
        weights=weights,
        label_space=label_space,
        classes=indices,
        names=names,
        probability=probability,
    ).to(place)


def _meanings(classes: Sequence[str] | Sequence[int] | None) -> tuple[list[int] | None, list[str] | None]:
    """Label indices, or names, of the outputs."""
    given: list[Any] = list(classes or [])
    if all(isinstance(each, str) for each in given):
        return None, given or None
    if all(isinstance(each, int) for each in given):
        return given, None
    raise ValueError(f"classes: expected names, or indices of labels, got {given}")


def _levels(values: Levels, key: str) -> tuple[float, ...]:
    found = (float(values),) if isinstance(values, int | float) else tuple(float(each) for each in values)
    if len(found) not in (1, 3):
        raise ValueError(f"{key}: expected one number or three, got {list(found)}")
    if key == "std" and min(found) <= 0:
        raise ValueError(f"std: expected positive numbers, got {list(found)}")
    return found
