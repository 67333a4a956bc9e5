"""Let ``import torchvision`` succeed where its compiled operators cannot load.

The registry's torchvision wheel is built for CUDA; beside a CPU build of torch its operator library does not load, and
the import dies on an operator schema that nobody defined (pytorch/vision#9077). Models, transforms and data sets need
none of those operators. The finder below waits for the first import of torchvision; only if that import fails for this
reason does it define the two missing schemas and import again. Where torchvision is intact it does nothing.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

_MISSING = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _Repair(Loader):
    """torchvision's own loader, tried once more after the missing schemas are defined."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.library: Any = None  # the schemas vanish with this object, so it lives as long as the loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._execute(module)
        except RuntimeError as error:
            if _MISSING not in str(error):
                raise
            _forget_submodules()
            self._define_schemas()
            self._execute(module)

    def _execute(self, module: ModuleType) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Failed to load image Python extension")
            self.loader.exec_module(module)

    def _define_schemas(self) -> None:
        torch_library = importlib.import_module("torch.library")
        self.library = torch_library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            self.library.define(schema)


def _forget_submodules() -> None:
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]


class _Finder(MetaPathFinder):
    """Wraps the loader of the top-level package ``torchvision`` and of nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Repair(spec.loader)
        return spec


def install() -> None:
    """Put the finder in place (once). Imports neither torch nor torchvision."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
