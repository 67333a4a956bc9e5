"""Notice that a value was written into: cheap sums over its bits, taken when it is made and compared later.

A tensor's version counter would not do alone: writing through ``.data`` or through a NumPy view leaves it as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Stretches of a tensor that are summed by themselves, so that values which trade places are noticed as well.
STRETCHES = 16

Seal = tuple[int, ...]


class Memory(dict[Hashable, Any]):
    """A dictionary of values that are computed once and read by many; it knows which were changed since.

    A value is sealed as it enters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seals: dict[Hashable, Seal] = {}
        self._replaced: list[Hashable] = []

    def __setitem__(self, key: Hashable, value: Any) -> None:
        if key in self:
            self._replaced.append(key)
        super().__setitem__(key, value)
        self._seals[key] = seal(value)

    def changed(self) -> list[str]:
        """Names of the values that were written into, replaced or removed."""
        written = [key for key, known in self._seals.items() if key not in self or seal(self[key]) != known]
        return [_name(key) for key in dict.fromkeys([*self._replaced, *written])]


def seal(value: Any) -> Seal:
    """Numbers that change when any tensor or array inside `value` does (dataclasses and containers are entered)."""
    sums = [_sums(tensor) for tensor in tensors(value)]
    return tuple(number for each in sums for number in each)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor and array inside a value, in a fixed order."""
    if isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            yield torch.from_numpy(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name, None))


def _sums(tensor: Tensor) -> list[int]:
    """Sums, modulo 2^64, of the tensor's bits in words of eight bytes, stretch by stretch; and its shape."""
    if tensor.is_sparse or tensor.is_quantized:
        tensor = tensor.to_dense() if tensor.is_sparse else tensor.dequantize()
    if tensor.numel() == 0:
        return list(tensor.shape)
    flat = tensor.contiguous().reshape(-1)
    if flat.stride(0) != 1:  # a tensor of one number counts as contiguous whatever its stride is
        flat = flat.clone(memory_format=torch.contiguous_format)
    raw = flat.view(torch.uint8)
    whole = len(raw) // (8 * STRETCHES) * 8 * STRETCHES
    words = raw[:whole].clone() if raw.storage_offset() % 8 else raw[:whole]
    stretches = words.view(torch.int64).view(STRETCHES, -1).sum(dim=1) if whole else raw.new_zeros(1).long()
    rest = raw[whole:].long()
    return [*tensor.shape, *torch.cat([stretches, rest]).tolist()]


def _name(key: Hashable) -> str:
    """Evidence and keys of any kind in a few words."""
    if isinstance(key, tuple):
        return str(key[0]) if key else "a value"
    return key if isinstance(key, str) else type(key).__name__
