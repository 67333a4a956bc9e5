"""Single deletion on networks whose drops are known, and the contrast of two classes' maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Prediction
from dix.metrics.contrast import Contrast, other_class
from dix.metrics.single_deletion import OneCell, OneCellLeftOut, SingleDeletion, cells_of

SIDE = 16


class LinearModel:
    """Logit of class 0: the sum of weights times pixels; class 1: 0. Counts its rows."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.rows = 0

    def __call__(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        self.rows += len(images)
        score = (self.weights * images.double()).sum(dim=(1, 2, 3))
        logits = torch.stack([score, torch.zeros_like(score)], dim=1)
        return Prediction(logits.softmax(dim=1).gather(1, targets[:, None])[:, 0], logits.argmax(dim=1), logits)


def drawn(count: int, seed: int = 0) -> tuple[Tensor, LinearModel, ImageBatch]:
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=random, dtype=torch.float64)
    model = LinearModel(torch.randn(3, SIDE, SIDE, generator=random, dtype=torch.float64))
    zero = torch.zeros(count, dtype=torch.long)
    ids = [f"image{i}" for i in range(count)]
    return images, model, ImageBatch(ids, images, zero, model(images, zero), zero)


def scored(metric: SingleDeletion, batch: ImageBatch, maps: Tensor, model: LinearModel) -> Tensor:
    case = Case(batch, maps)
    return metric.score(case, metric.probe.trace(case, model)).value


def test_the_exact_attribution_of_a_linear_network_scores_100_and_its_negative_minus_100() -> None:
    """Black pixels cost a cell's own sum of w x, which is what input times gradient says of it."""
    images, model, batch = drawn(5)
    exact = (model.weights * images).sum(dim=1)
    assert scored(SingleDeletion(), batch, exact, model).tolist() == pytest.approx([100] * 5)
    assert scored(SingleDeletion(), batch, -exact, model).tolist() == pytest.approx([-100] * 5)
    assert scored(SingleDeletion(), batch, 3 * exact - 7, model).tolist() == pytest.approx([100] * 5)


def test_a_random_map_scores_nothing_within_its_known_deviation() -> None:
    """Spearman's rho of independent orders of k cells has mean 0 and variance 1 / (k - 1)."""
    count = 400
    _, model, batch = drawn(count)
    maps = torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    found = scored(SingleDeletion(), batch, maps, model)
    one = 100 / math.sqrt(16 - 1)
    assert float(found.mean()) == pytest.approx(0, abs=4 * one / math.sqrt(count))
    assert float(found.std()) == pytest.approx(one, rel=0.2)  # four deviations of a deviation of 400: 4 / sqrt(800)


def test_the_score_is_scipys_correlation_with_the_drops_of_each_cell_by_hand() -> None:
    images, model, batch = drawn(3, seed=1)
    maps = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)).round()  # with ties
    case, metric = Case(batch, maps), SingleDeletion(fill="mean", reads="probability")
    scores = metric.score(case, metric.probe.trace(case, model))
    zero = torch.zeros(3, dtype=torch.long)
    for i in range(3):
        drops, held = [], []
        for rows, columns in ((slice(r, r + 4), slice(c, c + 4)) for r in range(0, SIDE, 4) for c in range(0, SIDE, 4)):
            altered = images[i].clone()
            altered[:, rows, columns] = images[i].mean(dim=(1, 2)).view(3, 1, 1)
            gone = model(altered[None], zero[:1]).probability
            drops.append(float(batch.clean.probability[i] - gone))
            held.append(float(maps[i, rows, columns].sum()))
        assert scores.curve[i].tolist() == pytest.approx(drops)
        assert float(scores.value[i]) == pytest.approx(100 * spearmanr(held, drops).statistic)


