"""A linear class head on a standardised embedding, and the small file that holds it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dix.files import write_atomic
from dix.models.unfilled import unfilled


@dataclass(frozen=True)
class FewShotHead:
    """logits = weight @ ((token - mean) / std) + bias.

    classes: the C outputs' classes, as ImageNet-1k indices (0 to 999).
    weight: [C, D]; bias: [C].
    mean, std: [D] statistics of the training tokens.
    facts: how the head came about and what its numbers may and may not be read as.
    """

    classes: tuple[int, ...]
    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    facts: Mapping[str, Any]

    def linear(self) -> nn.Linear:
        """One layer on the raw token: weight / std, and bias - (weight / std) @ mean. Draws no random numbers."""
        weight = self.weight.astype(np.float64) / self.std
        bias = self.bias - weight @ self.mean
        with unfilled():
            layer = nn.Linear(weight.shape[1], weight.shape[0])
        state = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
        layer.load_state_dict(state, assign=True)
        return layer

    def save(self, file: Path) -> None:
        """Write the arrays in single precision; equal heads give equal bytes."""
        stream = io.BytesIO()
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("weight", "bias", "mean", "std")}
        classes = np.array(self.classes, dtype=np.int16)
        np.savez_compressed(stream, classes=classes, facts=np.array(json.dumps(dict(self.facts))), **arrays)
        write_atomic(file, stream.getvalue())


def load_head(file: Path) -> FewShotHead:
    """Read what `FewShotHead.save` wrote."""
    with np.load(file, allow_pickle=False) as stored:
        return FewShotHead(
            classes=tuple(int(index) for index in stored["classes"]),
            facts=json.loads(str(stored["facts"])),
            **{name: stored[name] for name in ("weight", "bias", "mean", "std")},
        )
