"""Segmentation metrics on hand-drawn masks, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, jaccard_score
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Metric, Prediction
from dix.metrics.segmentation import (
    BestIou,
    EnergyInMask,
    ImageF1,
    MeanAp,
    MeanIou,
    ObjectAp,
    PixelAccuracy,
    Pointing,
    RowF1,
)

SIDE = 8
ALL = [PixelAccuracy, MeanIou, MeanAp, ObjectAp, RowF1, ImageF1, BestIou, Pointing, EnergyInMask]


def case_of(maps: Tensor, masks: Tensor | None, has_mask: Tensor | None = None) -> Case:
    count = len(maps)
    images = torch.zeros(count, 3, *maps.shape[1:])
    zero = torch.zeros(count, dtype=torch.long)
    ids = [f"image{i}" for i in range(count)]
    batch = ImageBatch(ids, images, zero, Prediction(zero.double(), zero), zero, masks, has_mask)
    return Case(batch, maps)


def summary_of(metric: Metric, case: Case, weights: np.ndarray | None = None) -> list[float]:
    scores = metric.score(case, None)
    return metric.summary(scores.value.numpy(), scores.parts.numpy(), scores.curve.numpy())(weights).tolist()


def half() -> Tensor:
    """An object that fills the upper half of the image: [1, 8, 8]."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.int8)
    mask[:, :4] = 1
    return mask


# Perfect and inverted: truth and its complement. The pooled AP of the inverted map: all 64 positives score 0 and lie
# at the end with the 64 negatives before them, in one group of ties of precision 64 / 128.
# One pixel (on the object): foreground is that pixel; PA = (1 + 32) / 64; IoU object = 1 / 32, background = 32 / 63;
# pooled AP: the scores equal to 1 are the pixel and the 63 values 1 - 0, of which 32 are background: 33 of 64 correct,
# the other 31 positives come with 33 negatives at 0, so AP = (33 * 33 / 64 + 31 * 64 / 128) / 64; object AP: the pixel
# first (precision 1), the rest in one group (32 / 64), AP = 1 / 32 + 31 / 32 / 2; F1 = 2 / 33, in its own row 2 / 9;
# best IoU: taking everything gives 32 / 64.
# Half-zero: 1 on the left half. PA = 1/2, IoU = 16 / 48 twice, F1 = 1/2; rows above: 2 * 4 / (4 + 8) = 2/3, below: 0.
# Pooled AP: at score 1 are 32 left pixels (16 object) and the 32 right ones (16 background), precision 1/2 all through.
ORACLE = {
    "perfect": {"PA": 100, "mIoU": 100, "mAP": 100, "AP (object)": 100, "mF1 (rows)": 50, "mF1": 100}
    | {"best IoU": 100, "pointing": 100, "energy": 100},
    "inverted": {"PA": 0, "mIoU": 0, "mAP": 50, "AP (object)": 50, "mF1 (rows)": 0, "mF1": 0}
    | {"best IoU": 50, "pointing": 0, "energy": 0},
    "one pixel": {"PA": 100 * 33 / 64, "mIoU": 50 * (1 / 32 + 32 / 63), "AP (object)": 100 * (1 / 32 + 31 / 64)}
    | {"mAP": 100 * (33 * 33 / 64 + 31 / 2) / 64, "mF1 (rows)": 100 * (2 / 9) / 8, "mF1": 100 * 2 / 33}
    | {"best IoU": 50, "pointing": 100, "energy": 100},
    "half zero": {"PA": 50, "mIoU": 100 / 3, "mAP": 50, "AP (object)": 50, "mF1 (rows)": 100 / 3, "mF1": 50}
    | {"best IoU": 50, "pointing": 50, "energy": 50},
}


def oracle(name: str) -> Tensor:
    maps = torch.zeros(1, SIDE, SIDE)
    if name == "perfect":
        maps[:, :4] = 1
    elif name == "inverted":
        maps[:, 4:] = 1
    elif name == "one pixel":
        maps[:, 1, 2] = 1
    else:
        maps[:, :, :4] = 1
    return maps


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("name", list(ORACLE))
def test_oracle_maps_score_what_was_derived_by_hand(metric: type[PixelAccuracy], name: str) -> None:
    case = case_of(5 * oracle(name) - 2, half())  # in any scale
    scores = metric().score(case, None)
    assert scores.value.tolist() == pytest.approx([ORACLE[name][metric.label]])
    assert summary_of(metric(), case) == pytest.approx([ORACLE[name][metric.label]])


