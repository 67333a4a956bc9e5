"""Networks whose weights are all random, and large enough for places and tokens to differ."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dix.classifier import prepare
from dix.models.sources import seeded_initialisation


def seeded(build: Callable[[], nn.Module], std: float = 0.15) -> nn.Module:
    """What `build` makes, ready to be explained; its weights do not depend on what was drawn before."""
    with seeded_initialisation(0):
        network = build()
        for name, value in network.named_parameters():
            if value.ndim > 1 and "norm" not in name:
                nn.init.normal_(value, std=std)
            elif not value.any() and "bias" not in name:
                nn.init.ones_(value)
    return prepare(network)
