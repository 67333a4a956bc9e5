"""Record a pass for gradients by what goes in, and keep nothing that only gradients by weights would need.

Autograd keeps what convolutions, batch norms and poolings are given, though on the way back, with frozen weights, it
asks for its shape alone; and of ReLUs it keeps numbers, of which it asks only whether they were clipped. Both are put
down as such here: a pass of a ResNet then holds an eighth of the memory. The same operations run on the same numbers,
so that every value and every gradient stays what it is, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

#: Numbers in a function's input below which it is recorded as ever: what is saved would not pay for the bookkeeping.
LEAST = 2**18
#: Puts down a tensor that autograd asks to keep.
Pack = Callable[[Tensor], Any]


@dataclass(frozen=True)
class _Shape:
    """A tensor whose numbers are not asked for."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def tensor(self) -> Tensor:
        """One of the same shape and order in memory, with whatever numbers lie there."""
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class _Clipped:
    """What a ReLU returned, of which is asked where it is nought. where: the places."""

    where: Tensor
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """One that is nought at the same places."""
        nought, one = (torch.tensor(value, dtype=self.dtype, device=self.where.device) for value in (0, 1))
        return torch.where(self.where, nought, one)


def _unpacked(kept: Any) -> Any:
    return kept.tensor() if isinstance(kept, _Shape | _Clipped) else kept


def _whole(saved: Tensor) -> Any:
    return saved


def _shape_of(given: Tensor) -> Pack:
    """Puts down the shape of `given`, and everything else as it is; does not hold on to it."""
    place = given.data_ptr(), tuple(given.shape), given.stride()

    def pack(saved: Tensor) -> Any:
        if (saved.data_ptr(), tuple(saved.shape), saved.stride()) != place:
            return saved
        return _Shape(place[1], place[2], saved.dtype, saved.device)

    return pack


def _convolution(z: Tensor, weight: Tensor, *_: Any, **__: Any) -> Pack:
    return _whole if weight.requires_grad else _shape_of(z)


def _batch_norm(
    z: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    *_: Any,
    **__: Any,
) -> Pack:
    frozen = mean is not None and not training and not (weight is not None and weight.requires_grad)
    return _shape_of(z) if frozen else _whole


def _pooling(z: Tensor, *_: Any, **__: Any) -> Pack:
    return _shape_of(z)


def _relu(*_: Any, **__: Any) -> Pack:
    return lambda saved: _Clipped(saved <= 0, saved.dtype)


#: By function, how what autograd keeps of a call is put down; given the call's arguments.
PACKS: Mapping[Callable[..., Any], Callable[..., Pack]] = {
    F.conv2d: _convolution,
    F.batch_norm: _batch_norm,
    torch.max_pool2d: _pooling,
    F.relu: _relu,
    torch.relu: _relu,
}


class Lean(TorchFunctionMode):
    """While active, what is recorded takes a fraction of the memory; see the module."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in PACKS or not args or not args[0].requires_grad or args[0].numel() < LEAST:
            return func(*args, **kwargs)
        with saved_tensors_hooks(PACKS[func](*args, **kwargs), _unpacked):
            return func(*args, **kwargs)
