"""Networks with a head for each cell of a grid, which provably cannot see the other cells: DiFull and DiPart.

S. Rao, M. Boehle, B. Schiele, "Towards Better Understanding Attribution Methods", CVPR 2022, settings (b) and (c).
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from dix.classifier import Classifier, Weights
from dix.models.looked import looked

Kind = Literal["full", "part"]


class Cut(nn.Module):
    """Take [B, C, n h, n w] apart into its cells: [B n n, C, h, w], image by image, row by row."""

    version: ClassVar[int] = 1

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, whole: Tensor) -> Tensor:
        """The cells. Raises ValueError where the grid does not divide the sides."""
        n, (height, width) = self.grid, whole.shape[-2:]
        if height % n or width % n:
            raise ValueError(f"model.grid: {n} x {n} cells do not divide a map of {height} x {width}")
        cells = whole.unflatten(3, (n, width // n)).unflatten(2, (n, height // n))  # [B, C, n, h, n, w]
        return cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


class Stitch(nn.Module):
    """Put cells [B n n, C, h, w] together again: [B, C, n h, n w]."""

    version: ClassVar[int] = 1

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, cells: Tensor) -> Tensor:
        """The whole."""
        apart = cells.unflatten(0, (-1, self.grid, self.grid))  # [B, n, n, C, h, w]
        return apart.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class Disconnected(nn.Module):
    """A network whose output p * K + k is its class k in cell p alone.

    body: maps what it is given, with cells cut inside or beforehand, to logits [B n n, K]. full: cut the image first.
    """

    version: ClassVar[int] = 1

    def __init__(self, body: nn.Module, grid: int, full: bool) -> None:
        super().__init__()
        self.cut = Cut(grid) if full else nn.Identity()
        self.body = body
        self.heads = grid * grid
        #: Rows of one image between `Cut` and `Stitch`, which a split of the network must expect.
        self.rows_per_image = self.heads

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, n n K] of images [B, 3, n S, n S]."""
        return self.body(self.cut(images)).unflatten(0, (-1, self.heads)).flatten(1)


def disconnected(name: str, classifier: Classifier, grid: int = 2, kind: Kind = "full") -> Classifier:
    """A CNN with disconnected heads, made of a classifier, which stays as it is.

    The result is shown grid x grid cells of the classifier's own input size, and its output p * K + k is the
    classifier's output k for cell p. kind: "full" runs the network on each cell by itself, so that no pixel and no
    feature of another cell can matter; what a layer returns for the cells is put together to one map, so that methods
    see one layer. "part" runs the convolutions on the whole picture and cuts behind the layer "last", whose other cells
    cannot matter, while receptive fields reach over the edges before it.

    Raises ValueError for another kind of network or setting, and where cells do not divide a layer's map.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"model.kind: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
    if grid < 1 or classifier.kind != "cnn" or "last" not in classifier.layers:
        raise ValueError(
            f"model: disconnected heads need a grid of at least 1 and a CNN that names its last layer, got {grid} and "
            f"{classifier.name}"
        )
    body = copy.deepcopy(classifier.network)
    layers = {alias: f"body.{_replaced(body, layer, grid, kind, alias)}" for alias, layer in classifier.layers.items()}
    return looked(_around(name, classifier, Disconnected(body, grid, kind == "full"), grid, layers))


def _replaced(body: nn.Module, layer: str, grid: int, kind: Kind, alias: str) -> str:
    """Put what the cells need behind a layer; the name of the module whose output is the layer's whole map."""
    if kind == "part" and alias != "last":
        return layer
    behind: list[nn.Module] = [Stitch(grid), Cut(grid)] if kind == "full" else [Cut(grid)]
    body.set_submodule(layer, nn.Sequential(body.get_submodule(layer), *behind))
    return f"{layer}.1" if kind == "full" else f"{layer}.0"


def _around(name: str, like: Classifier, network: nn.Module, grid: int, layers: dict[str, str]) -> Classifier:
    mean, std = (values.flatten().tolist() for values in (like.mean, like.std))
    space = f"{like.label_space}, {grid} x {grid} cells" if like.label_space and like.classes is None else None
    note = f"{like.weights.note}; " if like.weights.note else ""
    return Classifier(
        name,
        network,
        mean=mean,
        std=std,
        input_size=grid * like.input_size,
        layers=layers,
        kind="cnn",
        weights=Weights(like.weights.source, like.weights.trained, f"{note}a head for each of {grid} x {grid} cells"),
        label_space=space,
        probability=like.probability,
    )
