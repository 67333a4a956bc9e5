"""A network whose logits are known sums of known pixels: what a right explanation is, nobody has to say."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dix.classifier import Classifier, Weights
from dix.models.looked import looked
from dix.models.unfilled import unfilled


class CellBrightness(nn.Module):
    """Class k's logit is `gain` times the mean brightness of the k-th cell of a grid, row by row; linear.

    So the whole contribution of a pixel to logit k is gain / (3 area) times its values in cell k, and 0 elsewhere.
    grey and scale are convolutions of one pixel, head is linear: three weight layers, one after another.
    """

    version: ClassVar[int] = 1

    def __init__(self, side: int, grid: int) -> None:
        super().__init__()
        self.grey = nn.Conv2d(3, 1, 1, bias=False)
        self.scale = nn.Conv2d(1, 1, 1, bias=False)
        self.seen = nn.Identity()
        self.head = nn.Linear(side * side, grid * grid, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, grid * grid] of images [M, 3, side, side]."""
        return self.head(self.seen(self.scale(self.grey(images))).flatten(1))


def _built(side: int, grid: int, gain: float) -> CellBrightness:
    """The network with its weights; no random number is drawn."""
    with unfilled():
        network = CellBrightness(side, grid)
    network.to_empty(device="cpu")
    with torch.no_grad():
        network.grey.weight.fill_(1 / 3)
        network.scale.weight.fill_(gain)
        network.head.weight.copy_(_cells(side, grid))
    return network


def _cells(side: int, grid: int) -> Tensor:
    """[grid * grid, side * side] one over the cell's area inside the cell, 0 elsewhere."""
    cell = side // grid
    weights = torch.zeros(grid * grid, side, side)
    for place in range(grid * grid):
        top, left = (cell * at for at in divmod(place, grid))
        weights[place, top : top + cell, left : left + cell] = 1 / cell**2
    return weights.flatten(1)


def planted(name: str = "planted", side: int = 32, grid: int = 4, gain: float = 12.0) -> Classifier:
    """The classifier that `dix.datasets.planted.Planted` is made for, with the same side and grid.

    Raises ValueError where the grid does not divide the side.
    """
    if grid < 2 or side % grid:
        raise ValueError(f"model.grid: expected at least 2 cells that divide {side} pixels, got {grid}")
    return looked(
        Classifier(
            name,
            _built(side, grid, gain),
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            input_size=side,
            layers={"last": "seen", "second": "scale", "third": "grey"},
            kind="cnn",
            weights=Weights("written by hand: class k is the brightness of cell k", trained=True),
            label_space=f"planted, {grid} x {grid} cells",
        )
    )
