"""ADP, PIC and ADD: how the scored class's probability answers to a soft mask of the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from dix.metrics.api import Case, Scores, Trace
from dix.metrics.axis import Axis
from dix.metrics.classes import reading
from dix.metrics.options import ConstantMaps, Fill, NanMaps, ScoreClass, check_choices
from dix.metrics.probes import SoftMask
from dix.metrics.scaling import constant, excluded, flat, reasons
from dix.metrics.summaries import Averaged

#: Where the distribution of masked probabilities is drawn.
PROBABILITIES = tuple(step / 50 for step in range(51))


def at_most(probability: np.ndarray) -> np.ndarray:
    """[n, 51] one where an image's masked probability [n, 1] is at most PROBABILITIES: its mean is a distribution."""
    return (probability <= np.asarray(PROBABILITIES)).astype(np.float64)


#: Of the one probability that a row keeps, a chart shows the distribution over images; equal for ADP and PIC.
MASKED = Axis(PROBABILITIES, "probability p under the mask; up: images with at most p", at_most)


def clean_probability(drop: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """The clean probability Y [n] that a drop 100 (Y - O) / Y [n] and the masked probability O [n, 1] tell.

    NaN where they do not: nothing dropped, so that Y may be anything up to O, or nothing is left.
    """
    told = (drop > 0) & (drop < 100) & (masked[:, 0] > 0)
    return np.where(told, masked[:, 0] / (1 - np.where(told, drop, 0) / 100), np.nan)


@dataclass(frozen=True)
class _SoftMasked(Averaged):
    """What the metrics of the soft mask have in common; the probes of ADP and PIC are equal where these fields are.

    soft_fill: what the pixels fade to. score_class: whose probability (see `dix.metrics.classes.scored_class`).
    constant_maps: "count" takes a positive constant map for ones and excludes any other, which cannot be scaled to
    [0, 1]; "zero" takes it for zeros; "drop" excludes it. nan_maps: "drop" excludes the image of a map that is not
    finite, "zero" takes it for a map of zeros.
    """

    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 100.0)

    soft_fill: Fill = "black"
    score_class: ScoreClass = "explained"
    constant_maps: ConstantMaps = "count"
    nan_maps: NanMaps = "drop"

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def counts_broken(self) -> bool:
        """Whether a map that is not finite counts, as a map of zeros."""
        return self.nan_maps == "zero"

    @property
    def probe(self) -> SoftMask:
        """Shared by ADP and PIC."""
        return SoftMask(self.soft_fill, ones=self.constant_maps != "zero")

    def _pair(self, case: Case, trace: Trace | None) -> tuple[Tensor, Tensor, list[str]]:
        """Clean and masked probability [B] in float64, and why an image is left out."""
        assert trace is not None
        clean = reading(case.batch, case.batch.clean, self.score_class).double()
        masked = reading(case.batch, trace, self.score_class)[:, 0].double()
        unscaled = constant(case) & (case.maps.flatten(1)[:, 0] <= 0) & (self.constant_maps == "count")
        rules = {"constant map": flat(case, self.constant_maps)["constant map"] | unscaled}
        return clean, masked, reasons(rules | {"clean probability is 0": clean <= 0})

    def _drop(self, case: Case, trace: Trace | None) -> Scores:
        """100 max(0, Y - O) / Y; curve: [B, 1] the probability O on the masked image."""
        clean, masked, why = self._pair(case, trace)
        drop = 100 * (clean - masked).clamp(min=0) / clean
        return Scores.of(excluded(drop, why), curve=masked.unsqueeze(1), reasons=why)


@dataclass(frozen=True)
class Adp(_SoftMasked):
    """ADP: the drop of the scored class's probability under the soft mask, in percent of the clean one; at least 0.

    An all-ones map keeps the whole image and scores a perfect 0: read it beside the control rows.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ADP"
    higher_is_better: ClassVar[bool | None] = False
    axis: ClassVar[Axis] = MASKED
    clean = staticmethod(clean_probability)

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 max(0, Y - O) / Y; curve: [B, 1] the probability O on the masked image."""
        return self._drop(case, trace)


@dataclass(frozen=True)
class Pic(_SoftMasked):
    """PIC: the share of images whose scored class becomes more probable under the soft mask, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "PIC"
    higher_is_better: ClassVar[bool | None] = True

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 where O > Y, else 0; curve: [B, 1] the probability O on the masked image."""
        clean, masked, why = self._pair(case, trace)
        return Scores.of(excluded(100.0 * (masked > clean), why), curve=masked.unsqueeze(1), reasons=why)


@dataclass(frozen=True)
class Add(_SoftMasked):
    """ADD: ADP's drop where the relevant pixels fade out instead of the others, in percent (the release of BEE, 2024).

    An all-ones map removes the whole image and scores the largest drop there is: read it beside the control rows.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ADD"
    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = True
    axis: ClassVar[Axis] = MASKED
    clean = staticmethod(clean_probability)

    @property
    def probe(self) -> SoftMask:
        """The inverse of ADP's mask; no other metric shares it."""
        return SoftMask(self.soft_fill, inverse=True, ones=self.constant_maps != "zero")

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 max(0, Y - O') / Y; curve: [B, 1] the probability O' on the image times 1 - map."""
        return self._drop(case, trace)
