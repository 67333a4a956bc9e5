"""A fault of torch mended: the gradient that batch norm hands back for a batch of one image.

torch 2.13 (on processors) takes the gradient that reaches a batch norm in evaluation mode to lie in memory as the
norm's input does. For one image that is wrong where the input has its channels first and the gradient was turned from
tokens, whose channels come last (EfficientFormer, XCiT): values of other places and channels are handed back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def mend(network: nn.Module) -> None:
    """Let every batch and instance norm of a network get its gradients in its own order of memory; in place, once."""
    for module in network.modules():
        if isinstance(module, _NormBase) and _watch not in module._forward_hooks.values():
            module.register_forward_hook(_watch)


def _watch(_module: nn.Module, _args: object, output: object) -> None:
    with torch._C.DisableTorchFunction():  # whoever follows operations need not see this
        if isinstance(output, Tensor) and output.requires_grad and output.ndim == 4 and len(output) == 1:
            output.register_hook(_channels_first)


def _channels_first(gradient: Tensor) -> Tensor:
    """The same values, laid out channels first where they lay channels last; others are the same tensor."""
    last = gradient.is_contiguous(memory_format=torch.channels_last) and not gradient.is_contiguous()
    return gradient.contiguous() if last else gradient
