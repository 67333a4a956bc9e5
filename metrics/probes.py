"""Which altered images the model must see for a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dix.metrics.answers import beside, by_image, by_level, chosen
from dix.metrics.api import Case, Predict, Trace
from dix.metrics.fills import canvas
from dix.metrics.options import Fill, Order, Ties, floats
from dix.metrics.ranks import first, places, ranking
from dix.metrics.scaling import constant, unit

#: Altered images built at a time; bounds memory, never changes a score.
ROWS = 256


@dataclass(frozen=True)
class Blackout:
    """Replace a growing share of the pixels, in the order of their relevance (Chefer et al. 2021, Petsiuk et al. 2018).

    fractions: shares of pixels that are replaced, rising; at 0.0 the clean prediction is read, without a forward.
    fill: what replaces them, in pixel space (see `dix.metrics.fills.canvas`).
    order: "least" replaces the least relevant pixels first, "most" the most relevant.
    ties: how pixels of equal relevance are ordered (see `dix.metrics.ranks.ranking`); seed: used by "random".
    """

    version: ClassVar[int] = 1
    fractions: tuple[float, ...]
    fill: Fill = "black"
    order: Order = "least"
    ties: Ties = "index"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", floats("protocol.fractions", self.fractions))

    def reads(self, case: Case) -> Tensor:
        """The pixels' ranks [B, H * W]."""
        return ranking(case, self.ties, self.seed)

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model about each share; costs one forward for each image and each fraction above 0."""
        place = places(case, self.order, self.ties, self.seed)
        background = canvas(case.batch, self.fill)
        counts = [first(place[0].numel(), f) for f in self.fractions if f > 0]

        def altered(count: int) -> Tensor:
            return torch.where((place < count).unsqueeze(1), background, case.batch.images)

        said = levels(case, predict, altered, counts)
        return said if self.fractions[0] > 0 else beside(by_image(case.batch.clean, 1), said)


def levels(case: Case, predict: Predict, altered: Callable[[int], Tensor], counts: Sequence[int]) -> Trace:
    """Ask the model about one altered batch [B, 3, H, W] for each of V counts, many at a time: [B, V]."""
    size = len(case.batch.ids)
    step = max(1, ROWS // max(size, 1))
    said: list[Trace] = []
    for start in range(0, len(counts), step):
        some = counts[start : start + step]
        rows = torch.cat([altered(count) for count in some])
        said.append(by_level(predict(rows, case.batch.targets.repeat(len(some))), size))
    return beside(*said)


@dataclass(frozen=True)
class SoftMask:
    """Fade the pixels out where the map, scaled to [0, 1], is low (Chattopadhay et al. 2018): one forward.

    fill: what they fade to, in pixel space (see `dix.metrics.fills.canvas`). inverse: fade out where the map is high.
    ones: whether a positive constant map, which cannot be scaled, counts as a map of ones; any other counts as zeros.
    """

    version: ClassVar[int] = 1
    fill: Fill = "black"
    inverse: bool = False
    ones: bool = True

    def reads(self, case: Case) -> Tensor:
        """The mask [B, H, W]."""
        return self.mask(case)

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model about the masked image: [B, 1]; where nothing was masked, the clean prediction answers."""
        batch, mask = case.batch, self.mask(case)
        background = canvas(batch, self.fill)
        said = predict(background + mask.unsqueeze(1) * (batch.images - background), batch.targets)
        whole = (mask == 1).flatten(1).all(dim=1)
        return by_image(chosen(whole, batch.clean, said), 1)

    def mask(self, case: Case) -> Tensor:
        """How much of each pixel stays: [B, H, W] in [0, 1]."""
        whole = self.ones & constant(case) & (case.maps.flatten(1)[:, 0] > 0)
        kept = torch.where(whole.view(-1, 1, 1), torch.ones_like(unit(case)), unit(case))
        return (1 - kept if self.inverse else kept).to(case.batch.images)
