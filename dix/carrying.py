"""Relevance of tokens carried backwards through a network's own code, as one number for each token.

A hierarchy of attention (Swin, PVT, MaxViT, Hiera, MViT) moves its tokens about between blocks: it cuts them into
windows, rolls them, pools them, reduces keys and merges four tokens into one. Nothing of that is written again here.
The network runs once, by its own code, while every operation gets a stand-in for its derivative:

* what only moves values (reshape, permute, roll, pad, cut, concatenate, mean and maximum pooling) keeps its own;
* what treats each token for itself (norms, activations, gates, LayerScale) hands a token's relevance on as it is;
* a linear layer shares it equally among the channels of the same token, and a convolution equally among the values that
  it reads, whatever their weights: merging is a mean of tokens;
* a product of attention with values hands it on by a matrix E in place of the attention, which is what is asked for;
* a sum hands it to both operands, but only to the first where the second was made of it without attention (x + MLP(x)).

A token's relevance is the sum over its channels, which linear layers spread evenly, so also over heads: the mean over
heads of E needs no line of code. See docs/dix-hierarchical.md for the equations.

Attention must be a softmax and a product: functions that hold both are replaced by these (`explicit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dix.capture import instead
from dix.models.visible import Replacing
from dix.split import tensors_in


def explicit() -> Replacing:
    """To be entered last: attention that one function computes becomes a softmax and a product."""
    return Replacing(lambda weights: weights)


@dataclass(frozen=True)
class Origin:
    """What is known of a tensor while a network runs.

    weights: it comes from a softmax over its last axis, and from no tokens besides. lost: the first operation on its
    way that has no rule, or "". mixed: products with attention that lie before it, at most. number: its own, as a bit.
    ancestors: the numbers of all that it was made of, as bits.
    """

    weights: bool = False
    lost: str = ""
    mixed: int = 0
    number: int = 0
    ancestors: int = 0


class Product(NamedTuple):
    """A product of attention with values, as a network is about to take it: func(*args, **kwargs)."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    weights: Tensor

    def taken(self, weights: Tensor) -> Tensor:
        """The product with other weights."""
        swap: Any = lambda value: weights if value is self.weights else value  # noqa: E731
        return self.func(*(swap(value) for value in self.args), **{k: swap(v) for k, v in self.kwargs.items()})


class _Following(TorchFunctionMode):
    """While entered, every tensor that torch returns knows its origin, and products with attention are told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0  # operations so far
        self.products = 0  # of attention with values so far

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tensors_in([list(args), dict(kwargs)])
        weights = [tensor for tensor in given if origin(tensor).weights]
        word = _word(func)
        if word in _MATRIX_PRODUCTS and len(weights) == 1 and any(map(_of_tokens, given)):
            made = self.product(Product(func, args, kwargs, weights[0]), self.products)
            self.products += 1
            return self._told(made, given, mixed=1)
        if word == "softmax":
            last = _axis(args, kwargs) in (-1, args[0].ndim - 1)
            return self._told(self.softmax(func, args, kwargs, last), given, mixed=int(not last), weights=last)
        mixes = word in _MATRIX_PRODUCTS and sum(map(_of_tokens, given)) > 1
        return self._told(self.operation(word, func, args, kwargs), given, mixed=int(mixes))

    def product(self, product: Product, index: int) -> Tensor:
        """What a product of attention with values returns."""
        raise NotImplementedError

    def softmax(self, func: Callable[..., Any], args: Any, kwargs: Any, last: bool) -> Tensor:
        """What a softmax returns; last: it is taken over the last axis."""
        return func(*args, **kwargs)

    def operation(self, word: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What any other operation returns."""
        return func(*args, **kwargs)

    def _told(self, made: Any, given: Sequence[Tensor], mixed: int = 0, weights: bool = False) -> Any:
        """What an operation made, told what it was made of."""
        known = [origin(tensor) for tensor in given]
        for tensor in tensors_in(made):
            if not any(tensor is one for one in given):
                self.numbers += 1
                tensor.origin = Origin(  # type: ignore[attr-defined]
                    weights or (not mixed and any(one.weights for one in known) and not any(map(_of_tokens, given))),
                    "" if weights or tensor.requires_grad else _first(one.lost for one in [*known, origin(tensor)]),
                    mixed + max((one.mixed for one in known), default=0),
                    1 << self.numbers,
                    _union(one.ancestors | one.number for one in known),
                )
        return made


