"""ADCC and sensitivity on maps and models whose scores follow by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Prediction
from dix.metrics.steadiness import Adcc, MaxSensitivity, correlation

SIDE = 4
HALF = torch.zeros(1, SIDE, SIDE)
HALF[:, :, :2] = 1


def case(maps: Tensor, explain: Callable[[Tensor], Tensor] | None, images: Tensor | None = None) -> Case:
    images = torch.ones(len(maps), 3, SIDE, SIDE) if images is None else images
    ids = [f"image{i}" for i in range(len(maps))]
    targets = torch.zeros(len(maps), dtype=torch.int64)
    clean = Prediction(torch.full((len(maps),), 0.8), targets)
    return Case(ImageBatch(ids, images, targets, clean, targets), maps, explain)


def constantly(probability: float) -> Callable[[Tensor, Tensor], Prediction]:
    return lambda images, targets: Prediction(torch.full((len(images),), probability), targets)


def adcc(maps: Tensor, explain: Callable[[Tensor], Tensor] | None, masked: float) -> tuple[float, list[float], str]:
    subject = case(maps, explain)
    scores = Adcc().score(subject, Adcc().probe.trace(subject, constantly(masked)))
    return float(scores.value[0]), scores.parts[0].tolist(), scores.reasons[0]


def test_adcc_of_a_coherent_half_map() -> None:
    """Coherency 1, complexity 1/2, drop (0.8 - 0.4) / 0.8 = 1/2: 3 / (1 + 2 + 2) = 0.6."""
    value, terms, reason = adcc(HALF, lambda images: HALF, masked=0.4)
    assert terms == pytest.approx([1, 0.5, 0.5])
    assert value == pytest.approx(60)
    assert reason == ""


def test_adcc_of_an_incoherent_map_is_zero() -> None:
    value, terms, _ = adcc(HALF, lambda images: 1 - HALF, masked=0.8)
    assert terms == pytest.approx([0, 0.5, 1], abs=1e-12)
    assert value == pytest.approx(0, abs=1e-9)


def test_a_rise_is_no_drop() -> None:
    value, terms, _ = adcc(HALF, lambda images: HALF, masked=0.9)
    assert terms == pytest.approx([1, 0.5, 1])
    assert value == pytest.approx(300 / (1 + 2 + 1))


def test_the_masked_image_is_what_is_explained_again() -> None:
    seen = []

    def explain(images: Tensor) -> Tensor:
        seen.append(images)
        return HALF

    adcc(HALF, explain, masked=0.4)
    assert torch.equal(seen[0], HALF.unsqueeze(1).expand(1, 3, SIDE, SIDE))


@pytest.mark.parametrize(
    ("maps", "again", "reason"),
    [
        (torch.ones(1, SIDE, SIDE), HALF, "constant map"),
        (HALF, torch.ones(1, SIDE, SIDE), "constant map of the masked image"),
    ],
)
def test_constant_maps_are_excluded_by_name(maps: Tensor, again: Tensor, reason: str) -> None:
    value, _, why = adcc(maps, lambda images: again, masked=0.4)
    assert np.isnan(value)
    assert why == reason


def test_correlation_equals_numpys() -> None:
    first, second = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert correlation(first, second).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_map_that_ignores_the_image_is_not_sensitive() -> None:
    scores = MaxSensitivity().score(case(HALF, lambda images: HALF), None)
    assert scores.value.tolist() == [0]


def test_sensitivity_of_a_scaled_map_follows_by_hand() -> None:
    """The map grows by a tenth on each call: changes of 10, 20 and 30 percent, of which the largest counts."""
    calls = iter((1.1, 1.2, 1.3))
    scores = MaxSensitivity(copies=3).score(case(HALF, lambda images: HALF * next(calls)), None)
    assert scores.parts[0].tolist() == pytest.approx([0.1, 0.2, 0.3], abs=1e-6)
    assert float(scores.value[0]) == pytest.approx(30, abs=1e-4)


def test_noise_stays_within_its_radius_and_hangs_on_the_id_alone() -> None:
    seen: list[Tensor] = []

    def explain(images: Tensor) -> Tensor:
        seen.append(images)
        return images.mean(dim=1)

    maps = torch.ones(2, SIDE, SIDE)
    MaxSensitivity(copies=2, radius=0.1).score(case(maps, explain), None)
    MaxSensitivity(copies=2, radius=0.1).score(case(maps[:1], explain), None)
    both, again, alone = seen[0], seen[1], seen[2]
    assert float((both - 1).abs().max()) <= 0.1
    assert not torch.equal(both, again)
    assert torch.equal(both[:1], alone)


def test_maps_without_a_method_are_refused() -> None:
    with pytest.raises(ValueError, match="expected maps of a method"):
        MaxSensitivity().score(case(HALF, None), None)
