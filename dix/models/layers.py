"""Find the layers that a method explains, where a configuration does not name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from dix.classifier import Kind

ALIASES = ("last", "second", "third")


def kind_of(network: nn.Module) -> Kind:
    """The kind "vit" for timm's transformers (blocks with attention matrices and a CLS token), else "cnn"."""
    blocks = getattr(network, "blocks", None)
    has_attention = blocks is not None and all(hasattr(getattr(b, "attn", None), "attn_drop") for b in blocks)
    return "vit" if has_attention and getattr(network, "num_prefix_tokens", 0) > 0 else "cnn"


def find_layers(network: nn.Module, kind: Kind, input_size: int) -> dict[str, str]:
    """Aliases of the last three stages.

    A CNN's stage ends with the last module that returns a resolution, where modules that hold three resolutions or more
    are taken apart. A ViT's layers are the inputs of its last three attention modules (behind the last one, patch
    tokens no longer reach the class token).
    """
    if kind == "vit":
        count = len(network.get_submodule("blocks")._modules)
        return {alias: f"blocks.{count - 1 - i}.norm1" for i, alias in enumerate(ALIASES[:count])}
    sides = _sides(network, input_size)
    parts = set(_parts(network, "", sides))
    ends = {side: name for name, side in sides.items() if name in parts}  # a later module replaces an earlier one
    return dict(zip(ALIASES, (ends[side] for side in sorted(ends)), strict=False))


def _sides(network: nn.Module, size: int) -> dict[str, int]:
    """By module name, in the order in which they return: the side in pixels of what each returns, if above 1."""
    sides: dict[str, int] = {}
    was_training = network.training
    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:
                hook = module.register_forward_hook(lambda _m, _a, out, name=name: _note(sides, name, out))
                stack.enter_context(hook)
        network.eval()(torch.zeros(1, 3, size, size))
    network.train(was_training)
    return sides


def _note(sides: dict[str, int], name: str, output: object) -> None:
    """Remember square activations; others have their channels last, or no place in the image."""
    if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-2] == output.shape[-1] > 1:
        sides.pop(name, None)  # a module that runs again counts where it runs last
        sides[name] = output.shape[-1]


def _parts(module: nn.Module, prefix: str, sides: Mapping[str, int]) -> Iterator[str]:
    """Names of the outermost modules that hold fewer than three resolutions."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inner = {side for inside, side in sides.items() if inside.startswith(f"{path}.")}
        if len(inner) >= 3:
            yield from _parts(child, f"{path}.", sides)
        else:
            yield path
