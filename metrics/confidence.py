"""ADP and PIC: how the target's probability answers to a soft mask of the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dix.metrics.api import Case, Scores, Trace
from dix.metrics.probes import SoftMask
from dix.metrics.scaling import constant, excluded, reasons
from dix.metrics.summaries import Averaged


def _pair(case: Case, trace: Trace | None) -> tuple[Tensor, Tensor, list[str]]:
    """Clean and masked probability [B] in float64, and why an image is left out."""
    assert trace is not None
    clean, masked = case.batch.clean.probability.double(), trace.probability[:, 0].double()
    zero = case.maps.flatten(1)[:, 0] <= 0
    return clean, masked, reasons({"constant map": constant(case) & zero, "clean probability is 0": clean <= 0})


@dataclass(frozen=True)
class Adp(Averaged):
    """ADP: the drop of the target's probability under the soft mask, in percent of the clean one; a rise counts as 0.

    An all-ones map keeps the whole image and scores a perfect 0: read it beside the control rows.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ADP"
    higher_is_better: ClassVar[bool | None] = False
    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False

    @property
    def probe(self) -> SoftMask:
        """Shared with PIC."""
        return SoftMask()

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 max(0, Y - O) / Y; curve: [B, 1] the probability O on the masked image."""
        clean, masked, why = _pair(case, trace)
        drop = 100 * (clean - masked).clamp(min=0) / clean
        return Scores.of(excluded(drop, why), curve=masked.unsqueeze(1), reasons=why)


@dataclass(frozen=True)
class Pic(Averaged):
    """PIC: the share of images whose target becomes more probable under the soft mask, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "PIC"
    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False

    @property
    def probe(self) -> SoftMask:
        """Shared with ADP."""
        return SoftMask()

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 where O > Y, else 0; curve: [B, 1] the probability O on the masked image."""
        clean, masked, why = _pair(case, trace)
        return Scores.of(excluded(100.0 * (masked > clean), why), curve=masked.unsqueeze(1), reasons=why)
