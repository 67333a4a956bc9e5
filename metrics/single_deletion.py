"""Single deletion: does the attribution of each cell of a grid foretell what its removal costs?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from scipy.stats import rankdata
from torch import Tensor

from dix.metrics.answers import beside, by_image
from dix.metrics.api import Case, Predict, Prediction, Scores, Trace
from dix.metrics.fills import canvas
from dix.metrics.options import ConstantMaps, NanMaps, Removal, check_choices, choose
from dix.metrics.probes import levels
from dix.metrics.scaling import excluded, flat, reasons
from dix.metrics.steadiness import correlation
from dix.metrics.summaries import Averaged

Read = Literal["logit", "probability"]


@dataclass(frozen=True)
class OneCell:
    """Replace each cell of a grid x grid by itself, row by row; the same images whatever the map (Hesse et al. 2024).

    fill: what replaces its pixels (see `dix.metrics.fills.canvas`), in pixel space.
    """

    version: ClassVar[int] = 1
    grid: int = 4
    fill: Removal = "black"

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model about each cell's removal: [B, grid * grid]; once for all maps of a batch."""
        return case.batch.once(("one cell", self), lambda: self._ask(case, predict))

    def _ask(self, case: Case, predict: Predict) -> Trace:
        batch = case.batch
        background = canvas(batch, self.fill)  # type: ignore[arg-type]
        cells = list(cells_of(batch.images.shape[-2:], self.grid))

        def altered(cell: int) -> Tensor:
            images = batch.images.clone()
            images[(..., *cells[cell])] = background[(..., *cells[cell])]
            return images

        return levels(case, predict, altered, range(len(cells)))


@dataclass(frozen=True)
class OneCellLeftOut:
    """Leave out the patches of each cell of a grid x grid by themselves: nothing stands in their place.

    Raises ValueError where the model has no patches that could be left out, or they do not fill the cells evenly.
    """

    version: ClassVar[int] = 1
    needs_patches: ClassVar[bool] = True
    grid: int = 4

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model without each cell: [B, grid * grid]; once for all maps of a batch."""
        return case.batch.once(("one cell", self), lambda: self._ask(case, predict))

    def _ask(self, case: Case, predict: Predict) -> Trace:
        batch = case.batch
        return beside(
            *(
                by_image(predict(batch.images, batch.targets, kept=kept.expand(len(batch.ids), -1)), 1)
                for kept in self._kept(case)
            )
        )

    def _kept(self, case: Case) -> Iterator[Tensor]:
        """For each cell the patches outside of it: [1, n]."""
        patches = case.batch.patches
        if patches is None:
            raise ValueError("protocol.fill: drop needs a Vision Transformer, whose patches can be left out")
        if any(side % self.grid for side in patches):
            raise ValueError(
                f"metric.single_deletion.grid: {self.grid} x {self.grid} cells do not divide {patches[0]} x "
                f"{patches[1]} patches"
            )
        number = torch.arange(patches[0] * patches[1], device=case.maps.device).view(patches)
        for cell in cells_of(patches, self.grid):
            inside = torch.zeros_like(number, dtype=torch.bool)
            inside[cell] = True
            yield number[~inside][None]


def cells_of(size: Sequence[int], grid: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each cell of a grid x grid over a size (height, width), row by row; edges rounded down."""
    down, across = ([slice(i * side // grid, (i + 1) * side // grid) for i in range(grid)] for side in size)
    return ((rows, columns) for rows in down for columns in across)


@dataclass(frozen=True)
class SingleDeletion(Averaged):
    """Spearman's correlation of each cell's attribution with the drop that its removal causes, times 100.

    The single deletion score of R. Hesse, S. Schaub-Meyer, S. Roth, "Benchmarking the Attribution Quality of Vision
    Models", NeurIPS 2024. It is in-domain (IDSDS) only for a network that was trained on images with deleted cells;
    for any other the drop also holds the network's surprise at the fill. Nothing but the cells' order counts, the
    model is asked once for all methods, and 0 is what a random map scores on average, with a standard deviation of
    100 / sqrt(grid^2 - 1) for a single image.

    grid: cells a side. fill: what a removed cell becomes; "drop": a Vision Transformer is fed the other patches alone.
    reads: what drops, the explained class's "logit" (as published) or its "probability". constant_maps: "count" and
    "zero" score 0 for attribution that is equal in all cells, "drop" leaves out the image of a constant map. nan_maps:
    "drop" excludes the image of a map that is not finite, "zero" takes it for a map of zeros.
    """

    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float] | None] = (-100.0, 100.0)

    grid: int = 4
    fill: Removal = "black"
    reads: Read = "logit"
    constant_maps: ConstantMaps = "count"
    nan_maps: NanMaps = "drop"
    label: str = "single deletion"

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        check_choices(self)
        choose("metric.single_deletion.reads", self.reads, get_args(Read))
        if self.grid < 2:
            raise ValueError(f"metric.single_deletion.grid: expected at least 2 cells a side, got {self.grid}")

    @property
    def counts_broken(self) -> bool:
        """Whether a map that is not finite counts, as a map of zeros."""
        return self.nan_maps == "zero"

    @property
    def probe(self) -> OneCell | OneCellLeftOut:
        """Each cell by itself."""
        return OneCellLeftOut(self.grid) if self.fill == "drop" else OneCell(self.grid, self.fill)

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """100 times the correlation; curve: [B, grid * grid] the drop of each cell, row by row."""
        assert trace is not None
        clean, without = (self._read(case, said) for said in (case.batch.clean, trace))
        drop = clean.view(-1, 1) - without
        held = torch.stack([_mean(case.maps, cell) for cell in cells_of(case.maps.shape[-2:], self.grid)], dim=1)
        same = drop.amin(dim=1) == drop.amax(dim=1)
        why = reasons({**flat(case, self.constant_maps), "all cells cost the same": same})
        rho = correlation(_ranks(held), _ranks(drop))
        orderless = held.amin(dim=1) == held.amax(dim=1)
        return Scores.of(excluded(100 * rho.masked_fill(orderless, 0.0), why), curve=drop, reasons=why)

    def _read(self, case: Case, said: Prediction | Trace) -> Tensor:
        """The explained class's logit or probability, in double precision: [B], or [B, V] of a trace."""
        if self.reads == "probability":
            return said.probability.double()
        if said.logits is None:
            raise ValueError("metric.single_deletion.reads: logit needs a model that gives all logits")
        target = case.batch.targets.view(-1, *[1] * (said.logits.ndim - 1))
        return said.logits.double().gather(-1, target.expand(*said.logits.shape[:-1], 1)).squeeze(-1)


def _mean(maps: Tensor, cell: tuple[slice, slice]) -> Tensor:
    """[B] mean over a cell's pixels of maps [B, H, W]."""
    return maps[(slice(None), *cell)].double().mean(dim=(1, 2))


def _ranks(values: Tensor) -> Tensor:
    """Ranks [B, n] of values [B, n] within each row, equal ones sharing their mean."""
    return torch.from_numpy(rankdata(values.detach().cpu().numpy(), axis=1)).to(values.device)
