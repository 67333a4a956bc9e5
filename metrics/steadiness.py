"""Metrics that explain altered images again: how a method's map answers when its own input changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dix.metrics.api import Case, Probe, Scores, Trace
from dix.metrics.probes import SoftMask
from dix.metrics.ranks import generator
from dix.metrics.scaling import constant, excluded, reasons, unit
from dix.metrics.summaries import Averaged


@dataclass(frozen=True)
class Adcc(Averaged):
    """ADCC: the harmonic mean of coherency, 1 - complexity and 1 - average drop (Poppi et al. 2021), in percent.

    Coherency: the correlation of a map with the map of the image masked by it, taken to [0, 1]. Complexity: the mean of
    the map scaled to [0, 1]. The drop is ADP's, whose trace it shares. A map that keeps everything is complex, one that
    keeps nothing drops, so neither can win. parts: [B, 3] the three terms.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ADCC"
    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False

    @property
    def probe(self) -> SoftMask:
        """Shared with ADP and PIC."""
        return SoftMask()

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 * 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)); 0 where a term is 0."""
        assert trace is not None
        clean, masked = case.batch.clean.probability.double(), trace.probability[:, 0].double()
        again = _explained(case, case.batch.images * unit(case).to(case.batch.images).unsqueeze(1))
        flat = again.flatten(1)
        why = reasons(
            {
                "constant map": constant(case),
                "clean probability is 0": clean <= 0,
                "constant map of the masked image": flat.amin(dim=1) == flat.amax(dim=1),
            }
        )
        coherency = (1 + correlation(case.maps, again)) / 2
        complexity = unit(case).mean(dim=(1, 2))
        drop = (clean - masked).clamp(min=0) / clean
        terms = torch.stack([coherency, 1 - complexity, 1 - drop], dim=1).clamp(min=0)
        return Scores.of(excluded(300 / (1 / terms).sum(dim=1), why), parts=terms, reasons=why)


@dataclass(frozen=True)
class MaxSensitivity(Averaged):
    """Largest relative change of a map under small uniform noise on the pixels (Yeh et al. 2019), in percent.

    copies: noisy copies of each image. radius: of the noise, in pixel values of [0, 1]. seed: of the noise, with the
    image's id. Costs `copies` explanations and no forwards of its own. parts: [B, copies] each copy's change.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "sensitivity"
    higher_is_better: ClassVar[bool | None] = False
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False
    probe: ClassVar[Probe | None] = None

    copies: int = 3
    radius: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1 or self.radius <= 0:
            got = f"{self.copies} and {self.radius}"
            raise ValueError(f"metric.sensitivity: expected copies of at least 1 and a radius above 0, got {got}")

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 max over copies of |m(x + noise) - m(x)| / |m(x)|."""
        norm = case.maps.double().flatten(1).norm(dim=1)
        changes = torch.stack([self._change(case, copy) for copy in range(self.copies)], dim=1) / norm.unsqueeze(1)
        why = reasons({"map of zeros": norm == 0})
        return Scores.of(excluded(100 * changes.amax(dim=1), why), parts=changes, reasons=why)

    def _change(self, case: Case, copy: int) -> Tensor:
        """|m(x + noise) - m(x)| for each image: [B]."""
        images = case.batch.images
        noise = [
            torch.rand(images.shape[1:], generator=generator(self.seed, name, f"noise {copy}"))
            for name in case.batch.ids
        ]
        altered = images + self.radius * (2 * torch.stack(noise).to(images) - 1)
        return (_explained(case, altered).double() - case.maps.double()).flatten(1).norm(dim=1)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of two maps for each image [B, H, W]: [B] float64; NaN for a constant map."""
    a, b = (m.double().flatten(1) for m in (first, second))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))


def _explained(case: Case, images: Tensor) -> Tensor:
    if case.explain is None:
        raise ValueError("metric: expected maps of a method that can explain altered images, got maps alone")
    return case.explain(images)
