"""The methods of PAIR's library `saliency`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import isclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dix.baselines.path import Reduction, check_options
from dix.baselines.wrap.adapter import Adapter, Case, expect, taken
from dix.extras import optional
from dix.passes import Score

#: What gives no map, and why.
NOT_OFFERED: Mapping[str, str] = {"CoreSaliency": "is what the others are made from"}
_HIDDEN = ("x_value", "call_model_function", "call_model_args", "segments", "base_attribution")
#: Arguments whose own arguments are given as a mapping, by the class that holds them.
_NESTED = {"extra_parameters": "XRAIParameters"}
#: What GradCam would do to its map, which the suite does itself.
_FIXED: Mapping[str, Mapping[str, bool]] = {"GradCam": {"should_resize": False, "three_dims": False}}


@dataclass(frozen=True)
class Saliency(Adapter):
    """One of `saliency.core`.

    method: its class, say GuidedIG. arguments: of its `GetMask`; a colour may stand for `x_baseline`. score: what is
    explained, the target's logit or probability. smoothed: the mean over noisy copies (`GetSmoothedMask`, whose
    arguments may be given, too).
    """

    library: ClassVar[str] = "saliency"
    method: str = "IntegratedGradients"
    score: Score = "probability"
    smoothed: bool = False

    @property
    def name(self) -> str:
        """The class, and whether it is smoothed."""
        return f"{self.method}{', smoothed' if self.smoothed else ''}"

    def check(self) -> None:
        """Raise ValueError where the library has no such class, or it has no such argument."""
        check_options(score=self.score)
        expect(self.method, offered(), "method")
        for argument in self.arguments:
            expect(argument, self._known(), f"arguments of saliency's {self.method}")

    def uses_layer(self) -> bool:
        """Only Grad-CAM does."""
        return "CONVOLUTION_LAYER_VALUES" in self._expected()

    def default_reduction(self) -> Reduction:
        """Absolute values of gradients; sums of what is hidden."""
        return "sum_abs" if "INPUT_OUTPUT_GRADIENTS" in self._expected() else "sum"

    def attribute(self, case: Case) -> Tensor:
        """[h, w] or [C, h, w] what the library gives."""
        core, made = _core(), offered()[self.method]()
        given = {name: self._value(name, value, case) for name, value in self.arguments.items()}
        given |= _FIXED.get(self.method, {})
        pixels = _last(case.image)[0]
        ask = made.GetSmoothedMask if self.smoothed else made.GetMask
        found = np.asarray(ask(pixels, _Model(case, self.score, core, self.uses_layer()), **given))
        values = torch.from_numpy(np.ascontiguousarray(found))
        return values.permute(2, 0, 1) if values.ndim == 3 else values

    def _value(self, name: str, value: Any, case: Case) -> Any:
        if name in _NESTED:
            return getattr(_core(), _NESTED[name])(**value)
        found = case.colour(value)
        return _last(found)[0] if isinstance(found, Tensor) else found

    def _known(self) -> dict[str, Any]:
        kind: Any = offered()[self.method]
        smooth = taken(kind.GetSmoothedMask, _HIDDEN) if self.smoothed else {}
        return {**taken(kind.GetMask, (*_HIDDEN, *_FIXED.get(self.method, {}))), **smooth}

    def _expected(self) -> list[str]:
        """The keys that the class asks the model for; XRAI asks through Integrated Gradients."""
        return list(getattr(offered()[self.method], "expected_keys", ()))


class _Model:
    """The model as the library asks it: arrays [M, H, W, 3] in, a dictionary of arrays out."""

    def __init__(self, case: Case, score: Score, core: Any, layer: bool) -> None:
        self.case, self.score, self.core, self.layer = case, score, core, layer

    def __call__(
        self, images: np.ndarray, call_model_args: object = None, expected_keys: object = None
    ) -> dict[str, np.ndarray]:
        """What the library may want to know of images."""
        like = self.case.image
        leaf = torch.from_numpy(np.ascontiguousarray(images)).to(like).permute(0, 3, 1, 2).detach().requires_grad_()
        seen: list[Tensor] = []
        differentiated = expected_keys != [self.core.OUTPUT_LAYER_VALUES]
        with torch.set_grad_enabled(differentiated), self._watching(seen):
            logits = self.case.network(leaf)
        values = self.case.classifier.probabilities(logits) if self.score == "probability" else logits
        score = values[:, self.case.target]
        if not differentiated:
            return {self.core.OUTPUT_LAYER_VALUES: score.cpu().numpy()}
        wanted = [leaf, *seen]
        found = torch.autograd.grad(score.sum(), wanted)
        layer = dict(
            zip(("CONVOLUTION_LAYER_VALUES", "CONVOLUTION_OUTPUT_GRADIENTS"), (*seen, *found[1:]), strict=False)
        )
        answers = {"INPUT_OUTPUT_GRADIENTS": _last(found[0]), "OUTPUT_LAYER_VALUES": score.detach().cpu().numpy()}
        answers |= {name: _last(value) for name, value in layer.items()}
        return {getattr(self.core, name): value for name, value in answers.items()}

    def _watching(self, seen: list[Tensor]) -> Any:
        if not self.layer:
            return nullcontext()
        return self.case.maps.register_forward_hook(lambda _m, _a, maps: seen.append(maps))


def _last(images: Tensor) -> np.ndarray:
    """[M, H, W, C] of [M, C, H, W]."""
    return images.detach().permute(0, 2, 3, 1).cpu().numpy()


def _core() -> Any:
    return optional("saliency.core", "saliency")


def offered() -> dict[str, type]:
    """The library's methods by name."""
    core = _core()
    classes = {name: kind for name, kind in vars(core).items() if isclass(kind) and name not in NOT_OFFERED}
    return {name: kind for name, kind in classes.items() if issubclass(kind, core.CoreSaliency)}
