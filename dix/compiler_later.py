"""Keep torch's compiler out of a start: torchvision and timm import it for functions that hardly anybody calls.

It brings a system of computer algebra with it, and takes as long as torch itself. torchvision's `roi_align` wants one
function of it for boxes on a GPU, timm a decorator for one class. While those two modules load, stand-ins answer, which
import the compiler when they are first called; what is computed stays the same. Where a module wants more than its
stand-in has, or the compiler is there already, it is loaded as if this file did not exist.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

_COMPILER, _ASKED, _FUNCTION = "torch._dynamo", "torch._dynamo.utils", "is_compile_supported"


@contextmanager
def _without_support() -> Iterator[None]:
    """A stand-in for the module that says whether a device can be compiled for."""
    made = ModuleType(_ASKED)
    setattr(made, _FUNCTION, lambda device: getattr(importlib.import_module(_ASKED), _FUNCTION)(device))
    sys.modules[_ASKED] = made
    try:
        yield
    finally:
        del sys.modules[_ASKED]


@contextmanager
def _without_disabling() -> Iterator[None]:
    """A stand-in for the decorator that keeps a function from being compiled."""
    compiler: Any = importlib.import_module("torch.compiler")
    kept = compiler.disable
    compiler.disable = _disabled_later
    try:
        yield
    finally:
        compiler.disable = kept


def _disabled_later(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which is kept from being compiled when it is first called."""

    @functools.lru_cache(maxsize=1)
    def real() -> Callable[..., Any]:
        made: Callable[..., Any] = importlib.import_module("torch.compiler").disable(function)
        return made

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return real()(*arguments, **named)

    return call


class _Without(Loader):
    """A module's own loader, with a stand-in in the compiler's place for as long as it runs."""

    def __init__(self, loader: Loader, stand_in: Callable[[], AbstractContextManager[None]]) -> None:
        self.loader = loader
        self.stand_in = stand_in

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if _COMPILER in sys.modules:
            return self.loader.exec_module(module)
        try:
            with self.stand_in():
                self.loader.exec_module(module)
        except (ImportError, AttributeError, TypeError):  # this version wants something else
            self.loader.exec_module(module)


#: By the module that asks for the compiler, the stand-in that it gets.
_ASKING: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "torchvision.ops.roi_align": _without_support,
    "timm.layers.typing": _without_disabling,
}


class _Finder(MetaPathFinder):
    """Wraps the loaders of the modules that ask for the compiler, and of nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _ASKING:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Without(spec.loader, _ASKING[fullname])
        return spec


def install() -> None:
    """Put the finder in place (once). Imports neither torch nor torchvision nor timm."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
