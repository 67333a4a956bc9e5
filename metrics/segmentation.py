"""How well a map separates the object from the background, as the truth mask draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dix.metrics.api import Case, Probe, Scores, Summary, Trace
from dix.metrics.options import ConstantMaps, NanMaps, Void, check_choices
from dix.metrics.scaling import constant, excluded, flat, reasons, unit
from dix.metrics.summaries import Averaged, ratios


@dataclass(frozen=True)
class _Truth:
    """Truth masks as numbers: [B, N] float64, N pixels in row-major order.

    counts: 1 where a pixel counts, 0 where it is void. object: 1 where it is object and counts.
    """

    counts: Tensor
    object: Tensor


@dataclass(frozen=True)
class Segmentation(Averaged):
    """What the segmentation metrics have in common.

    void: what a void pixel of the truth mask is: "ignore" leaves it out, "foreground" counts it as object, as the
    reference evaluation of VOC does, "background" as background.
    constant_maps, nan_maps: "drop" excludes the image of a constant map, or of one that is not finite; "zero" (and
    "count", of constant maps) takes the map for zeros, so that nothing is foreground, and counts the image.
    """

    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = True
    probe: ClassVar[Probe | None] = None
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 100.0)

    void: Void = "ignore"
    constant_maps: ConstantMaps = "drop"
    nan_maps: NanMaps = "drop"

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def counts_broken(self) -> bool:
        """Whether a map that is not finite counts, as a map of zeros."""
        return self.nan_maps == "zero"

    def _truth(self, case: Case) -> _Truth:
        return case.batch.once(("truth", self.void), lambda: _read(case, self.void))

    def _reasons(self, case: Case) -> list[str]:
        """Why an image is left out: no mask, no object in it, nothing but void, or a constant map that is dropped."""
        truth = self._truth(case)
        return reasons(
            {
                "no truth mask": _without_mask(case),
                "every pixel is void": truth.counts.sum(dim=1) == 0,
                "empty truth mask": truth.object.sum(dim=1) == 0,
                **flat(case, self.constant_maps),
            }
        )

    def _scores(self, case: Case, value: Tensor, parts: Tensor | None = None) -> Scores:
        why = self._reasons(case)
        return Scores.of(excluded(value, why), parts=parts, reasons=why)


def _without_mask(case: Case) -> Tensor:
    batch = case.batch
    if batch.masks is None:
        return torch.ones(len(batch.ids), dtype=torch.bool, device=case.maps.device)
    if batch.has_mask is None:
        return torch.zeros(len(batch.ids), dtype=torch.bool, device=case.maps.device)
    return ~batch.has_mask.bool()


def _read(case: Case, void: Void) -> _Truth:
    masks = case.batch.masks
    flat = torch.full_like(case.maps, -1).flatten(1) if masks is None else masks.flatten(1)
    if flat.shape != case.maps.flatten(1).shape:
        raise ValueError(f"truth masks: expected the maps' {tuple(case.maps.shape)}, got {tuple(masks.shape)}")  # type: ignore[union-attr]
    unknown = flat < 0
    counts = torch.ones_like(flat, dtype=torch.float64) if void != "ignore" else (~unknown).double()
    objects = (flat > 0) | unknown if void == "foreground" else flat > 0
    return _Truth(counts, objects.double())


def foreground(case: Case) -> Tensor:
    """Whether the map exceeds its own mean: [B, N] float64 of 0 and 1; nothing does on a constant map."""

    def compute() -> Tensor:
        maps = case.maps.double().flatten(1)
        above = maps > maps.mean(dim=1, keepdim=True)
        return (above & ~constant(case).unsqueeze(1)).double()

    return case.once("foreground", compute)


@dataclass(frozen=True)
class PixelAccuracy(Segmentation):
    """PA: correctly classified pixels of all images over all labelled pixels, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "PA"
    bounds: ClassVar[tuple[float, float] | None] = None

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The image's own accuracy; parts: [B, 2] correct and labelled pixels."""
        truth, said = self._truth(case), foreground(case)
        correct = ((said == truth.object) * truth.counts).sum(dim=1)
        parts = torch.stack([correct, truth.counts.sum(dim=1)], dim=1)
        return self._scores(case, 100 * parts[:, 0] / parts[:, 1], parts)

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        """Sum of correct over sum of labelled pixels, over the images that count."""
        return lambda weights=None: 100 * ratios(value, parts, weights)[:, 0]


@dataclass(frozen=True)
class MeanIou(Segmentation):
    """mIoU: intersection over union of all images together, averaged over background and object, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "mIoU"
    bounds: ClassVar[tuple[float, float] | None] = None

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The image's own mean of both classes; parts: [B, 4] intersection and union of background, then of object."""
        truth, said = self._truth(case), foreground(case)
        columns: list[Tensor] = []
        for mine, true in ((1 - said, truth.counts - truth.object), (said, truth.object)):
            mine = mine * truth.counts
            both = mine * true
            columns += [both.sum(dim=1), (mine + true - both).sum(dim=1)]
        parts = torch.stack(columns, dim=1)
        return self._scores(case, 100 * (parts[:, ::2] / parts[:, 1::2]).nanmean(dim=1), parts)

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        """The mean of both classes' dataset-wide IoU, over the images that count."""
        return lambda weights=None: _class_mean(ratios(value, parts, weights))


