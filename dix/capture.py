"""Watch and replace what layers return, through hooks that always remove themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from dix.layout import CHANNELS_FIRST, Layout
from dix.split import module_named


@contextmanager
def capturing(
    network: nn.Module, layers: Sequence[str], layouts: Mapping[str, Layout] = MappingProxyType({})
) -> Iterator[dict[str, Tensor]]:
    """Collect what `layers` return, as tensors that the logits can be differentiated by.

    A layer whose output needs no gradient yet becomes a leaf, so the graph begins at the earliest captured layer and
    nothing before it is kept in memory. layouts: by layer, where what it returns is to be collected as [B, C, h, w].
    """
    captured: dict[str, Tensor] = {}

    def hook(name: str, output: Tensor) -> Tensor:
        layout = layouts.get(name, CHANNELS_FIRST)
        value = layout.to_map(output)
        captured[name] = value if value.requires_grad else value.detach().requires_grad_()
        # A clone, since in-place code behind the layer must not write into what was captured.
        return layout.to_raw(captured[name].clone(), layout.prefix(output))

    with ExitStack() as stack:
        for name in layers:
            stack.enter_context(
                module_named(network, name).register_forward_hook(lambda _m, _a, output, name=name: hook(name, output))
            )
        yield captured


@contextmanager
def substituting(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let each named layer return the given tensor instead of what it computes."""
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(
                module_named(network, name).register_forward_hook(lambda _m, _a, _o, value=value: value)
            )
        yield


def gradients(score: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """D score / d tensor for each tensor; zeros where the score does not depend on it."""
    found = torch.autograd.grad(score, list(tensors), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


class _Instead(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, gradient


def instead(value: Tensor, other: Tensor) -> Tensor:
    """`value`, to the bit, that is differentiated as `other` of the same shape is."""
    found: Tensor = _Instead.apply(value.detach(), other)
    return found
