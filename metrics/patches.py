"""The probe that leaves patches out: a Vision Transformer is fed the others alone (Jain et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dix.metrics.answers import beside, by_image
from dix.metrics.api import Case, Predict, Trace
from dix.metrics.options import Order, Ties, floats
from dix.metrics.ranks import first, ranked, turns


@dataclass(frozen=True)
class LeftOut:
    """Leave out a growing share of the patches, in the order of their relevance; nothing takes their place.

    A patch is as relevant as its pixels are on average. The share of patches that is left out is that of the pixels
    which `dix.metrics.probes.Blackout` would replace, rounded down.

    fractions: shares of patches, rising; at 0.0 the clean prediction is read, without a forward. order: "least" leaves
    out the least relevant patches first, "most" the most relevant. ties: how patches of equal relevance are ordered
    (see `dix.metrics.ranks.ranking`); seed: used by "random".
    """

    version: ClassVar[int] = 1
    needs_patches: ClassVar[bool] = True
    fractions: tuple[float, ...]
    order: Order = "least"
    ties: Ties = "index"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", floats("protocol.fractions", self.fractions))

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model about each share; costs one forward of the patches that are left for each image and share.

        Raises ValueError where the model has no patches that could be left out.
        """
        batch = case.batch
        said = [by_image(predict(batch.images, batch.targets, kept=kept), 1) for kept in self._kept(case)]
        return beside(*([] if self.fractions[0] > 0 else [by_image(batch.clean, 1)]), *said)

    def _kept(self, case: Case) -> Iterator[Tensor]:
        """For each fraction above 0 the patches that are left: [B, n], row by row."""
        turn = turns(self._ranks(case), self.order)
        count = turn.shape[1]
        for fraction in self.fractions:
            if fraction > 0:
                left = count - first(count, fraction)
                yield turn.topk(left, dim=1).indices.sort(dim=1).values

    def _ranks(self, case: Case) -> Tensor:
        """The rank of each patch, 0 for the least relevant: [B, patches], the same for both orders."""
        key = ("patch ranking", self.ties, self.seed)
        return case.once(key, lambda: ranked(case.batch, by_patch(case), self.ties, self.seed))


def by_patch(case: Case) -> Tensor:
    """The maps with one value for each patch, its pixels' mean: [B, rows, columns].

    Double precision: there the sum of a patch of single-precision values is exact unless they lie many orders of
    magnitude apart, so that patches of equal relevance are equal whatever the processor and the batch.
    """
    grid = case.batch.patches
    if grid is None:
        raise ValueError("protocol.fill: drop needs a Vision Transformer, whose patches can be left out")
    whole = case.maps.double()
    height, width = whole.shape[1] // grid[0], whole.shape[2] // grid[1]
    return whole.reshape(-1, grid[0], height, grid[1], width).mean(dim=(2, 4))