def _class_mean(both: np.ndarray) -> np.ndarray:
    """The mean of both classes [R, 2] where they exist, in percent: [R]."""
    classes = np.count_nonzero(~np.isnan(both), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(100 * np.nansum(both, axis=1) / classes)


def average_precision(scores: Tensor, positive: Tensor, counts: Tensor) -> Tensor:
    """The step-wise area under precision over recall, equal scores taken together: [B].

    scores, positive, counts: [B, M] score, whether it is a positive (0 or 1), and its weight (0 leaves it out).
    """
    order = scores.argsort(dim=1, descending=True)
    ranked, hits, weight = (t.gather(1, order) for t in (scores, positive * counts, counts))
    precision = hits.cumsum(dim=1) / weight.cumsum(dim=1).clamp(min=1e-300)
    return (hits * precision.gather(1, _ends(ranked))).sum(dim=1) / hits.sum(dim=1)


def _ends(ranked: Tensor) -> Tensor:
    """For each place of a sorted row, the last place of equal value: [B, M]."""
    last = torch.nn.functional.pad(ranked[:, 1:] != ranked[:, :-1], (0, 1), value=True)
    here = torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
    return here.where(last, torch.full_like(here, ranked.shape[1])).flip(1).cummin(dim=1).values.flip(1)


@dataclass(frozen=True)
class MeanAp(Segmentation):
    """mAP: one average precision an image over twice its pixels, in percent.

    The scores 1 - map against the background and map against the object are pooled, as the evaluation code that the
    field uses does; `ObjectAp` is the usual average precision of the object alone.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "mAP"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The pooled average precision of each image."""
        truth, scaled = self._truth(case), unit(case).flatten(1)
        scores = torch.cat([1 - scaled, scaled], dim=1)
        positive = torch.cat([truth.counts - truth.object, truth.object], dim=1)
        return self._scores(case, 100 * average_precision(scores, positive, torch.cat([truth.counts] * 2, dim=1)))


@dataclass(frozen=True)
class ObjectAp(Segmentation):
    """AP of the object: how the map ranks object pixels above background pixels, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "AP (object)"
    extra: ClassVar[bool] = True

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The average precision of each image."""
        truth = self._truth(case)
        return self._scores(case, 100 * average_precision(case.maps.flatten(1), truth.object, truth.counts))


def f1(said: Tensor, true: Tensor) -> Tensor:
    """F1 of the object over the last axis, 0 where neither side has one; said, true: 0 and 1, void is 0 in both."""
    both = (said * true).sum(dim=-1)
    total = said.sum(dim=-1) + true.sum(dim=-1)
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.zeros_like(total))


@dataclass(frozen=True)
class RowF1(Segmentation):
    """mF1 over rows: F1 of each row of pixels, 0 where it is undefined, averaged over rows and images, in percent.

    The evaluation code that the field uses passes one image where it expects a batch and so takes rows for images; a
    perfect map of an object that spans half of the rows scores 50. `ImageF1` is the score that was meant.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "mF1 (rows)"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The mean of the rows' F1; void pixels are left out of their rows."""
        truth, shape = self._truth(case), case.maps.shape
        said = (foreground(case) * truth.counts).view(shape)
        return self._scores(case, 100 * f1(said, truth.object.view(shape)).mean(dim=1))


@dataclass(frozen=True)
class ImageF1(Segmentation):
    """mF1: F1 of the object in each image, averaged over images, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "mF1"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The F1 of each image."""
        truth = self._truth(case)
        return self._scores(case, 100 * f1(foreground(case) * truth.counts, truth.object))


@dataclass(frozen=True)
class BestIou(Segmentation):
    """Best IoU: the object's intersection over union at the threshold that suits the image best, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "best IoU"
    extra: ClassVar[bool] = True

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The largest IoU over all thresholds of the map; equal values are on the same side of each."""
        truth, maps = self._truth(case), case.maps.flatten(1)
        order = maps.argsort(dim=1, descending=True)
        ranked, hits, weight = (t.gather(1, order) for t in (maps, truth.object, truth.counts))
        inside, taken = hits.cumsum(dim=1), weight.cumsum(dim=1)
        iou = inside / (taken + hits.sum(dim=1, keepdim=True) - inside).clamp(min=1)
        return self._scores(case, 100 * iou.gather(1, _ends(ranked)).amax(dim=1))


@dataclass(frozen=True)
class Pointing(Segmentation):
    """Pointing game: whether the most relevant pixel lies on the object (Zhang et al. 2018), in percent.

    Of several maximal pixels the share on the object counts: what a random choice among them would score on average.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "pointing"
    extra: ClassVar[bool] = True

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The share of the counting maximal pixels that are object; an image whose maximum is void scores 0."""
        truth, maps = self._truth(case), case.maps.flatten(1)
        top = (maps == maps.amax(dim=1, keepdim=True)) * truth.counts
        return self._scores(case, 100 * (top * truth.object).sum(dim=1) / top.sum(dim=1).clamp(min=1))


@dataclass(frozen=True)
class EnergyInMask(Segmentation):
    """Energy pointing game: the share of the scaled map that lies on the object (Wang et al. 2020), in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "energy"
    extra: ClassVar[bool] = True

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The share of each image; the map is scaled to [0, 1] and void pixels are left out (0 if nothing is left)."""
        truth = self._truth(case)
        energy = unit(case).flatten(1) * truth.counts
        return self._scores(case, 100 * (energy * truth.object).sum(dim=1) / energy.sum(dim=1).clamp(min=1e-300))
