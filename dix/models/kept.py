"""What a network keeps of one pass for the next, forgotten before every pass.

Some networks keep tensors that they made of their weights: in evaluation mode, timm's LeViT, EfficientFormer, TinyViT
and EfficientViT look their position biases up once. Where weights change afterwards (layers are randomised, a state
dict is loaded) or are others for one pass (double precision), the network would go on with what it made of the old
ones, and nobody would see it.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from torch import nn

from dix.split import tensors_in

#: Attributes that torch gives every module and looks after itself, and a forward that this project puts there.
_TORCHS = frozenset(vars(nn.Module())) | {"forward"}
#: Containers that are written into; everything else is replaced.
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)

#: By module, its own attributes as they are at one time.
Attributes = Mapping[str, Mapping[str, object]]


class _Kept(NamedTuple):
    """A module that keeps tensors; before: its attributes that a pass changes, as they were; new: those it adds."""

    module: str
    before: Mapping[str, object]
    new: tuple[str, ...]


def attributes(network: nn.Module) -> Attributes:
    """The attributes of every module that are neither weights, buffers nor parts of it."""
    return {
        name: {key: _copied(value) for key, value in vars(module).items() if key not in _TORCHS}
        for name, module in network.named_modules()
    }


def forget_before_passes(network: nn.Module, before: Attributes) -> list[str]:
    """Let every pass begin with modules as they were `before` the first pass, where that kept tensors; their names.

    before: `attributes` of the network, which has run once since. A module that keeps tensors in that pass is put back
    as a whole, since it may note elsewhere that it has them.
    """
    kept = tuple(_keeping(network, before))
    if kept:
        network.register_forward_pre_hook(partial(_forget, kept))
    return [one.module for one in kept]


def _keeping(network: nn.Module, before: Attributes) -> Iterator[_Kept]:
    for name, now in attributes(network).items():
        then = before.get(name, {})
        changed = [key for key, value in now.items() if key not in then or not _is_same(then[key], value)]
        if any(tensors_in(now[key]) for key in changed):
            yield _Kept(name, {k: then[k] for k in changed if k in then}, tuple(k for k in changed if k not in then))


def _forget(kept: tuple[_Kept, ...], network: nn.Module, _args: object) -> None:
    for module, before, new in kept:
        values = vars(network.get_submodule(module))
        values.update({key: _copied(value) for key, value in before.items()})
        for key in new:
            values.pop(key, None)


def _copied(value: object) -> object:
    return value.copy() if isinstance(value, _CONTAINERS) else value


def _is_same(a: object, b: object) -> bool:
    """Whether an attribute is what it was: the very object, an equal number or text, or a container of the same."""
    if a is b or (isinstance(a, bool | int | float | str) and type(a) is type(b) and a == b):
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return isinstance(a, set) and isinstance(b, set) and a == b
