"""What a network's logits are probabilities of: one of all classes, or each class for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from torch import Tensor

#: "softmax": exactly one class is there; "sigmoid": each class is there or not (a multi-label head).
Probability = Literal["softmax", "sigmoid"]

#: By name, the probabilities [..., K] of logits [..., K].
PROBABILITIES: Mapping[Probability, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"softmax": lambda logits: logits.softmax(dim=-1), "sigmoid": lambda logits: logits.sigmoid()}
)


def check_probability(name: str) -> None:
    """Raise ValueError for a name that is not known."""
    if name not in PROBABILITIES:
        raise ValueError(f"model.probability: expected {' or '.join(PROBABILITIES)}, got {name!r}")