def test_random_maps_score_at_chance() -> None:
    maps = torch.rand(40, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(40, 64, 64, dtype=torch.int8)
    masks[:, :, :32] = 1
    case = case_of(maps, masks)
    expected = {PixelAccuracy: 50, MeanIou: 100 / 3, MeanAp: 50, ObjectAp: 50, ImageF1: 50, EnergyInMask: 50}
    for metric, chance in expected.items():
        assert summary_of(metric(), case) == pytest.approx([chance], abs=0.6)


@pytest.mark.parametrize("metric", ALL)
def test_constant_maps_and_useless_masks_are_excluded_with_their_reason(metric: type[PixelAccuracy]) -> None:
    maps = torch.stack([torch.full((SIDE, SIDE), 0.1), *[oracle("perfect")[0]] * 4])
    masks = torch.cat([half(), half(), torch.zeros_like(half()), -torch.ones_like(half()), half()])
    case = case_of(maps, masks, torch.tensor([True, False, True, True, True]))
    scores = metric().score(case, None)
    assert list(scores.reasons) == ["constant map", "no truth mask", "empty truth mask", "every pixel is void", ""]
    assert scores.value.isnan().tolist() == [True, True, True, True, False]
    assert summary_of(metric(), case) == pytest.approx([ORACLE["perfect"][metric.label]])
    assert list(metric().score(case_of(maps, None), None).reasons) == ["no truth mask"] * 5


def noisy(count: int = 6, height: int = 20, width: int = 16) -> tuple[Tensor, Tensor]:
    """Maps with many ties and masks with objects, background and void."""
    draw = torch.Generator().manual_seed(3)
    maps = torch.relu(torch.randn(count, height, width, generator=draw)).mul(8).round()
    masks = torch.randint(-1, 2, (count, height, width), generator=draw, dtype=torch.int8)
    return maps, masks


def known(maps: Tensor, masks: Tensor, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scaled map, foreground and truth of image i, without void pixels."""
    values, keep = maps[i].double().numpy(), masks[i].numpy() >= 0
    scaled = (values - values.min()) / (values.max() - values.min())
    return scaled[keep], (values > values.mean())[keep], masks[i].numpy()[keep]


def test_average_precision_equals_scikit_learn() -> None:
    maps, masks = noisy()
    case = case_of(maps, masks)
    pooled, single = MeanAp().score(case, None).value, ObjectAp().score(case, None).value
    for i in range(len(maps)):
        scaled, _, truth = known(maps, masks, i)
        scores, positive = np.concatenate([1 - scaled, scaled]), np.concatenate([truth == 0, truth == 1])
        assert float(pooled[i]) == pytest.approx(100 * average_precision_score(positive, scores), abs=1e-9)
        assert float(single[i]) == pytest.approx(100 * average_precision_score(truth == 1, scaled), abs=1e-9)


def test_f1_and_iou_equal_scikit_learn() -> None:
    maps, masks = noisy()
    case = case_of(maps, masks)
    image, row = ImageF1().score(case, None).value, RowF1().score(case, None).value
    iou, best = MeanIou().score(case, None).value, BestIou().score(case, None).value
    for i in range(len(maps)):
        scaled, said, truth = known(maps, masks, i)
        assert float(image[i]) == pytest.approx(100 * f1_score(truth == 1, said))
        both = [jaccard_score(truth == c, said == c) for c in (0, 1)]
        assert float(iou[i]) == pytest.approx(100 * sum(both) / 2)
        levels = [jaccard_score(truth == 1, scaled >= t) for t in np.unique(scaled)]
        assert float(best[i]) == pytest.approx(100 * max(levels))
        values, mask = maps[i].double().numpy(), masks[i].numpy()
        per_row = [
            f1_score(t[t >= 0] == 1, p[t >= 0], zero_division=0)
            for p, t in zip(values > values.mean(), mask, strict=True)
        ]
        assert float(row[i]) == pytest.approx(100 * np.mean(per_row))


def test_miou_and_accuracy_pool_pixels_over_the_data_set() -> None:
    maps, masks = noisy()
    case = case_of(maps, masks)
    weights = np.array([[1, 1, 1, 1, 1, 1], [0, 2, 0, 1, 0, 0]])
    got_iou, got_pa = summary_of(MeanIou(), case, weights), summary_of(PixelAccuracy(), case, weights)
    for r, chosen in enumerate(([0, 1, 2, 3, 4, 5], [1, 1, 3])):
        parts = [known(maps, masks, i) for i in chosen]
        said, truth = np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts])
        assert got_iou[r] == pytest.approx(50 * sum(jaccard_score(truth == c, said == c) for c in (0, 1)))
        assert got_pa[r] == pytest.approx(100 * float(np.mean(said == truth)))


def test_void_is_what_the_protocol_says() -> None:
    mask = half()
    mask[:, 3] = -1  # 24 object, 8 void, 32 background pixels
    maps = oracle("perfect").clone()
    case = case_of(maps, mask)
    assert PixelAccuracy("ignore").score(case, None).parts.tolist() == [[56, 56]]
    assert PixelAccuracy("foreground").score(case, None).parts.tolist() == [[64, 64]]
    assert PixelAccuracy("background").score(case, None).parts.tolist() == [[56, 64]]
    assert MeanIou("background").score(case, None).parts.tolist() == [[32, 40, 24, 32]]
    with pytest.raises(ValueError, match=r"protocol\.void"):
        PixelAccuracy("drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ALL)
def test_scores_do_not_depend_on_the_batch_or_on_scale(metric: type[PixelAccuracy]) -> None:
    maps, masks = noisy()
    together = metric().score(case_of(maps, masks), None).value
    for i in range(len(maps)):
        alone = metric().score(case_of(maps[i : i + 1], masks[i : i + 1]), None).value
        assert torch.equal(alone, together[i : i + 1])
    scaled = metric().score(case_of(4 * maps - 8, masks), None).value
    np.testing.assert_allclose(scaled, together, rtol=1e-12)


@pytest.mark.parametrize("metric", [ObjectAp, BestIou, Pointing])
def test_monotone_transforms_change_no_ranking_metric(metric: type[ObjectAp]) -> None:
    maps, masks = noisy()
    together = metric().score(case_of(maps, masks), None).value
    assert torch.equal(metric().score(case_of(torch.exp(maps.double()), masks), None).value, together)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="truth masks"):
        PixelAccuracy().score(case_of(torch.rand(1, SIDE, SIDE), torch.ones(1, 4, 4)), None)


def test_metrics_satisfy_the_contract_and_say_which_are_extra() -> None:
    metrics: list[Metric] = [metric() for metric in ALL]  # type: ignore[misc]
    assert all(isinstance(m, Metric) and m.needs_mask and m.probe is None for m in metrics)
    assert {m.label for m in metrics if m.extra} == {"AP (object)", "best IoU", "pointing", "energy"}
