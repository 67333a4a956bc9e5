"""A plain function as a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dix.baselines.wrap.adapter import Adapter, Case


def _none(model: Any, images: Tensor, targets: Tensor) -> Tensor:
    raise ValueError("function: name one, as in my_package.my_maps")


@dataclass(frozen=True)
class Function(Adapter):
    """A function f(model, images, targets, **arguments) -> maps.

    model: a copy of the network, in evaluation mode, its parameters frozen. images: [1, 3, S, S] normalised, as the
    network takes them; they require a gradient. targets: [1] the outputs to explain. maps: a tensor or an array
    [1, h, w], or [1, C, h, w], whose channels are summed unless `reduction` says otherwise.
    function: in YAML its dotted name. arguments: whatever else it takes.
    """

    library: ClassVar[str] = "function"
    function: Callable[..., Any] = _none

    @property
    def name(self) -> str:
        """The function's."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def check(self) -> None:
        """Raise ValueError where it cannot be called."""
        if not callable(self.function) or self.function is _none:
            raise ValueError("function: expected one, in YAML by its dotted name, as in my_package.my_maps")

    def uses_layer(self) -> bool:
        """Whatever the function does is its own business."""
        return False

    def attribute(self, case: Case) -> Tensor:
        """What the function gives for one image."""
        target = torch.tensor([case.target], device=case.image.device)
        found = self.function(case.network, case.image, target, **self.arguments)
        values = torch.from_numpy(np.ascontiguousarray(found)) if isinstance(found, np.ndarray) else found
        if not isinstance(values, Tensor) or values.ndim not in (3, 4) or len(values) != 1:
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{self.label}: expected maps [1, h, w], got {got}")
        return values[0]
