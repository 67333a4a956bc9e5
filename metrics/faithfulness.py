"""Perturbation metrics: what the model says when pixels are masked in the order of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dix.metrics.api import Axis, Case, Scores, Trace
from dix.metrics.classes import reading, reference_class
from dix.metrics.curves import area
from dix.metrics.options import (
    Auc,
    ConstantMaps,
    Hit,
    NanMaps,
    Order,
    Removal,
    Schedule,
    ScoreClass,
    Ties,
    check_choices,
    floats,
)
from dix.metrics.patches import LeftOut
from dix.metrics.probes import Blackout
from dix.metrics.scaling import excluded, flat, reasons
from dix.metrics.summaries import Averaged

#: The schedule of RISE: one row of a 224 x 224 image at a time, from none to all.
RISE_FRACTIONS = tuple(k / 224 for k in range(225))


@dataclass(frozen=True)
class _Masking(Averaged):
    """What the four metrics of progressive masking have in common; their probes are equal where these fields are.

    fractions, fill, ties, seed: see `dix.metrics.probes.Blackout`; fill "drop": `dix.metrics.patches.LeftOut`.
    auc: see `dix.metrics.curves.area`.
    constant_maps: "count" and "zero" leave their order to `ties`, "drop" excludes the image. nan_maps: "drop" excludes
    the image of a map that is not finite, "zero" takes it for a map of zeros.
    """

    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False

    fractions: tuple[float, ...]
    fill: Removal = "black"
    ties: Ties = "index"
    auc: Auc = "trapezoid"
    seed: int = 0
    constant_maps: ConstantMaps = "count"
    nan_maps: NanMaps = "drop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", floats("protocol.fractions", self.fractions))
        check_choices(self)

    @property
    def counts_broken(self) -> bool:
        """Whether a map that is not finite counts, as a map of zeros."""
        return self.nan_maps == "zero"

    @property
    def form(self) -> Auc:
        """How the area is taken."""
        return self.auc

    def _probe(self, order: Order) -> Blackout | LeftOut:
        if self.fill == "drop":
            return LeftOut(self.fractions, order, self.ties, self.seed)
        return Blackout(self.fractions, self.fill, order, self.ties, self.seed)

    def _scores(self, case: Case, curve: Tensor, fractions: tuple[float, ...]) -> Scores:
        why = reasons(flat(case, self.constant_maps))
        return Scores.of(excluded(area(curve, fractions, self.form), why), curve=curve, reasons=why)


def masked_bounds(metric: Neg | Pos | Ins | Del) -> tuple[float, float]:
    """The areas under a curve of zeros and under one of ones."""
    fractions = metric.probe.fractions
    return 0.0, float(area(torch.ones((1, len(fractions))), fractions, metric.form))


def masked_axis(metric: Neg | Pos | Ins | Del) -> Axis:
    """The fractions at which the model is asked."""
    left_out = isinstance(metric.probe, LeftOut)
    return Axis(metric.probe.fractions, f"masked fraction of the {'patches' if left_out else 'pixels'}")


def _hit_score(case: Case, trace: Trace | None, metric: Neg | Pos) -> Scores:
    assert trace is not None
    hits = (trace.predicted == reference_class(case.batch, metric.hit).unsqueeze(1)).double()
    return metric._scores(case, hits, metric.fractions)


def _probability_score(case: Case, trace: Trace | None, metric: Ins | Del) -> Scores:
    assert trace is not None
    return metric._scores(case, reading(case.batch, trace, metric.score_class), metric.probe.fractions)


@dataclass(frozen=True)
class Neg(_Masking):
    """NEG: how long the decision survives the masking of the least relevant pixels (Chefer et al. 2021), percent.

    hit: the class that counts as a hit (see `dix.metrics.classes.reference_class`).
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "NEG"
    higher_is_better: ClassVar[bool | None] = True
    axis = property(masked_axis)
    bounds = property(masked_bounds)

    hit: Hit = "label"

    @property
    def probe(self) -> Blackout | LeftOut:
        """The least relevant pixels first; shared with INS."""
        return self._probe("least")

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The area under the hits of each image; curve: [B, C] hit (1) or miss (0) at each fraction."""
        return _hit_score(case, trace, self)


@dataclass(frozen=True)
class Pos(_Masking):
    """POS: how soon the decision changes when the most relevant pixels are masked (Chefer et al. 2021), percent.

    hit: the class that counts as a hit (see `dix.metrics.classes.reference_class`).
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "POS"
    higher_is_better: ClassVar[bool | None] = False
    axis = property(masked_axis)
    bounds = property(masked_bounds)

    hit: Hit = "label"

    @property
    def probe(self) -> Blackout | LeftOut:
        """The most relevant pixels first; shared with DEL."""
        return self._probe("most")

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The area under the hits of each image; curve: [B, C] hit (1) or miss (0) at each fraction."""
        return _hit_score(case, trace, self)


@dataclass(frozen=True)
class Ins(_Masking):
    """INS: the scored class's probability while the least relevant pixels are masked, percent.

    Read backwards it is an insertion onto a canvas. score_class: whose probability (see
    `dix.metrics.classes.scored_class`); one trace serves all of them. schedule: "thesis" uses `fractions`, `fill` and
    `auc`, so the trace is NEG's; "rise" is Petsiuk et al. 2018: 224 steps onto a blurred image, area over [0, 1].
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "INS"
    higher_is_better: ClassVar[bool | None] = True
    axis = property(masked_axis)
    bounds = property(masked_bounds)

    schedule: Schedule = "thesis"
    score_class: ScoreClass = "explained"

    @property
    def probe(self) -> Blackout | LeftOut:
        """The least relevant pixels first; shared with NEG unless the schedule is RISE's."""
        if _rise(self.schedule):
            return Blackout(RISE_FRACTIONS, "blur", "least", self.ties, self.seed)
        return self._probe("least")

    @property
    def form(self) -> Auc:
        """RISE takes the trapezoid's, whatever `auc` is."""
        return "trapezoid" if _rise(self.schedule) else self.auc

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The area under the probability of each image; curve: [B, C] probability at each fraction."""
        return _probability_score(case, trace, self)


@dataclass(frozen=True)
class Del(_Masking):
    """DEL: the scored class's probability while the most relevant pixels are masked, percent.

    score_class: whose probability (see `dix.metrics.classes.scored_class`); one trace serves all of them.
    schedule: "thesis" uses `fractions`, `fill` and `auc`, so the trace is POS's; "rise" is Petsiuk et al. 2018: 224
    steps to zero in normalised space (the mean colour of ImageNet), area over [0, 1].
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "DEL"
    higher_is_better: ClassVar[bool | None] = False
    axis = property(masked_axis)
    bounds = property(masked_bounds)

    schedule: Schedule = "thesis"
    score_class: ScoreClass = "explained"

    @property
    def probe(self) -> Blackout | LeftOut:
        """The most relevant pixels first; shared with POS unless the schedule is RISE's."""
        if _rise(self.schedule):
            return Blackout(RISE_FRACTIONS, "imagenet", "most", self.ties, self.seed)
        return self._probe("most")

    @property
    def form(self) -> Auc:
        """RISE takes the trapezoid's, whatever `auc` is."""
        return "trapezoid" if _rise(self.schedule) else self.auc

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The area under the probability of each image; curve: [B, C] probability at each fraction."""
        return _probability_score(case, trace, self)


def _rise(schedule: Schedule) -> bool:
    return schedule == "rise"
