"""Whether two networks are the same as far as their answers go: classes and their code, attributes, weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from enum import Enum
from functools import partial
from inspect import isbuiltin, isfunction
from typing import Any

import torch
from torch import Tensor, nn

#: Attributes of a module inside one another that are followed.
DEPTH = 8
#: What torch keeps of a module beside its own attributes: weights and parts are gone through for themselves.
_HELD = ("_parameters", "_buffers", "_modules")
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.memory_format, type(None))


class Unlike(Exception):
    """A network holds something of which it is not known when two of it are equal."""


def sketch(network: nn.Module) -> Hashable:
    """Equal for two networks only if they compute the same, in this process; holds none of their weights.

    Left out is only what code reads of its own modules' global variables.

    Raises Unlike where that cannot be told: a function made inside another, a bound method, parts in each other.
    """
    first: dict[nn.Module, str] = {}
    modules = []
    for name, module in network.named_modules(remove_duplicate=False):
        same = first.setdefault(module, name)
        modules.append((name, same) if same != name else (name, *_code(type(module)), *_attributes(module)))
    return tuple(modules), digest(network.named_parameters(), network.named_buffers())


def digest(*tensors: Iterator[tuple[str, Tensor]]) -> str:
    """A hash of named tensors: their names, kinds, devices and bytes."""
    found = hashlib.sha256()
    for name, tensor in (pair for group in tensors for pair in group):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device};".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _code(kind: type) -> Iterator[Hashable]:
    """A class, and the functions that it and its bases have now: somebody may have put others in."""
    yield kind
    for each in kind.__mro__:
        if each not in (nn.Module, object):
            yield frozenset((name, value) for name, value in vars(each).items() if isfunction(value))


def _attributes(module: nn.Module) -> Iterator[Hashable]:
    for name, value in vars(module).items():
        if name.endswith("_hooks"):  # by a running number that says nothing
            yield name, tuple(_comparable(hook, DEPTH) for hook in value.values())
        elif name not in _HELD:
            yield name, _comparable(value, DEPTH)


def _comparable(value: Any, depth: int) -> Hashable:
    """A value's own, in a form that is equal only for equal ones. Raises Unlike."""
    kind = type(value)
    alone = isinstance(value, type | Enum) or (isfunction(value) and value.__closure__ is None) or isbuiltin(value)
    if alone or kind in _PLAIN:
        return kind, value
    found = next((into for kinds, into in _FORMS if isinstance(value, kinds)), _held)
    if not depth:
        raise Unlike(f"{kind.__name__} inside too many others")
    return kind, tuple(_comparable(part, depth - 1) for part in found(value))


def _held(value: Any) -> tuple[Any, ...]:
    """The attributes of an object of another class; one without, or whose code may keep some elsewhere, is unlike."""
    if isinstance(value, nn.Module) or not hasattr(value, "__dict__") or callable(value):
        raise Unlike(f"{type(value).__name__} cannot be compared")
    return _pairs(vars(value))


def _pairs(value: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(part for pair in value.items() for part in pair)


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], tuple[Any, ...]]], ...] = (
    (Tensor, lambda value: (digest(iter([("", value)])),)),
    ((tuple, list), tuple),
    ((set, frozenset), lambda value: tuple(sorted(value, key=repr))),
    (Mapping, _pairs),
    (partial, lambda value: (value.func, value.args, value.keywords)),
)
