"""The functions of PyTorch that make a network nonlinear, as methods that linearise a network need to know them.

Methods watch calls of these functions, not module classes: what a fused module or a network's own ``forward`` calls is
seen as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[..., Any]

#: Pointwise and positively homogeneous: f(z) = f'(z) z.
HOMOGENEOUS: frozenset[Function] = frozenset(
    {F.relu, torch.relu, Tensor.relu, F.leaky_relu, F.prelu, F.relu_, torch.relu_, Tensor.relu_}
)

#: Pointwise functions of one tensor.
POINTWISE: frozenset[Function] = HOMOGENEOUS | frozenset(
    {
        *(F.gelu, F.silu, F.hardtanh, F.relu6, F.elu, F.selu, F.celu, F.mish, F.hardswish, F.hardsigmoid, F.softplus),
        *(F.sigmoid, torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, F.tanh, torch.tanh, Tensor.tanh, F.softsign),
    }
)

#: Products, of which two factors may depend on the input (squeeze and excitation).
PRODUCTS: frozenset[Function] = frozenset({torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__})


def pointwise(function: Function, z: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """f(z) and f'(z), both without a graph; z itself is never written to, not even by an in-place function."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        values = function(leaf.clone(), *args, **kwargs)
        (slope,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slope
