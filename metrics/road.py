"""ROAD: remove pixels by imputing them from their neighbours, so that masked images stay near the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from dix.metrics.api import Case, Predict, Prediction, Scores, Trace
from dix.metrics.imputation import impute_levels
from dix.metrics.options import Ties, choose, floats
from dix.metrics.pool import later
from dix.metrics.ranks import first, generator, places
from dix.metrics.summaries import Averaged


@dataclass(frozen=True)
class Imputed:
    """Impute a growing share of the pixels, the least relevant first and then the most relevant first.

    fractions: shares of pixels that are removed, rising, between 0 and 1. noise: standard deviation of the Gaussian
    noise on imputed pixels, so that they cannot be told by their smoothness.
    ties, seed: see `dix.metrics.ranks.ranking`.
    """

    version: ClassVar[int] = 1
    fractions: tuple[float, ...]
    noise: float = 0.01
    ties: Ties = "index"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", floats("metric.road.fractions", self.fractions))
        if not 0 < self.fractions[0] <= self.fractions[-1] < 1:
            raise ValueError(f"metric.road.fractions: expected values between 0 and 1, got {self.fractions}")

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model: [B, 2 V], V levels with the least relevant removed, then V with the most relevant removed."""
        batch, counts = case.batch, self._counts(case)
        noise = batch.once(("noise", self.noise, self.seed), lambda: self._noise(case))
        said: list[Prediction] = []
        for i, place, wait in self._imputed(case, counts):
            removed = np.stack([place < count for count in counts])[:, None]
            rows = torch.from_numpy(wait() + noise[i] * removed).to(batch.images)
            said.append(predict(rows, batch.targets[i : i + 1].expand(len(counts))))
        return Trace(_rows([s.probability for s in said]), _rows([s.predicted for s in said]))

    def begin(self, case: Case) -> None:
        """Start to impute what `trace` will ask for."""
        self._imputed(case, self._counts(case))

    def _counts(self, case: Case) -> tuple[int, ...]:
        return tuple(first(case.maps[0].numel(), f) for f in self.fractions)

    def _imputed(self, case: Case, counts: tuple[int, ...]) -> list[tuple[int, np.ndarray, Callable[[], np.ndarray]]]:
        """By order and image: the image's number, its pixels' places, and what gives its imputed levels."""
        images = case.batch.images.double().cpu().numpy()
        pending = []
        for order in ("least", "most"):
            place = places(case, order, self.ties, self.seed).cpu().numpy()
            pending += [
                (i, p, later(case.batch.pool, impute_levels, image, p, counts))
                for i, (image, p) in enumerate(zip(images, place, strict=True))
            ]
        return pending

    def _noise(self, case: Case) -> np.ndarray:
        shape = case.batch.images.shape[1:]
        drawn = [torch.randn(shape, generator=generator(self.seed, i, "road noise")) for i in case.batch.ids]
        return self.noise * torch.stack(drawn).double().numpy()


def _rows(parts: list[Tensor]) -> Tensor:
    """2 B answers of V levels each, first all images in one order, then in the other, as [B, 2 V]."""
    both = torch.stack(parts).unflatten(0, (2, -1))
    return both.transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class Road(Averaged):
    """ROAD: half the gap between removing the least and the most relevant pixels (Rong et al. 2022), percent.

    The mean over the fractions of (least - most) / 2, of the target's probability. See `Imputed` for the fields.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "ROAD"
    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False

    fractions: tuple[float, ...]
    noise: float = 0.01
    ties: Ties = "index"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", floats("metric.road.fractions", self.fractions))
        choose("protocol.ties", self.ties, get_args(Ties))

    @property
    def probe(self) -> Imputed:
        """Both orders; no other metric shares it."""
        return Imputed(self.fractions, self.noise, self.ties, self.seed)

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The gap of each image; curve: [B, 2 V] the probabilities, least relevant first, then most relevant first."""
        assert trace is not None
        least, most = trace.probability.double().chunk(2, dim=1)
        return Scores.of(100 * (least - most).mean(dim=1) / 2, curve=trace.probability)
