"""XRAI: against the saliency library, segment by segment and map by map, and by hand."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from saliency.core import XRAI
from saliency.core.base import INPUT_OUTPUT_GRADIENTS
from saliency.core.xrai import XRAIParameters, _get_segments_felzenszwalb
from support.baseline_networks import classifier, convnext, images, in_double, traces
from torch import nn

from dix.baselines.xrai import Xrai, ranked, regions
from dix.classifier import Classifier
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.explainer import Explainer
from dix.passes import Passes

pytestmark = pytest.mark.numeric

TARGETS = torch.tensor([2, 4, 9])


def photo(side: int) -> np.ndarray:
    """[side, side, 3] a photo."""
    return Preprocess(side).image(Photos().read(3).image).double().permute(1, 2, 0).numpy()


@cache
def masks_of_a_photo() -> np.ndarray:
    """The regions of the photo at 100 pixels, which is enlarged before and small again after."""
    return regions(photo(100))


def call_of(made: Classifier, target: int) -> Any:
    """The network in the form that `saliency` calls: channels last, normalised."""

    def call(x: np.ndarray, call_model_args: object = None, expected_keys: object = None) -> dict[str, np.ndarray]:
        leaf = torch.from_numpy(np.asarray(x, dtype=np.float64)).permute(0, 3, 1, 2).contiguous().requires_grad_()
        (g,) = torch.autograd.grad(made.network(leaf).softmax(dim=1)[:, target].sum(), leaf)
        return {INPUT_OUTPUT_GRADIENTS: g.permute(0, 2, 3, 1).numpy()}

    return call


def test_regions_are_those_of_saliency() -> None:
    """At 100 pixels the image is enlarged before and the segments made small after; the library draws every mask."""
    image = photo(100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _get_segments_felzenszwalb(image)
    ours = masks_of_a_photo()
    assert len(ours) == sum(mask.any() for mask in theirs)
    for mask, other in zip(ours, (mask for mask in theirs if mask.any()), strict=True):
        assert (mask == other).all()


def test_ranking_is_that_of_saliency() -> None:
    masks = masks_of_a_photo()
    random = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(random.normal(size=(100, 100)), axis=0), axis=1)
    for attribution in (random.normal(size=(100, 100)), smooth):
        theirs, _ = XRAI._xrai(attribution, list(masks), min_pixel_diff=50)
        np.testing.assert_allclose(ranked(attribution, masks, 50), theirs, rtol=1e-9, atol=1e-12)


def test_xrai_equals_saliency() -> None:
    made = in_double(convnext())
    passes = Passes(made, images(2).double(), TARGETS[:2])
    ours = Xrai(steps=4, rule="endpoints").explain(passes)
    colours = [
        made.normalise(torch.full((1, 3, 64, 64), level).double())[0].permute(1, 2, 0).numpy() for level in (0.0, 1.0)
    ]
    mask = XRAI().GetMask(  # of the second image: the first only has to stay out of it
        made.normalise(passes.images)[1].permute(1, 2, 0).numpy(),
        call_of(made, int(TARGETS[1])),
        baselines=colours,
        extra_parameters=XRAIParameters(steps=4),
    )
    np.testing.assert_allclose(ours[1].numpy(), mask, rtol=1e-6, atol=1e-9 * abs(mask).max())


def test_ranking_by_hand() -> None:
    """A region takes what is left of it; the overlap counts for the denser one, the rest is one region of its own."""
    attribution = np.array([[9.0, 7, 1, 3, 2, 2]])
    masks = np.array([[[1, 1, 1, 0, 0, 0]], [[1, 1, 0, 0, 0, 0]], [[0, 0, 1, 1, 0, 0]]], dtype=bool)
    np.testing.assert_allclose(ranked(attribution, masks, 1), [[8, 8, 2, 2, 2, 2]])
    np.testing.assert_allclose(ranked(attribution, masks[:1], 1), [[17 / 3] * 3 + [7 / 3] * 3])
    np.testing.assert_allclose(ranked(attribution, masks, 3), [[17 / 3] * 3 + [7 / 3] * 3])  # too few new pixels
    np.testing.assert_allclose(ranked(attribution, masks, 7), [[4.0] * 6])


def test_the_sum_is_that_of_the_attribution_and_no_region_is_cut() -> None:
    random = np.random.default_rng(1)
    attribution, masks = random.normal(size=(100, 100)), masks_of_a_photo()
    made = ranked(attribution, masks, 50)
    np.testing.assert_allclose(made.sum(), attribution.sum(), rtol=1e-9)
    assert len(np.unique(made)) <= len(masks) + 1


def test_an_image_of_one_colour_is_no_error() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
    made = classifier(network, {}).to("cpu", torch.float64)
    grey = torch.full((1, 3, 64, 64), 0.3, dtype=torch.float64)
    assert Xrai(steps=2).explain(Passes(made, grey, torch.tensor([0]))).isfinite().all()


def test_batch_and_chunk_change_nothing() -> None:
    made, x = in_double(convnext()), images().double()
    method = Xrai(steps=3)
    whole = method.explain(Passes(made, x[:2], TARGETS[:2]))
    alone = method.explain(Passes(made, x[1:2], TARGETS[1:2], chunk=1))
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-6, atol=1e-10)
    assert traces(made.network) == []


def test_two_paths_are_walked() -> None:
    made, count = in_double(convnext()), []
    handle = made.network.register_forward_pre_hook(lambda _m, inputs: count.append(len(inputs[0])))
    Xrai(steps=3).explain(Passes(made, images(1).double(), TARGETS[:1]))
    handle.remove()
    assert sum(count) == 2 * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Xrai(steps=0), "steps: expected an integer of at least 1, got 0"),
        (lambda: Xrai(fresh=0), "fresh: expected an integer of at least 1, got 0"),
        (lambda: Xrai(score="loss"), "score: expected one of logit, probability"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_refused_with_its_key(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_configuration_is_the_method() -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath("method/xrai.yaml").read_text())["xrai"])
    assert made == Xrai()
    assert isinstance(made, Explainer)
