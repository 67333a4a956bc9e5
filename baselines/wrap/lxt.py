"""Attention-aware relevance propagation of LXT (Achtibat et al. 2024), for torchvision's Vision Transformers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dix.baselines.wrap.adapter import Adapter, Case, expect
from dix.extras import optional

#: Patches that LXT has for vision, by name: where they lie, and what they are called there.
PATCHES: Mapping[str, tuple[str, str]] = {"cp_LRP": ("lxt.efficient.models.vit_torch", "cp_LRP")}
#: Packages of LXT whose own import brings every language model that it knows, and a version of transformers for them.
_PACKAGES = ("lxt.efficient", "lxt.efficient.models")


@dataclass(frozen=True)
class Lxt(Adapter):
    """Gradient times input, once LXT has changed how gradients pass nonlinearities, normalisation and attention.

    patches: which of LXT's patches; cp_LRP lets no relevance pass the softmax of attention.
    arguments: conv_gamma and linear_gamma, of zennit's gamma rule for convolutions and linear layers, as LXT recommends
    for vision (0.25 and 0.05 in its example); without them, the plain rule (epsilon).

    LXT changes classes of torch; they are put back after each image.
    """

    library: ClassVar[str] = "lxt"
    patches: str = "cp_LRP"

    @property
    def name(self) -> str:
        """The patches, and whether the gamma rule is used."""
        return f"{self.patches}{' with gamma' if self.arguments else ''}"

    def check(self) -> None:
        """Raise ValueError where LXT has no such patches, or they have no such argument."""
        expect(self.patches, PATCHES, "patches")
        for argument in self.arguments:
            expect(argument, ("conv_gamma", "linear_gamma"), f"arguments of LXT's {self.patches}")
        patches_of(self.patches)

    def uses_layer(self) -> bool:
        """Relevance goes down to the pixels."""
        return False

    def lacks(self, network: nn.Module) -> str:
        """LXT patches one class of attention."""
        if any(isinstance(module, nn.MultiheadAttention) for module in network.modules()):
            return ""
        return "LXT patches nn.MultiheadAttention (torchvision's Vision Transformers), and the network has none"

    def attribute(self, case: Case) -> Tensor:
        """[1, 3, S, S] gradient times input."""
        with ExitStack() as stack:
            stack.enter_context(patched(self.patches))
            if self.arguments:
                stack.enter_context(self._gamma(case.network))
            score = case.network(case.image)[0, case.target]
            [gradient] = torch.autograd.grad(score, case.image)
        return (case.image * gradient).detach()

    @contextmanager
    def _gamma(self, network: nn.Module) -> Iterator[None]:
        """Zennit's gamma rule, with zennit's hooks changed by LXT."""
        rules, composites = optional("zennit.rules", "zennit"), optional("zennit.composites", "zennit")
        kinds = {"conv_gamma": nn.Conv2d, "linear_gamma": nn.Linear}
        pairs = [(kinds[name], rules.Gamma(value)) for name, value in self.arguments.items()]
        composite = composites.LayerMapComposite(pairs)
        hooks, part = optional("zennit.core", "zennit").BasicHook, _part("lxt.efficient.zennit_patches")
        with restored([hooks], ("forward", "backward")):
            part.monkey_patch_zennit()
            composite.register(network)
            try:
                yield
            finally:
                composite.remove()


@contextmanager
def patched(method: str) -> Iterator[None]:
    """LXT's patches in place."""
    found = patches_of(method)
    with restored(found, ("forward", "original_forward")):
        for kind, patch in found.items():
            patch(kind)
        yield


@contextmanager
def restored(classes: Any, names: tuple[str, ...]) -> Iterator[None]:
    """Attributes that classes have themselves are afterwards what they were before."""
    kept = [(kind, name, vars(kind).get(name)) for kind in classes for name in names]
    try:
        yield
    finally:
        for kind, name, value in kept:
            if value is not None:
                setattr(kind, name, value)
            elif name in vars(kind):
                delattr(kind, name)


def offered() -> list[str]:
    """Names of the patches, if LXT is installed."""
    _package()
    return list(PATCHES)


def patches_of(method: str) -> dict[type, Any]:
    """By class of torch, the function that patches it."""
    module, name = PATCHES[method]
    return dict(getattr(_part(module), name))


def _package() -> Any:
    return optional("lxt", "lxt")


def _part(name: str) -> Any:
    """A module of LXT, without importing the packages that it lies in."""
    root = Path(next(iter(_package().__path__)))
    for package in _PACKAGES:
        if package not in sys.modules:
            bare = ModuleType(package)
            bare.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
            sys.modules[package] = bare
    try:
        return importlib.import_module(name)
    finally:
        for package in _PACKAGES:
            if getattr(sys.modules.get(package), "__file__", None) is None:
                sys.modules.pop(package, None)