def origin(tensor: Tensor) -> Origin:
    """Where a tensor comes from, as far as it was followed."""
    return getattr(tensor, "origin", _NOWHERE)


_NOWHERE = Origin()


def _of_tokens(tensor: Tensor) -> bool:
    """Whether a tensor depends on the image other than through attention weights alone."""
    return not origin(tensor).weights and (tensor.requires_grad or bool(origin(tensor).lost))


def _first(words: Iterable[str]) -> str:
    return next(filter(None, words), "")


def _union(bits: Iterable[int]) -> int:
    total = 0
    for each in bits:
        total |= each
    return total


def _word(func: Callable[..., Any]) -> str:
    """An operation's name, whether it is called as a function, a method, an operator, or in place."""
    return str(getattr(func, "__name__", func)).strip("_")


def _axis(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return kwargs.get("dim", args[1] if len(args) > 1 else None)


class Seeing(_Following):
    """While entered, keeps every attention matrix that is multiplied with values, in the order of the products.

    replaced: by a product's index, the matrix that is used instead; it becomes a leaf. found: the matrices, of which
    each has a graph behind it and can be differentiated by.
    """

    def __init__(self, replaced: Mapping[int, Tensor] | None = None) -> None:
        super().__init__()
        self.replaced = replaced or {}
        self.found: list[Tensor] = []

    def product(self, product: Product, index: int) -> Tensor:
        """The product with the matrix that is kept."""
        used = self.replaced.get(index, product.weights)
        self.found.append(used if used.requires_grad else used.detach().requires_grad_())
        return product.taken(self.found[-1])


class Carrying(_Following):
    """While entered, derivatives are relevance: what it is handed back by is said at the top of this module.

    matrices: E by product, each of the shape of the attention that it stands for. on: which products hand on relevance
    when it is sent back; the others keep theirs to the skip beside them.
    """

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        super().__init__()
        self.matrices = matrices
        self.on: set[int] = set(range(len(matrices)))

    def product(self, product: Product, index: int) -> Tensor:
        """The product's value, with the derivative that E has in place of the attention."""
        with torch.no_grad():
            value = product.taken(product.weights)
        stand_in = product.taken(self.matrices[index].to(value))
        if not stand_in.requires_grad:
            return value  # of values that are lost
        stand_in.register_hook(lambda relevance: relevance * float(index in self.on))
        return self.made(stand_in, value)

    def made(self, stand_in: Tensor, value: Tensor) -> Tensor:
        """The value, with the stand-in's derivative."""
        return instead(value, stand_in)

    def softmax(self, func: Callable[..., Any], args: Any, kwargs: Any, last: bool) -> Tensor:
        """The weights, to which no relevance is handed back."""
        with torch.no_grad():
            made = func(*args, **kwargs)
        return made if last or not args[0].requires_grad else _lost(made, "a softmax over tokens (linear attention)")

    def operation(self, word: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The operation's value, with its own derivative or a stand-in's; without one, its origin says so."""
        given = tensors_in([list(args), dict(kwargs)])
        carrying = [tensor for tensor in given if tensor.requires_grad]
        lost = any(origin(tensor).lost for tensor in given)
        if not carrying or (word in _MOVING and not lost):
            return func(*args, **kwargs)
        with torch.no_grad():
            value = func(*(a.detach() if isinstance(a, Tensor) else a for a in args), **kwargs)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        rule = _RULES.get(word)
        stand_in = rule(value, args, kwargs, carrying) if rule and (rule in (_gate, _sum) or not lost) else None
        return _lost(value, word) if stand_in is None else self.made(stand_in, value)


class Numbering(Carrying):
    """While entered, the values are relevance's stand-ins as well: one number a token, the same in all its channels.

    Show it an image of random numbers, equal in all colours. Attention with values that differ along the axis that it
    sums over is between places; along an axis of channels they are equal. between_places: that, by product.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.random = torch.Generator().manual_seed(0)
        self.between_places: list[bool] = []

    def product(self, product: Product, index: int) -> Tensor:
        """The product with random shares instead of the attention, the same for all heads."""
        one, other = self._shares(product), self._shares(product)
        change = (product.taken(one) - product.taken(other)).abs().max()
        self.between_places.append(bool(change > _ROUNDING * product.taken(one).abs().max()))
        return product.taken(one)

    def made(self, stand_in: Tensor, value: Tensor) -> Tensor:
        """The stand-in in memory of its own: what the network adds in place must not reach what it was made of."""
        return stand_in.clone()

    def _shares(self, product: Product) -> Tensor:
        weights = product.weights
        drawn = torch.rand(weights.shape[-2:], generator=self.random).to(weights)
        axis = -2 if product.args[-1] is weights else -1  # v @ A sums over the rows of A
        return (drawn / drawn.sum(dim=axis, keepdim=True)).expand_as(weights)


#: Largest change, relative to the largest number, that is rounding (of double precision, in a hundred layers).
_ROUNDING = 1e-9


def _lost(value: Tensor, word: str) -> Tensor:
    value = value.detach()
    value.origin = replace(_NOWHERE, lost=word)  # type: ignore[attr-defined]
    return value


def _unchanged(value: Tensor, args: Any, kwargs: Any, carrying: Sequence[Tensor]) -> Tensor | None:
    """Each place of the output has its relevance from the same place of the one input."""
    return carrying[0] if len(carrying) == 1 and carrying[0].shape == value.shape else None


def _gate(value: Tensor, args: Any, kwargs: Any, carrying: Sequence[Tensor]) -> Tensor | None:
    """The factor that has the output's shape, where the other is smaller or does not depend on the image."""
    whole = [tensor for tensor in carrying if tensor.shape == value.shape]
    others = [t for t in args if isinstance(t, Tensor) and t.shape == value.shape and _of_tokens(t)]
    return whole[0] if len(whole) == len(others) == 1 else None


def _sum(value: Tensor, args: Any, kwargs: Any, carrying: Sequence[Tensor]) -> Tensor | None:
    """All operands that depend on the image; without attention between two, the one that the other was made of."""
    operands = [tensor for tensor in args if isinstance(tensor, Tensor) and _of_tokens(tensor)]
    kept = [tensor for tensor in operands if not any(_corrects(tensor, other) for other in operands)]
    if any(origin(tensor).lost for tensor in kept):
        return None
    return sum((tensor.expand_as(value) for tensor in kept[1:]), kept[0].expand_as(value))


def _corrects(a: Tensor, b: Tensor) -> bool:
    """Whether a was made of b without attention."""
    return origin(a).mixed == origin(b).mixed and bool(origin(a).ancestors & origin(b).number)


def _linear(value: Tensor, args: Any, kwargs: Any, carrying: Sequence[Tensor]) -> Tensor | None:
    """Equal shares for the channels of the same token."""
    return args[0].mean(dim=-1, keepdim=True).expand_as(value)


def _convolution(function: Callable[..., Tensor]) -> Callable[..., Tensor | None]:
    def rule(value: Tensor, args: Any, kwargs: Any, carrying: Sequence[Tensor]) -> Tensor | None:
        """Equal shares for the values inside the image that each output reads."""
        x, ones = args[0], torch.ones_like(args[1])
        kwargs = {key: setting for key, setting in kwargs.items() if key != "bias"}
        return function(x, ones, None, *args[3:], **kwargs) / function(
            torch.ones_like(x[:1]), ones, None, *args[3:], **kwargs
        )

    return rule


_MATRIX_PRODUCTS = frozenset({"matmul", "rmatmul", "bmm", "einsum"})
#: Operations whose own derivative carries relevance: they move values, copy them, or take their mean or maximum.
_MOVING = frozenset(
    word
    for line in (
        "get reshape view view_as reshape_as flatten unflatten permute transpose swapaxes movedim expand expand_as",
        "squeeze unsqueeze unbind chunk split tensor_split getitem select narrow index_select gather cat concat stack",
        "roll flip pad contiguous clone to float double type_as repeat tile unfold fold mean sum amax max interpolate",
        "avg_pool1d avg_pool2d max_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d",
    )
    for word in line.split()
)
#: Of one tensor, place by place or token by token.
_EACH = (
    "relu relu6 leaky_relu prelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh softplus "
    "layer_norm rms_norm group_norm batch_norm instance_norm normalize dropout dropout1d dropout2d alpha_dropout clamp"
)
_Rule = Callable[[Tensor, Any, Any, Sequence[Tensor]], Tensor | None]
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(_EACH.split(), _unchanged),
    **dict.fromkeys(("add", "radd", "iadd"), _sum),
    **dict.fromkeys(("mul", "rmul", "imul", "multiply", "div", "truediv"), _gate),
    "linear": _linear,
    "conv1d": _convolution(F.conv1d),
    "conv2d": _convolution(F.conv2d),
}
