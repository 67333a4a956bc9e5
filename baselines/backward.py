"""Backward passes in which nonlinear operations hand on what a linear one with the same answer would.

A network whose gates, normalisations and attention are held fixed is linear in what remains, and gives the same
answer: its gradient times its input, with its biases', adds up to the logit. LibraGrad (Mehri et al. 2025) and AttnLRP
(Achtibat et al. 2024) both propagate in this way, and differ in what they do with softmax and with linear layers. The
network runs its own code; while `Changed` is entered, its operations get these gradients. An operation that nobody
thought of is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dix.baselines.nonlinear import pointwise
from dix.baselines.operations import PASSING, SHAPED, Operation, explained, forms, no_rule
from dix.capture import instead

Rule = Callable[..., Any]

#: Operations that are linear in each of their tensors that depend on the image, of which they have one.
LINEAR = forms(
    *("linear", "conv2d", "add", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "neg", "mean", "sum", "dropout"),
    *("to", "float", "double", "pad", "roll", "stack", "repeat", "movedim"),
)
_KNOWN = PASSING | SHAPED | LINEAR | {getattr(Tensor, name).__get__ for name in ("mT", "T")}


class Changed(TorchFunctionMode):
    """While it is entered, what torch computes from tensors that require a gradient has the gradient that a rule gives.

    rules: by operation; a rule takes the operation and its arguments, and returns what the operation would.
    """

    def __init__(self, rules: Mapping[Operation, Rule]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self, func: Operation, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation of the network. Raises NotImplementedError where nothing is known of it."""
        kwargs = kwargs or {}
        if not explained([*args, *kwargs.values()]):
            return func(*args, **kwargs)
        if rule := self.rules.get(func):
            return rule(func, *args, **kwargs)
        result = func(*args, **kwargs)
        if explained([result]) and func not in _KNOWN:
            raise no_rule(func)
        return result


def constant(func: Operation, *args: Any, **kwargs: Any) -> Any:
    """What the operation returns, without a gradient."""
    return func(*args, **kwargs).detach()


def gated(func: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """f(x) as x times its gate f(x) / x, held fixed; at zero, where that is nothing, the slope of f is the gate."""
    values, slope = pointwise(func, x, *args, **kwargs)
    gate = torch.where(x == 0, slope, values / x.detach().where(x != 0, 1))
    return instead(values, x * gate)


def scaled_norm(
    func: Operation,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer norm whose divisor is held fixed."""
    axes = tuple(range(-len(shape), 0))
    centred = x - x.mean(dim=axes, keepdim=True)
    scale = (centred.detach().square().mean(dim=axes, keepdim=True) + eps).rsqrt()
    return instead(func(x, shape, weight, bias, eps), centred * (scale if weight is None else scale * weight))


def scaled_rms(
    func: Operation, x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Root mean square norm whose divisor is held fixed."""
    squares = x.detach().square().mean(dim=tuple(range(-len(shape), 0)), keepdim=True)
    scale = (squares + (torch.finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return instead(func(x, shape, weight, eps), x * (scale if weight is None else scale * weight))


def scaled_length(func: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """F.normalize whose divisor is held fixed."""
    value = func(x, *args, **kwargs)
    return instead(value, x * (value / x.where(x != 0, 1)).detach())


def halved(func: Operation, a: Any, b: Any) -> Any:
    """A product, elementwise or of matrices: where both factors depend on the image, each gets half of the gradient."""
    if not (explained([a]) and explained([b])):
        return func(a, b)
    product = func(a, b)
    return instead(product, product / 2)


def divided(func: Operation, a: Any, b: Any) -> Any:
    """A quotient whose divisor is held fixed."""
    return func(a, b.detach() if isinstance(b, Tensor) else b)


#: What LibraGrad and AttnLRP have in common.
COMMON: Mapping[Operation, Rule] = {
    **dict.fromkeys(forms("gelu", "silu", "relu", "mish", "hardswish", "leaky_relu", "relu6"), gated),
    **dict.fromkeys(forms("sigmoid", "tanh", "hardsigmoid"), constant),
    **dict.fromkeys(forms("layer_norm"), scaled_norm),
    **dict.fromkeys(forms("rms_norm"), scaled_rms),
    **dict.fromkeys(forms("normalize"), scaled_length),
    **dict.fromkeys(forms("mul", "__mul__", "__rmul__", "matmul", "__matmul__", "bmm"), halved),
    **dict.fromkeys(forms("div", "__truediv__"), divided),
}
