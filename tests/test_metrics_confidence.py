"""ADP and PIC on closed-form models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Metric, Prediction
from dix.metrics.confidence import Adp, Pic

pytestmark = pytest.mark.numeric


class Bright:
    """P(target) = mean of the left half, minus a tenth of the mean of the right half; counts its rows."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, images: Tensor, targets: Tensor) -> Prediction:
        self.rows += len(images)
        halves = images.double().unflatten(3, (2, -1)).mean(dim=(1, 2, 4))
        probability = halves[:, 0] - 0.1 * halves[:, 1]
        return Prediction(probability, (probability > 0.5).long())


def score(maps: Tensor, images: Tensor | None = None) -> tuple[list[float], list[float], list[str], int]:
    """ADP, PIC, reasons and forwards on white images, whose clean probability is 0.9."""
    model = Bright()
    count = len(maps)
    images = torch.ones(count, 3, *maps.shape[1:]) if images is None else images
    targets = torch.ones(count, dtype=torch.long)
    clean = model(images, targets)
    model.rows = 0
    case = Case(ImageBatch([str(i) for i in range(count)], images, targets, clean, targets), maps)
    assert Adp().probe == Pic().probe
    trace = Adp().probe.trace(case, model)
    adp, pic = Adp().score(case, trace), Pic().score(case, trace)
    assert list(adp.reasons) == list(pic.reasons)
    return adp.value.tolist(), pic.value.tolist(), list(adp.reasons), model.rows


def left() -> Tensor:
    maps = torch.zeros(4, 6)
    maps[:, :3] = 1
    return maps


def one_pixel() -> Tensor:
    maps = torch.zeros(4, 6)
    maps[2, 1] = 7
    return maps


def test_oracle_maps_score_what_the_formula_says() -> None:
    # perfect: O = 1 > Y = 0.9; inverted: O = -0.1, a drop of 1 / 0.9; one pixel of the 12 on the left: O = 1/12;
    # half of the left column tied at the middle: scaled to 0.5 there, O = 0.5
    soft = left().clone()
    soft[:, :3] = 0.5
    soft[0, 5] = 1
    maps = torch.stack([3 * left() - 1, -left(), one_pixel(), soft])
    adp, pic, reasons, rows = score(maps)
    expected = [0, 100 / 0.9, 100 * (0.9 - 1 / 12) / 0.9, 100 * (0.9 - (0.5 - 0.1 / 12)) / 0.9]
    assert adp == pytest.approx(expected)
    assert pic == [100, 0, 0, 0]
    assert reasons == [""] * 4
    assert rows == 4  # one forward a map for both


def test_an_all_ones_map_is_a_perfect_zero_and_other_constants_are_excluded() -> None:
    maps = torch.stack([torch.ones(4, 6), torch.zeros(4, 6), torch.full((4, 6), -2.0)])
    adp, pic, reasons, _ = score(maps)
    assert reasons == ["", "constant map", "constant map"]
    assert (adp[0], pic[0]) == (0, 0)
    assert torch.tensor([adp[1:], pic[1:]]).isnan().all()


def test_an_image_without_clean_probability_is_excluded() -> None:
    adp, _, reasons, _ = score(left()[None], torch.zeros(1, 3, 4, 6))
    assert reasons == ["clean probability is 0"]
    assert adp[0] != adp[0]


def test_scores_do_not_depend_on_the_batch_or_on_scale() -> None:
    maps = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    adp = score(maps)[0]
    assert [score(maps[i : i + 1])[0][0] for i in range(5)] == adp
    assert score(8 * maps + 4)[0] == pytest.approx(adp)


def test_metrics_satisfy_the_contract() -> None:
    metrics: list[Metric] = [Adp(), Pic()]
    assert [(m.label, m.higher_is_better, m.extra) for m in metrics] == [("ADP", False, False), ("PIC", True, False)]
