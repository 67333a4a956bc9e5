"""Weights from a file, from the publisher's cache, or seeded random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dix.classifier import Weights


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Let constructors that draw from the global generator draw from a seeded one, and restore it after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def state_from_file(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors or a PyTorch file; nothing in the file is executed.

    Raises ValueError where the file is missing, truncated, or holds anything but tensors.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"model.weights: no file {file}; give the path of a .safetensors or .pth file, or `random`")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"model.weights: {file} cannot be read ({type(error).__name__}): it is truncated, corrupt, or holds more "
            "than tensors; fetch it again"
        ) from error
    nested = [state[key] for key in ("state_dict", "model") if isinstance(state, Mapping) and key in state]
    return dict(nested[0] if nested else state)


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """Load strictly. Raises ValueError that names what does not fit."""
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise ValueError(f"model.weights: {source} does not fit {type(network).__name__}: {' '.join(lines)}") from error
    return network


def build(
    construct: Callable[[], nn.Module],
    weights: str,
    seed: int,
    published: Callable[[], Mapping[str, Tensor]],
    published_source: str,
    top1: float | None,
) -> tuple[nn.Module, Weights]:
    """A network with the weights that `weights` names: "pretrained", "random", or a file's path.

    construct: makes the network, drawing from the global generator. published: fetches the publisher's tensors.
    """
    with seeded_initialisation(seed):
        network = construct()
    if weights == "random":
        return network, Weights(f"random, seed {seed}", trained=False, note="random weights: scores mean nothing")
    if weights == "pretrained":
        return load_state(network, published(), published_source), Weights(published_source, True, published_top1=top1)
    return load_state(network, state_from_file(weights), weights), Weights(f"file {Path(weights).name}", trained=True)
