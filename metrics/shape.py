"""What a map looks like by itself: no model, no truth mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dix.metrics.api import Case, Probe, Scores, Trace
from dix.metrics.ranks import tie_share
from dix.metrics.summaries import Averaged


@dataclass(frozen=True)
class TieShare(Averaged):
    """Tie share: pixels whose value occurs elsewhere in the map, in percent; 100 for a constant map.

    Where it is large, ranking metrics depend on the tie rule.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ties"
    higher_is_better: ClassVar[bool | None] = None
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False
    probe: ClassVar[Probe | None] = None

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The share of each map."""
        return Scores.of(100 * tie_share(case.maps))


@dataclass(frozen=True)
class Sparseness(Averaged):
    """Sparseness: the Gini index of the map's absolute values (Chalasani et al. 2020), in percent.

    0 where all are equal, a constant map included (and a map of zeros), near 100 where one pixel holds everything.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "sparseness"
    higher_is_better: ClassVar[bool | None] = None
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False
    probe: ClassVar[Probe | None] = None

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The index of each map."""
        rising = case.maps.double().abs().flatten(1).sort(dim=1).values
        count = rising.shape[1]
        place = torch.arange(1, count + 1, dtype=torch.float64, device=rising.device)
        total = rising.sum(dim=1).clamp(min=1e-300)
        gini = ((2 * place - count - 1) * rising).sum(dim=1) / (count * total)
        return Scores.of(100 * gini)
