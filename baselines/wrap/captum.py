"""Captum's attributions (Kokhlikyan et al. 2020)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import isabstract, isclass, signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dix.baselines.path import Reduction
from dix.baselines.wrap.adapter import Adapter, Case, activations_without, expect, grid_of, lacks_relu, taken
from dix.extras import optional

#: Attributions that give no map of one image, and why.
NOT_OFFERED: Mapping[str, str] = {
    "FeaturePermutation": "permutes the images of a batch, so that a map would depend on its neighbours",
    "LayerFeaturePermutation": "permutes the images of a batch, so that a map would depend on its neighbours",
    "DataLoaderAttribution": "explains a whole data set",
    "LimeBase": "needs functions of your own; Lime has them",
}
#: Arguments that an adapter gives itself, or that are code.
_HIDDEN = (
    "forward_func", "model", "layer", "device_ids", "inputs", "target", "additional_forward_args", "grad_kwargs",
    "return_convergence_delta", "return_input_shape", "show_progress", "verbose", "interpretable_model",
    "similarity_func", "perturb_func", "custom_attribution_func", "memory_efficient",
)  # fmt: skip
#: Squares a side whose orders can be run through one by one: 4! = 24.
MOST_CELLS = 2
_RELU = ("GuidedBackprop", "Deconvolution", "GuidedGradCam")


@dataclass(frozen=True)
class Captum(Adapter):
    """One of `captum.attr`.

    attribution: its class, say Occlusion. arguments: of the class and of its `attribute`. Colours ("mean_colour",
    "black", "white") may stand for `baselines`, a class for NoiseTunnel's `attribution_method`. Where captum demands
    `baselines`, two images of the mean colour stand for them.
    cells: methods that change features change squares of a grid of so many a side, where captum would change single
    values; Occlusion's window is such a square. Methods on layers change all channels of such squares together.
    """

    library: ClassVar[str] = "captum"
    attribution: str = "IntegratedGradients"
    cells: int = 7

    @property
    def name(self) -> str:
        """The class."""
        return self.attribution

    def check(self) -> None:
        """Raise ValueError where captum has no such attribution, or it has no such argument."""
        kinds = offered()
        if self.attribution in NOT_OFFERED:
            raise ValueError(f"attribution: {self.attribution} {NOT_OFFERED[self.attribution]}")
        expect(self.attribution, kinds, "attribution")
        if self.cells < 1 or (self.attribution == "ShapleyValues" and self.cells > MOST_CELLS):
            most = (
                f"1 or {MOST_CELLS}, since it runs through all orders of the squares,"
                if self.cells > 1
                else "1 or more"
            )
            raise ValueError(f"cells: expected {most} got {self.cells}")
        known = {**self._made_with(), **self._called_with()}
        for argument in self.arguments:
            expect(argument, known, f"arguments of captum's {self.attribution}")

    def uses_layer(self) -> bool:
        """Whether the class is made with a layer."""
        return any("layer" in signature(kind).parameters for kind in self._kinds())

    def default_reduction(self) -> Reduction:
        """Absolute values of pixels' gradients; sums of what layers and changed features add."""
        attr = _attr()
        return "sum" if self.uses_layer() or issubclass(self._kinds()[-1], attr.PerturbationAttribution) else "sum_abs"

    def lacks(self, network: nn.Module) -> str:
        """Rules that captum has for some modules only, and lets the plain gradient pass where it has none."""
        names = [kind.__name__ for kind in self._kinds()]
        if any(name in _RELU for name in names):
            return lacks_relu(network)
        if any("DeepLift" in name for name in names):
            rules = importlib.import_module("captum.attr._core.deep_lift").SUPPORTED_NON_LINEAR
            lacking = activations_without(network, rules)
            return f"captum's DeepLIFT has no rule for {', '.join(lacking)}" if lacking else ""
        if any(name.endswith("LRP") for name in names):
            return _without_lrp(network)
        return ""

    def attribute(self, case: Case) -> Tensor:
        """What captum gives, [1, C, h, w]."""
        made = self._make(self._kinds(), case)
        given = {name: case.colour(self.arguments[name]) for name in self._called_with() if name in self.arguments}
        wanted = self._called_with()
        for name, default in _DEFAULTS.items():
            if name in wanted and name not in given and self._needs(name, wanted[name]):
                given[name] = default(case, self.cells)
        target = {} if self.attribution == "LayerActivation" else {"target": case.target}
        found: Any = made.attribute(case.image, **target, **given)
        return found[0] if isinstance(found, tuple) else found

    def _needs(self, name: str, default: Any) -> bool:
        """Whether a default of captum's is replaced: not that of baselines, and not a window's own step."""
        if name == "strides":
            return "sliding_window_shapes" not in self.arguments
        return name != "baselines" or default is _EMPTY

    def _kinds(self) -> list[type]:
        """The class, and the one that it is made with (NoiseTunnel's)."""
        kind = offered()[self.attribution]
        if "attribution_method" not in signature(kind).parameters:
            return [kind]
        inner = str(self.arguments.get("attribution_method", "Saliency"))
        expect(inner, offered(), f"attribution_method of captum's {self.attribution}")
        return [kind, offered()[inner]]

    def _make(self, kinds: list[type], case: Case) -> Any:
        kind, *inner = kinds
        if inner:
            return kind(self._make(inner, case))
        layers = [case.maps] if "layer" in signature(kind).parameters else []
        own = {name: self.arguments[name] for name in taken(kind, _HIDDEN) if name in self.arguments}
        return kind(case.network, *layers, **own)

    def _made_with(self) -> dict[str, Any]:
        return {name: value for kind in self._kinds() for name, value in taken(kind, _HIDDEN).items()}

    def _called_with(self) -> dict[str, Any]:
        functions: Iterable[Callable[..., Any]] = [kind.attribute for kind in reversed(self._kinds())]  # type: ignore[attr-defined]
        return {name: value for function in functions for name, value in taken(function, _HIDDEN).items()}


