"""The class activation maps of pytorch-grad-cam (Gildenblat et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import isclass, signature
from typing import Any, ClassVar

import numpy as np
from torch import nn

from dix.baselines.wrap.adapter import Adapter, Case, expect, taken
from dix.extras import optional

#: What gives no map of a class, and why.
NOT_OFFERED: Mapping[str, str] = {
    "DeepFeatureFactorization": "finds concepts, and explains no class",
    "GuidedBackpropReLUModel": "is captum's GuidedBackprop, for a model alone",
}
_HIDDEN = ("model", "target_layers", "reshape_transform", "ablation_layer", "input_tensor", "targets", "target_idx")


@dataclass(frozen=True)
class PytorchGradCam(Adapter):
    """One of pytorch-grad-cam's classes, at one layer.

    cam: its class, say EigenGradCAM. arguments: of the class and of its call; a class may stand for `base_method`.
    Tokens are laid out as the grid that they come from; AblationCAM changes these and leaves class tokens alone. As in
    the library, maps are cut off below zero, enlarged to
    the image and scaled to [0, 1].
    """

    library: ClassVar[str] = "grad-cam"
    cam: str = "GradCAM"

    @property
    def name(self) -> str:
        """The class."""
        return self.cam

    def check(self) -> None:
        """Raise ValueError where the library has no such class, or it has no such argument."""
        if self.cam in NOT_OFFERED:
            raise ValueError(f"cam: {self.cam} {NOT_OFFERED[self.cam]}")
        expect(self.cam, offered(), "cam")
        if "base_method" in self.arguments:
            expect(str(self.arguments["base_method"]), offered(), f"base_method of {self.cam}")
        for argument in self.arguments:
            expect(argument, {**self._made_with(), **self._called_with()}, f"arguments of grad-cam's {self.cam}")

    def uses_layer(self) -> bool:
        """All explain a layer, but FullGrad, which takes the biases of all layers."""
        return self.cam != "FullGrad"

    def lacks(self, network: nn.Module) -> str:
        """FullGrad knows the biases of two classes of modules."""
        if self.cam != "FullGrad":
            return ""
        known = (nn.Conv2d, nn.BatchNorm2d)
        biased = [module for module in network.modules() if getattr(module, "bias", None) is not None]
        others = {type(module).__name__ for module in biased[:-1] if type(module) not in known}
        return f"grad-cam's FullGrad leaves out the biases of {', '.join(sorted(others))}" if others else ""

    def attribute(self, case: Case) -> np.ndarray:
        """[1, S, S] what the library gives."""
        kinds = offered()
        made_with = {name: self.arguments[name] for name in self._made_with() if name in self.arguments}
        if "base_method" in made_with:
            made_with["base_method"] = kinds[made_with["base_method"]]
        called_with = {name: self.arguments[name] for name in self._called_with() if name in self.arguments}
        case.network.requires_grad_(True)  # some differentiate twice, or show the network images of their own
        made = kinds[self.cam](case.network, [case.maps] if self.uses_layer() else [], **made_with)
        with made if hasattr(made, "__enter__") else nullcontext():
            return np.asarray(made(case.image, **self._target(case), **called_with))

    def _target(self, case: Case) -> dict[str, Any]:
        """The class to explain, as the method takes it: some compare it with others of their choice."""
        if "target_idx" in signature(offered()[self.cam].forward).parameters:  # type: ignore[attr-defined]
            return {"target_idx": case.target}
        targets = optional("pytorch_grad_cam.utils.model_targets", "grad-cam")
        return {"targets": [targets.ClassifierOutputTarget(case.target)]}

    def _made_with(self) -> dict[str, Any]:
        return taken(offered()[self.cam], (*_HIDDEN, "tta_transforms", "detach"))

    def _called_with(self) -> dict[str, Any]:
        kind: Any = offered()[self.cam]
        return {**taken(kind.__call__, _HIDDEN), **taken(kind.forward, _HIDDEN)}


def offered() -> dict[str, type]:
    """The library's class activation maps by name: every class that is made with layers."""
    package = optional("pytorch_grad_cam", "grad-cam")
    classes = {name: kind for name, kind in vars(package).items() if isclass(kind) and name not in NOT_OFFERED}
    made = {name: kind for name, kind in classes.items() if "target_layers" in signature(kind).parameters}
    return {name: kind for name, kind in made.items() if hasattr(kind, "forward")}
