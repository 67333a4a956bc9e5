"""ROAD against grad-cam's imputer and by hand; tie share and sparseness by hand."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Metric, Prediction
from dix.metrics.imputation import impute
from dix.metrics.road import Road
from dix.metrics.shape import Sparseness, TieShare

pytestmark = pytest.mark.numeric

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
SIDE = 10


class Left:
    """P(target) = mean of the left half; counts its rows."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, images: Tensor, targets: Tensor) -> Prediction:
        self.rows += len(images)
        probability = images[..., : SIDE // 2].double().mean(dim=(1, 2, 3))
        return Prediction(probability, (probability > 0.5).long())


def case_of(maps: Tensor, images: Tensor, pool: ThreadPoolExecutor | None = None) -> Case:
    zero = torch.zeros(len(maps), dtype=torch.long)
    ids = [f"image{i}" for i in range(len(maps))]
    return Case(ImageBatch(ids, images, zero, Left()(images, zero), zero, pool=pool), maps)


def test_imputation_equals_grad_cams() -> None:
    draw = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.95):
        image, removed = draw.random((3, 14, 11), dtype=np.float32), draw.random((14, 11)) < share
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it hands tensors to NumPy
            theirs = NoisyLinearImputer(noise=0.0)(torch.from_numpy(image), torch.from_numpy(~removed).float())
        np.testing.assert_allclose(impute(image, removed), theirs.numpy(), atol=1e-5)


def test_one_removed_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    image = np.arange(27.0).reshape(3, 3, 3) ** 2
    inner, corner = np.zeros((2, 3, 3), dtype=bool)
    inner[1, 1] = corner[0, 0] = True
    beside, across = image[0][[0, 1, 1, 2], [1, 0, 2, 1]], image[0][[0, 0, 2, 2], [0, 2, 0, 2]]
    assert impute(image, inner)[0, 1, 1] == pytest.approx(beside.sum() / 6 + across.sum() / 12)
    assert impute(image, corner)[0, 0, 0] == pytest.approx(
        (2 * image[0, 0, 1] + 2 * image[0, 1, 0] + image[0, 1, 1]) / 5
    )
    assert np.array_equal(impute(image, np.zeros((3, 3), dtype=bool)), image)
    with pytest.raises(ValueError, match=r"metric\.road\.fractions"):
        impute(image, np.ones((3, 3), dtype=bool))


def test_road_of_an_image_that_imputation_restores_is_zero() -> None:
    flat = torch.full((2, 3, SIDE, SIDE), 0.5)
    maps = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    case, metric = case_of(maps, flat), Road(FRACTIONS, noise=0.0)
    assert metric.score(case, metric.probe.trace(case, Left())).value.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_road_rewards_the_map_that_knows_the_decisive_pixels() -> None:
    # one bright pixel decides; removed first it is imputed from black, removed last it stays bright
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[:, :, 4, 2] = 1
    maps = images[:, 0] + torch.arange(SIDE * SIDE).view(1, SIDE, SIDE) / 1e4
    metric = Road(FRACTIONS, noise=0.0)
    right, wrong = (
        metric.score(c, metric.probe.trace(c, Left())) for c in (case_of(maps, images), case_of(-maps, images))
    )
    assert right.curve[0, 5:].abs().max() < 1e-12  # most relevant first: black at once
    assert right.curve[0, 0] == pytest.approx(1 / 50)  # least relevant first: black is imputed by black
    assert float(right.value[0]) > 0
    assert wrong.value.tolist() == pytest.approx([-float(right.value[0])])


def test_road_does_not_depend_on_batch_or_pool_and_costs_two_forwards_a_fraction() -> None:
    draw = torch.Generator().manual_seed(1)
    images, maps = torch.rand(3, 3, SIDE, SIDE, generator=draw), torch.rand(3, SIDE, SIDE, generator=draw)
    metric, model = Road(FRACTIONS), Left()
    together = metric.probe.trace(case_of(maps, images), model).probability
    assert model.rows == 3 * 2 * len(FRACTIONS)
    with ThreadPoolExecutor(2) as pool:
        assert torch.equal(metric.probe.trace(case_of(maps, images, pool), Left()).probability, together)
    first = case_of(maps[:1], images[:1])
    assert torch.equal(metric.probe.trace(first, Left()).probability, together[:1])
    noisy = Road(FRACTIONS, noise=0.2).probe.trace(case_of(maps, images), Left()).probability
    assert not torch.equal(noisy, together)
    with pytest.raises(ValueError, match=r"metric\.road\.fractions"):
        _ = Road((0.0, 0.5)).probe


def test_tie_share_and_sparseness_by_hand() -> None:
    maps = torch.zeros(4, 2, 2)
    maps[1, 0, 0] = -7  # one pixel holds everything: Gini = 1 - 1 / 4
    maps[2] = torch.tensor([[1.0, 2], [3, 4]])  # Gini = (2 (1 + 4 + 9 + 16) - 5 * 10) / (4 * 10) = 1/4
    maps[3] = 5.0
    case = case_of(maps, torch.zeros(4, 3, SIDE, SIDE))
    metrics: list[Metric] = [Sparseness(), TieShare()]
    values = [m.score(case, None).value.tolist() for m in metrics]
    assert values[0] == pytest.approx([0, 75, 25, 0])
    assert values[1] == pytest.approx([100, 75, 0, 100])
    assert all(m.extra and m.higher_is_better is None for m in metrics)