def test_the_model_is_asked_sixteen_times_an_image_however_many_methods_there_are() -> None:
    _, model, batch = drawn(4)
    model.rows = 0
    for seed in range(3):
        maps = torch.rand(4, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        scored(SingleDeletion(), batch, maps, model)
    assert model.rows == 4 * 16


def test_maps_without_an_order_score_0_and_pictures_without_a_drop_are_left_out() -> None:
    _, model, batch = drawn(2)
    ones = torch.ones(2, SIDE, SIDE)
    assert scored(SingleDeletion(), batch, ones, model).tolist() == [0, 0]
    assert scored(SingleDeletion(constant_maps="drop"), batch, ones, model).isnan().all()
    deaf = LinearModel(torch.zeros(3, SIDE, SIDE, dtype=torch.float64))
    case, metric = Case(drawn(2, seed=5)[2], ones), SingleDeletion()
    case.batch.clean = deaf(case.batch.images, case.batch.targets)
    assert list(metric.score(case, metric.probe.trace(case, deaf)).reasons) == ["all cells cost the same"] * 2


def test_cells_cover_every_pixel_once_also_where_they_cannot_be_even() -> None:
    seen = np.zeros((10, 7), int)
    for cell in cells_of((10, 7), 4):
        seen[cell] += 1
    assert (seen == 1).all()


def test_a_vision_transformer_is_fed_all_patches_but_those_of_one_cell() -> None:
    _, _, batch = drawn(2)
    batch.patches = (8, 8)
    fed: list[Tensor] = []

    def model(images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None) -> Prediction:
        assert kept is not None
        fed.append(kept)
        return Prediction(kept.double().mean(dim=1), targets, kept.double()[:, :2])

    metric = SingleDeletion(fill="drop")
    assert isinstance(metric.probe, OneCellLeftOut)
    assert isinstance(SingleDeletion().probe, OneCell)
    metric.probe.trace(Case(batch, torch.rand(2, SIDE, SIDE)), model)
    grid = np.arange(64).reshape(8, 8)
    assert len(fed) == 16
    for place, kept in enumerate(fed):
        r, c = divmod(place, 4)
        gone = grid[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].ravel().tolist()
        assert kept.tolist() == [[n for n in range(64) if n not in gone]] * 2
    uneven = Case(drawn(2)[2], torch.rand(2, SIDE, SIDE))
    uneven.batch.patches = (7, 7)
    with pytest.raises(ValueError, match="4 x 4 cells do not divide 7 x 7 patches"):
        metric.probe.trace(uneven, model)


def test_contrast_is_0_for_a_method_that_ignores_the_class_and_100_for_the_negative() -> None:
    _, _, batch = drawn(3)
    maps = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    apart = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    kinds = {0.0: lambda targets: 2 * maps + 1, 100.0: lambda targets: -maps}
    for expected, explain in kinds.items():
        value = Contrast().score(Case(batch, maps, explain_as=explain), None).value
        assert value.tolist() == pytest.approx([expected] * 3, abs=1e-4)
    r = [np.corrcoef(maps[i].flatten(), apart[i].flatten())[0, 1] for i in range(3)]
    value = Contrast().score(Case(batch, maps, explain_as=lambda targets: apart), None).value
    assert value.tolist() == pytest.approx([50 * (1 - each) for each in r], abs=1e-4)
    flat = Contrast().score(Case(batch, maps, explain_as=lambda targets: torch.ones_like(maps)), None)
    assert list(flat.reasons) == ["constant map of the other class"] * 3
    with pytest.raises(ValueError, match="maps of a method that can explain another class"):
        Contrast().score(Case(batch, maps), None)


def test_the_other_class_is_the_most_or_the_least_probable_besides_the_explained_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, -1.0], [0.0, 5.0, 1.0, -4.0]])
    targets = torch.tensor([0, 3])
    clean = Prediction(torch.zeros(2), targets, logits)
    batch = ImageBatch(["a", "b"], torch.zeros(2, 3, 2, 2), targets, clean, targets)
    assert other_class(batch, "second").tolist() == [2, 1]
    assert other_class(batch, "least").tolist() == [3, 0]
    with pytest.raises(ValueError, match=r"metric\.contrast\.against: expected one of second, least"):
        Contrast("third")  # type: ignore[arg-type]
