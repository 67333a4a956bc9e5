"""Where a map's attribution lies, from the map as the method gave it: no scaling by minimum and maximum comes first.

A signed map says with its sign what speaks for the class and what against it. Scaled to [0, 1] by its minimum and
maximum, its zeros become grey, and what speaks against the class counts as a little in favour. So these metrics read
raw maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from dix.metrics.api import Case, Scores, Trace
from dix.metrics.options import ConstantMaps
from dix.metrics.segmentation import Segmentation


@dataclass(frozen=True)
class Localisation(Segmentation):
    """The share of a map's positive attribution that lies on the object, in percent (Boehle et al., CVPR 2021).

    With the cell of a mosaic for the object it is the score of the grid pointing game (Rao et al., CVPR 2022). A map
    whose values are independent draws scores the object's share of the pixels on average; one without any positive
    value scores 0, as published. A positive constant map scores that share exactly.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "localisation"
    extra: ClassVar[bool] = True

    constant_maps: ConstantMaps = "count"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The share of each image; void pixels are left out."""
        truth = self._truth(case)
        positive = case.maps.double().clamp(min=0).flatten(1) * truth.counts
        return self._scores(case, 100 * _share((positive * truth.object).sum(dim=1), positive.sum(dim=1)))


@dataclass(frozen=True)
class Impossible(Segmentation):
    """The share of a map's magnitude where the explained output cannot look, in percent; anything above 0 is an error.

    For networks with disconnected heads (DiFull and DiPart, Rao et al., CVPR 2022), whose truth mask is all that the
    output depends on. It reads the map as the method gave it, before it is resized, since the resize spreads values
    beyond the edge of a cell; a value of a coarser map is possible where any of its pixels is. A map of zeros has no
    error.
    """

    version: ClassVar[int] = 1
    label: ClassVar[str] = "impossible"
    extra: ClassVar[bool] = True
    higher_is_better: ClassVar[bool | None] = False

    constant_maps: ConstantMaps = "count"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The share of each image; void counts as possible."""
        native = case.maps if case.native is None else case.native
        size = native.double().abs().flatten(1)
        return self._scores(
            case, 100 * _share((size * ~_possible(case, native).flatten(1)).sum(dim=1), size.sum(dim=1))
        )


def _possible(case: Case, native: Tensor) -> Tensor:
    """Which values of the maps [B, h, w] cover a pixel that is not background: [B, h, w] bool."""
    masks = case.batch.masks
    if masks is None:
        return torch.ones_like(native, dtype=torch.bool)
    seen = (masks != 0).double()[:, None]
    return adaptive_max_pool2d(seen, native.shape[-2:])[:, 0] > 0


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole: [B], 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole.where(whole > 0, torch.ones_like(whole)), torch.zeros_like(whole))
