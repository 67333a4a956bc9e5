"""What torch's operations do with relevance that comes back through them, for methods that change backward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Operation = Callable[..., Any]


def forms(*names: str) -> set[Operation]:
    """The functions and methods of torch by which the operations of these names are called."""
    return {getattr(owner, name) for owner in (torch, Tensor, F) for name in names if hasattr(owner, name)}


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Every tensor among the values, and in lists and tuples among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def explained(values: Iterable[Any]) -> bool:
    """Whether there is relevance to propagate to one of the values."""
    return any(value.requires_grad for value in tensors(values))


def no_rule(func: Operation) -> NotImplementedError:
    """The error that names an operation without a rule."""
    return NotImplementedError(f"relevance propagation has no rule for {getattr(func, '__qualname__', func)}")


#: Operations that move values about or use one twice: their derivative hands relevance on as it should.
PASSING = forms(
    *("reshape", "view", "view_as", "flatten", "permute", "transpose", "expand", "squeeze", "unsqueeze"),
    *("unbind", "chunk", "split", "cat", "__getitem__", "select", "clone", "contiguous", "unflatten"),
)
#: Operations whose other operands give no more than a shape or a type, and those that make something of a shape alone.
SHAPED = forms("expand_as", "view_as", "reshape_as", "type_as")
MADE = forms("zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full")
