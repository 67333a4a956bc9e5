"""How alike a method's maps of different images are, on the untouched network: what a likeness is to be read against.

Maps of unrelated images are alike where a method always shows a blob in the middle, say; two of those may well have a
structural similarity of .44. Only a likeness above that level says that something of the explanation is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from dix.bench.sanity.similarity import Explained, alike

#: Images that every image's map is compared with: the data set's first, so that neither batch nor limit changes which.
COUNT = 5


@dataclass(frozen=True)
class Others:
    """One method's maps of the images that all are compared with; ids: which images these are."""

    ids: tuple[str, ...] = ()
    explained: Explained = field(default_factory=lambda: Explained(torch.zeros(0, 1, 1), ()))

    def chance(self, measure: str, original: Explained, ids: Sequence[str]) -> list[float]:
        """For each of the images `ids` the mean likeness of its map to the others' maps, its own excepted; or NaN."""
        columns = []
        for i, name in enumerate(self.ids):
            value = alike(measure, original, self.explained.repeated(i, len(ids))).cpu()
            columns.append(value.masked_fill(torch.tensor([name == own for own in ids]), torch.nan))
        if not columns:
            return [float("nan")] * len(ids)
        return [float(each) for each in torch.stack(columns).nanmean(dim=0)]