_EMPTY = signature(lambda x: x).parameters["x"].empty
#: What stands for arguments that nobody gave, of one image and the number of cells.
_DEFAULTS: Mapping[str, Callable[[Case, int], Any]] = {
    "baselines": lambda case, _: torch.zeros_like(case.image).repeat(2, 1, 1, 1),
    "feature_mask": lambda case, cells: grid_of(case.image, cells),
    "layer_mask": lambda case, cells: _places(case, cells),
    "sliding_window_shapes": lambda case, cells: (3, *(-(-side // cells) for side in case.image.shape[-2:])),
    "strides": lambda case, cells: (3, *(-(-side // cells) for side in case.image.shape[-2:])),
}


def _places(case: Case, cells: int) -> Tensor:
    """[1, 1, h, w] the squares of a grid over the layer's places."""
    seen: list[Tensor] = []
    with torch.no_grad(), case.maps.register_forward_hook(lambda _m, _a, maps: seen.append(maps)):
        case.network(case.image)
    return grid_of(seen[0], min(cells, *seen[0].shape[-2:]))


def _attr() -> Any:
    return optional("captum.attr", "captum")


def offered() -> dict[str, type]:
    """Captum's attributions that explain a class of an image, by name."""
    attr = _attr()
    return {name: kind for name in attr.__all__ if _explains_images(kind := getattr(attr, name), attr)}


def _explains_images(found: Any, attr: Any) -> bool:
    if not isclass(found) or not issubclass(found, attr.Attribution) or isabstract(found):
        return False
    kind: Any = found
    own = callable(getattr(kind, "attribute", None)) and "inputs" in signature(kind.attribute).parameters
    words = ("LLM", "Neuron")  # texts, and units instead of classes
    return own and kind.__name__ not in NOT_OFFERED and not any(word in kind.__name__ for word in words)


def _without_lrp(network: nn.Module) -> str:
    lrp = importlib.import_module("captum.attr._core.lrp")
    known = (*lrp.SUPPORTED_LAYERS_WITH_RULES, *lrp.SUPPORTED_NON_LINEAR_LAYERS)
    leaves = {type(module) for module in network.modules() if not list(module.children())}
    lacking = sorted(kind.__name__ for kind in leaves if kind not in known)
    return f"captum's LRP has no rule for {', '.join(lacking)}" if lacking else ""
