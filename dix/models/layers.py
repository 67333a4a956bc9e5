"""Find the layers that a method explains, where a configuration does not name them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from dix.classifier import Kind

ALIASES = ("last", "second", "third")


def kind_of(network: nn.Module) -> Kind:
    """ "vit" for timm's transformers (blocks with attention matrices and a CLS token), else "cnn"."""
    blocks = getattr(network, "blocks", None)
    has_attention = blocks is not None and all(hasattr(getattr(b, "attn", None), "attn_drop") for b in blocks)
    return "vit" if has_attention and getattr(network, "num_prefix_tokens", 0) > 0 else "cnn"


def find_layers(network: nn.Module, kind: Kind, input_size: int) -> dict[str, str]:
    """Aliases of the last three stages.

    A CNN's stages are its outermost modules after which the resolution changes; a ViT's the inputs of its last three
    attention modules (behind the last one, patch tokens no longer reach the class token).
    """
    if kind == "vit":
        count = len(network.get_submodule("blocks")._modules)
        return {alias: f"blocks.{count - 1 - i}.norm1" for i, alias in enumerate(ALIASES[:count])}
    names = list(_last_of_each_resolution(network, input_size).values())
    return dict(zip(ALIASES, reversed(names), strict=False))


def _last_of_each_resolution(network: nn.Module, size: int) -> dict[int, str]:
    """The last, outermost module that returns each resolution above 1 x 1, in the order of the forward pass."""
    order: list[tuple[str, int]] = []
    was_training = network.training
    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:
                hook = module.register_forward_hook(lambda _m, _a, out, name=name: _note(order, name, out))
                stack.enter_context(hook)
        network.eval()(torch.zeros(1, 3, size, size))
    network.train(was_training)
    found: Mapping[int, str] = {height: name for name, height in order}
    return dict(sorted(found.items(), reverse=True))


def _note(order: list[tuple[str, int]], name: str, output: object) -> None:
    if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
        order.append((name, output.shape[-1]))
