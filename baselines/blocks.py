"""The blocks of a Vision Transformer: the modules that hold one attention each, and what tokens they are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dix.baselines.attention import lacks_attention
from dix.classifier import Classifier
from dix.look import is_batch_second
from dix.maps import grid
from dix.passes import Passes
from dix.split import module_named


def block_names(classifier: Classifier) -> tuple[str, ...]:
    """For each attention layer, first block first, the outermost module that holds no other attention layer."""
    layers = classifier.attention_layers
    return tuple(_outermost(layer, [other for other in layers if other != layer]) for layer in layers)


def _outermost(layer: str, others: Sequence[str]) -> str:
    words = layer.split(".")
    ways = [".".join(words[:depth]) for depth in range(1, len(words))]
    return next((way for way in ways if not any(f"{other}.".startswith(f"{way}.") for other in others)), layer)


def lacks_alike_blocks(classifier: Classifier) -> str:
    """Why the blocks do not all hand the same tokens on to each other, or ""."""
    if reason := lacks_attention(classifier):
        return reason
    if classifier.attention and classifier.attention.places:
        return "needs blocks that all see the same tokens; a block of this model sees other tokens than the first"
    return lacks_batch_first(classifier)


def lacks_batch_first(classifier: Classifier) -> str:
    """Why the blocks hand on other tokens than [B, T, C], or ""; runs the network on an image."""
    second = is_batch_second(classifier.network, classifier.input_size, block_names(classifier))
    return "needs blocks that hand on tokens [B, T, C]; those of this model are [T, B, C]" if second else ""


def on_patches(passes: Passes, values: Tensor) -> Tensor:
    """[B, h, w] maps of values [B, T] of tokens, the last of which are the image's patches."""
    return grid(values[:, passes.classifier.prefix_tokens :], passes.size)


@contextmanager
def tokens_given(network: nn.Module, blocks: Sequence[str]) -> Iterator[list[Tensor]]:
    """Collect the tokens [B, T, C] that each block is given, while the network runs once.

    The first block's become a leaf of the graph, so that the score can be differentiated by all of them, and nothing
    before the blocks is. Raises NotImplementedError where a block's first argument is no tensor of tokens.
    """
    found: list[Tensor] = []

    def given(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not args or not isinstance(args[0], Tensor) or args[0].ndim != 3:
            raise NotImplementedError("its blocks are not given tokens [images, tokens, channels]")
        tokens = args[0] if found else args[0].detach().requires_grad_(torch.is_grad_enabled())
        found.append(tokens)
        return (tokens, *args[1:])

    with ExitStack() as stack:
        for name in blocks:
            stack.enter_context(module_named(network, name).register_forward_pre_hook(given))
        yield found
