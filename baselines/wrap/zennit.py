"""Layer-wise relevance propagation and its relatives in zennit (Anders et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dix.baselines.path import Reduction
from dix.baselines.wrap.adapter import Adapter, Case, expect, lacks_relu, taken
from dix.extras import optional

_HIDDEN = (
    "model", "composite", "attr_output", "create_graph", "retain_graph", "baseline_fn", "occlusion_fn", "layer_map",
    "first_map", "canonizers", "low", "high",
)  # fmt: skip
#: Composites that only change what passes ReLUs: the result is a gradient.
_GRADIENTS = ("DeconvNet", "GuidedBackprop", "BetaSmooth")
#: The attributor that asks for the score of altered images, where the others ask for a gradient of it.
OCCLUDING = "Occlusion"
ATTRIBUTORS = ("Gradient", "SmoothGrad", "IntegratedGradients", OCCLUDING)


@dataclass(frozen=True)
class Zennit(Adapter):
    """One of zennit's composites with one of its attributors.

    composite: its class, say EpsilonPlusFlat; "none": the attributor alone. attributor: Gradient, SmoothGrad,
    IntegratedGradients or Occlusion. arguments: of both. Batch normalisation directly behind a layer is merged into it;
    the lowest and highest pixel of EpsilonGammaBox are black and white.

    Zennit has no rules for attention and for layer normalisation: there the plain gradient passes.
    """

    library: ClassVar[str] = "zennit"
    composite: str = "EpsilonPlusFlat"
    attributor: str = "Gradient"

    @property
    def name(self) -> str:
        """Composite and attributor."""
        other = "" if self.attributor == "Gradient" and self.composite != "none" else self.attributor
        return " with ".join(part for part in (self.composite.replace("none", ""), other) if part)

    def check(self) -> None:
        """Raise ValueError where zennit has no such composite or attributor, or they have no such argument."""
        expect(self.composite, (*offered(), "none"), "composite")
        expect(self.attributor, ATTRIBUTORS, "attributor")
        known = {**self._of_composite(), **self._of_attributor()}
        for argument in self.arguments:
            expect(argument, known, f"arguments of zennit's {self.name}")

    def uses_layer(self) -> bool:
        """Relevance goes down to the pixels."""
        return False

    def default_reduction(self) -> Reduction:
        """Absolute values of gradients, sums of relevance."""
        return "sum_abs" if self.composite in (*_GRADIENTS, "none") and self.attributor != OCCLUDING else "sum"

    def lacks(self, network: nn.Module) -> str:
        """Rules for ReLU need some."""
        return lacks_relu(network) if self.composite in _GRADIENTS else ""

    def attribute(self, case: Case) -> Tensor:
        """[1, 3, S, S] relevance of the pixels for the target's output, which begins with 1."""
        attributors = optional("zennit.attribution", "zennit")
        own = {name: self.arguments[name] for name in self._of_attributor() if name in self.arguments}
        chosen = torch.zeros(1, case.network(case.image.detach()).shape[1]).to(case.image)
        chosen[0, case.target] = 1
        output = (lambda logits: logits * chosen) if self.attributor == OCCLUDING else chosen
        kind = getattr(attributors, self.attributor)
        with kind(model=case.network, composite=self._made(case), **own) as attributor:
            _, relevance = attributor(case.image.detach(), output)
        return relevance

    def _made(self, case: Case) -> Any:
        if self.composite == "none":
            return None
        given = {name: self.arguments[name] for name in self._of_composite() if name in self.arguments}
        parameters = taken(offered()[self.composite])
        given |= {name: make(case) for name, make in _MADE.items() if name in parameters}
        return offered()[self.composite](**given)

    def _of_composite(self) -> dict[str, Any]:
        return {} if self.composite == "none" else taken(offered()[self.composite], _HIDDEN)

    def _of_attributor(self) -> dict[str, Any]:
        return taken(getattr(optional("zennit.attribution", "zennit"), self.attributor), _HIDDEN)


def _pixels(level: str) -> Callable[[Case], Tensor]:
    return lambda case: case.colour(level)


def _merging(case: Case) -> list[Any]:
    """Batch normalisation merged into the layer before it."""
    return [optional("zennit.canonizers", "zennit").SequentialMergeBatchNorm()]


#: Arguments of composites that follow from the image or the network.
_MADE: Mapping[str, Callable[[Case], Any]] = {"low": _pixels("black"), "high": _pixels("white"), "canonizers": _merging}


def offered() -> dict[str, type]:
    """Zennit's own composites by the name of their class."""
    composites = optional("zennit.composites", "zennit").COMPOSITES
    return {kind.__name__: kind for kind in composites.values()}
