"""Whether a method's map depends on the class that is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Probe, Scores, Trace
from dix.metrics.options import choose
from dix.metrics.scaling import constant, excluded, reasons
from dix.metrics.steadiness import correlation
from dix.metrics.summaries import Averaged

Against = Literal["second", "least"]


@dataclass(frozen=True)
class Contrast(Averaged):
    """Contrast: how far the map of the explained class is from that of another class, in percent.

    100 (1 - r) / 2 with r Pearson's correlation of both maps over the pixels: 0 where the class plays no role, 50 where
    the maps have nothing to do with each other, 100 where one is the other's negative. It has no better direction: a
    method that ignores the class fails (0), and how far two classes' maps should be apart depends on the classes.

    against: the other class: "second", the most probable one besides the explained class, or "least", the least
    probable one. Costs one more explanation for each map and no forwards of its own.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "contrast"
    higher_is_better: ClassVar[bool | None] = None
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False
    probe: ClassVar[Probe | None] = None
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 100.0)

    against: Against = "second"

    def __post_init__(self) -> None:
        choose("metric.contrast.against", self.against, get_args(Against))

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The distance of each image. Raises ValueError where the maps come without a method."""
        if case.explain_as is None:
            raise ValueError(
                "metric.contrast: expected maps of a method that can explain another class, got maps alone"
            )
        other = case.explain_as(other_class(case.batch, self.against))
        flat = other.flatten(1)
        why = reasons(
            {"constant map": constant(case), "constant map of the other class": flat.amin(dim=1) == flat.amax(dim=1)}
        )
        return Scores.of(excluded(50 * (1 - correlation(case.maps, other)), why), reasons=why)


def other_class(batch: ImageBatch, against: Against) -> Tensor:
    """The most or the least probable class besides the explained one: [B]. Raises ValueError without logits."""
    logits = batch.clean.logits
    if logits is None:
        raise ValueError("metric.contrast: needs a model that gives all logits")
    order = logits if against == "second" else -logits
    return order.scatter(1, batch.targets[:, None], -torch.inf).argmax(dim=1)
