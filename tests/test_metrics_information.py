"""SIC and AIC against PAIR's own implementation, hand-derived curves and closed-form models."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from saliency.metrics import pic
from scipy.interpolate import griddata
from skimage import data
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Prediction, Scores, Trace
from dix.metrics.information import Aic, Sic, pixels, start_pixels
from dix.metrics.median_curve import GRID, on_grid
from dix.metrics.scattered import CORNERS, Codec, interpolate, restore

pytestmark = pytest.mark.numeric

THRESHOLDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75)
SIDE = 48
FAST_SIC = Sic(THRESHOLDS, effort=0)  # a cheap encoder, where the bytes themselves do not matter


class Closeness:
    """P(target) falls with the distance from the target's own image; a target is the number of an image."""

    def __init__(self, originals: Tensor) -> None:
        self.rows = 0
        self._originals = originals.double()

    def __call__(self, images: Tensor, targets: Tensor) -> Prediction:
        self.rows += len(images)
        distance = (images.double() - self._originals[targets]).abs().mean(dim=(1, 2, 3))
        probability = torch.exp(-25 * distance)
        return Prediction(probability, torch.where(probability > 0.6, targets, targets + 1))


def photos(side: int = SIDE) -> Tensor:
    """Three photographs as [3, 3, side, side] in [0, 1], exact multiples of 1 / 255."""
    pictures = [Image.fromarray(d).resize((side, side)) for d in (data.astronaut(), data.chelsea(), data.coffee())]
    return torch.from_numpy(np.stack([np.array(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255


def smooth_and_grainy(count: int = 3, side: int = SIDE) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 7, 7, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[:, 0]
    return smooth, torch.rand(count, side, side, generator=draw) * smooth


def case_of(model: Closeness, images: Tensor, maps: Tensor, pool: Executor | None = None) -> Case:
    targets = torch.arange(len(images))
    clean = model(images, targets)
    model.rows = 0
    return Case(ImageBatch([f"image{i}" for i in targets], images, targets, clean, targets, pool=pool), maps)


def run(metric: Sic | Aic, case: Case, model: Closeness) -> Scores:
    return metric.score(case, metric.probe.trace(case, model))


@pytest.mark.parametrize("kind", [0, 1])
def test_curves_agree_with_the_library_on_the_same_mask(kind: int) -> None:
    images, maps = photos(112)[kind : kind + 1], smooth_and_grainy(1, 112)[kind]
    model = Closeness(images)
    case = case_of(model, images, maps)
    trace = Sic(THRESHOLDS).probe.trace(case, model)
    image, mask = pixels(case.batch)[0], start_pixels(case.batch, 0.01, 0)[0]

    def ask(x: np.ndarray) -> Prediction:
        rows = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
        return model(rows, torch.zeros(len(rows), dtype=torch.long))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # np.trapz
        theirs = pic.compute_pic_metric(
            image, maps[0].double().numpy(), mask, lambda x: ask(x).probability.tolist(), THRESHOLDS, 0.5
        )
    sizes = np.array([pic.estimate_image_entropy(b) for b in theirs.blurred_images])
    assert trace.side["bytes"][0].tolist() == sizes.tolist()
    assert float(Sic(THRESHOLDS).score(case, trace).value[0]) == pytest.approx(100 * theirs.auc, abs=1e-6)
    # with the library's own sizes and predictions, the curve and its area are the library's to rounding
    said = ask(np.stack(theirs.blurred_images))
    areas = []
    for y in (said.probability.numpy(), (said.predicted == 0).double().numpy()):
        both = [np.clip((v[1:-1] - v[0]) / (v[-1] - v[0]), 0, 1) for v in (sizes, y)]
        curve = on_grid(np.concatenate(both)[None])[0]
        areas.append(np.trapezoid(curve, GRID))
        if len(areas) == 1:
            np.testing.assert_allclose(curve, theirs.curve_y, atol=1e-12)
    assert areas[0] == pytest.approx(theirs.auc, abs=1e-12)
    assert float(Aic(THRESHOLDS).score(case, trace).value[0]) == pytest.approx(100 * areas[1], abs=1e-6)


def test_aggregates_agree_with_the_library() -> None:
    draw = np.random.default_rng(0)
    points = draw.random((7, 26))
    curves = on_grid(points)
    theirs = [pic.PicMetricResult(GRID, c, [], [], [], 0.0) for c in curves]
    value = 100 * np.trapezoid(curves, GRID, axis=1)
    for aggregate in ("median", "mean"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = 100 * pic.aggregate_individual_pic_results(theirs, aggregate).auc
        metric = Sic(THRESHOLDS, aggregate=aggregate)  # type: ignore[arg-type]
        assert metric.summary(value, points, points)().tolist() == pytest.approx([expected])
        excluded = np.append(value, np.nan)
        more = np.vstack([points, draw.random((1, 26))])
        assert metric.summary(excluded, more, more)().tolist() == pytest.approx([expected])
        weights = np.array([[2, 0, 1, 1, 0, 3, 1, 9], [0, 0, 0, 0, 0, 0, 0, 1]])
        resampled = [theirs[i] for i in (0, 0, 2, 3, 5, 5, 5, 6)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = 100 * pic.aggregate_individual_pic_results(resampled, aggregate).auc
        got = metric.summary(excluded, more, more)(weights)
        assert got[0] == pytest.approx(expected)
        assert np.isnan(got[1])


def trace_of(x: list[float], y: list[float]) -> Trace:
    """A trace whose information runs from 1000 to 3000 bytes and whose prediction runs from 0.2 to 0.7."""
    sizes = torch.tensor([[1000, *(1000 + 2000 * v for v in x), 3000]])
    probability = torch.tensor([[0.2, *(0.2 + 0.5 * v for v in y), 0.7]])
    return Trace(probability, torch.where(probability > 0.45, 0, 5), {"bytes": sizes})


def plain_case(clean: float = 0.7, predicted: int = 0) -> Case:
    zero = torch.zeros(1, dtype=torch.long)
    said = Prediction(torch.tensor([clean]), torch.tensor([predicted]))
    return Case(ImageBatch(["a"], torch.zeros(1, 3, 4, 4), zero, said, zero), torch.zeros(1, 4, 4))


# Curves run through (0, 0), the points and (1, 1); areas by hand from trapezoids, in percent. Accuracy is 1 where the
# normalised prediction exceeds 0.5, and the curve may only rise.
@pytest.mark.parametrize(
    ("x", "y", "sic", "aic"),
    [
        ([0.5, 0.75], [0.4, 0.75], 50 * 0.2 + 25 * 0.575 + 25 * 0.875, 25 * 0.5 + 25),
        ([0.25, 0.5], [1.0, 1.0], 87.5, 87.5),
        ([0.25, 0.5], [0.0, 0.0], 25, 25),
        ([0.25, 0.5], [0.8, 0.4], 25 * 0.4 + 25 * 0.8 + 50 * 0.9, 87.5),
        ([0.4, 0.2], [0.8, 0.8], 20 * 0.4 + 20 * 0.8 + 60 * 0.9, 90),  # information may fall
        ([-1.0, 2.0], [-3.0, 9.0], 50, 50),  # clipped to both ends
    ],
)
def test_area_of_a_curve_is_what_geometry_says(x: list[float], y: list[float], sic: float, aic: float) -> None:
    case, trace = plain_case(), trace_of(x, y)
    assert Sic((0.1, 0.2)).score(case, trace).value.tolist() == pytest.approx([sic], abs=0.1)
    assert Aic((0.1, 0.2)).score(case, trace).value.tolist() == pytest.approx([aic], abs=0.1)


def test_images_are_excluded_by_the_stated_rules() -> None:
    trace = trace_of([0.5], [0.5])
    metric = Sic((0.1,))
    assert list(replace(metric, min_pred_value=0.8).score(plain_case(), trace).reasons) == [
        "clean prediction below the limit"
    ]
    assert list(metric.score(plain_case(), trace).reasons) == [""]
    larger = replace(trace, side={"bytes": torch.tensor([[3000, 2000, 3000]])})
    assert list(metric.score(plain_case(), larger).reasons) == ["blurred image is not smaller"]
    sure = replace(trace, probability=torch.tensor([[0.7, 0.45, 0.7]]))
    score = metric.score(plain_case(), sure)
    assert list(score.reasons) == ["blurred prediction is not lower"]
    assert score.value.isnan().all()
    accuracy = Aic((0.1,))
    wrong = replace(trace, predicted=torch.tensor([[5, 0, 3]]))
    assert list(accuracy.score(plain_case(), wrong).reasons) == ["clean prediction below the limit"]
    right = replace(trace, predicted=torch.tensor([[0, 0, 0]]))
    assert list(accuracy.score(plain_case(), right).reasons) == ["blurred prediction is not lower"]


def test_tied_maps_reveal_their_ties_together_unless_ranks_are_asked_for() -> None:
    images = photos()
    model = Closeness(images)
    tied = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    tied[0] = 0.3  # constant: everything at once
    tied[1:] = torch.relu(tied[1:] - 0.69)  # 69 % zeros: everything from 0.34 on
    case = case_of(model, images, tied)
    trace = FAST_SIC.probe.trace(case, model)
    sizes = trace.side["bytes"]
    whole = sizes[:, 1:-1] == sizes[:, -1:]
    assert whole[0].all()
    assert whole[1].tolist() == [t >= 0.34 for t in THRESHOLDS]
    # a constant map goes from (0, 0) to (1, 1) in one step
    assert float(FAST_SIC.score(case, trace).value[0]) == pytest.approx(50)
    by_rank = replace(FAST_SIC, reveal="rank").probe
    shown = by_rank._revealed(case).sum(axis=(2, 3))
    assert shown.tolist() == [[int(t * SIDE * SIDE + 1e-9) for t in THRESHOLDS]] * 3


def test_informative_maps_beat_random_ones_and_inverted_ones() -> None:
    # Distance from the image counts, so a map of each pixel's own distance from the blurred image is the best guess.
    images = photos()
    model = Closeness(images)
    case = case_of(model, images, torch.zeros(3, SIDE, SIDE))
    start = start_pixels(case.batch, 0.01, 0)
    blurred = np.stack([restore(i, s) for i, s in zip(pixels(case.batch), start, strict=True)])
    error = torch.from_numpy(np.abs(blurred.astype(float) - pixels(case.batch)).sum(axis=3))
    error = torch.nn.functional.avg_pool2d(error[:, None], 9, 1, 4)[:, 0]
    noise = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    best, middle, worst = (run(FAST_SIC, Case(case.batch, m), model).value for m in (error, noise, -error))
    assert (best > middle).all()
    assert (best > worst).all()


def test_one_pixel_maps_reveal_everything_with_their_ties() -> None:
    images = photos()[:1]
    model = Closeness(images)
    one = torch.zeros(1, SIDE, SIDE)
    one[0, 30, 20] = 1  # every quantile but the largest is 0, and every pixel is at least 0
    assert run(FAST_SIC, case_of(model, images, one), model).value.tolist() == pytest.approx([50])


def test_monotone_transforms_change_no_rank_and_no_curve() -> None:
    images, maps = photos()[:1], smooth_and_grainy()[1][:1].double()
    model = Closeness(images)
    for metric in (replace(FAST_SIC, reveal="quantile"), replace(FAST_SIC, reveal="rank")):
        base = run(metric, case_of(model, images, maps), model).curve
        assert torch.equal(run(metric, case_of(model, images, 4 * maps - 1), model).curve, base)
        assert torch.equal(run(metric, case_of(model, images, maps**3), model).curve, base)


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    spawn = multiprocessing.get_context("spawn")
    make = {"threads": lambda: ThreadPoolExecutor(3), "processes": lambda: ProcessPoolExecutor(2, mp_context=spawn)}
    with make[request.param]() as executor:
        yield executor


def test_results_do_not_depend_on_workers_batch_or_order(pool: Executor) -> None:
    images, maps = photos(), smooth_and_grainy()[0]
    model = Closeness(images)
    whole = case_of(model, images, maps)
    together = run(FAST_SIC, whole, model)
    shared = run(FAST_SIC, case_of(model, images, maps, pool), model)
    assert torch.equal(shared.curve, together.curve)
    assert torch.equal(shared.parts, together.parts)
    batch = whole.batch
    for order in ([2, 0], [1]):
        clean = Prediction(batch.clean.probability[order], batch.clean.predicted[order])
        ids = [batch.ids[i] for i in order]
        part = ImageBatch(ids, images[order], batch.targets[order], clean, batch.labels[order], pool=pool)
        assert torch.equal(run(FAST_SIC, Case(part, maps[order]), model).curve, together.curve[order])


def test_forwards_are_thirteen_a_map_and_one_an_image() -> None:
    images = photos()
    model = Closeness(images)
    smooth, grainy = smooth_and_grainy()
    first = case_of(model, images, smooth)
    assert Sic(THRESHOLDS).probe == Aic(THRESHOLDS).probe
    FAST_SIC.probe.trace(first, model)
    assert model.rows == (13 + 1) * 3
    FAST_SIC.probe.trace(Case(first.batch, grainy), model)
    assert model.rows == (13 + 1 + 13) * 3


def mask_with(kind: str, share: float, shape: tuple[int, int] = (41, 37)) -> np.ndarray:
    draw = np.random.default_rng(4)
    known = draw.random(shape) < 0.01
    if kind == "grainy":
        known |= draw.random(shape) < share
    else:
        known[: int(shape[0] * share), 5:] = True
    known[CORNERS] = True
    return known


@pytest.mark.parametrize("kind", ["grainy", "blob"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.75, 0.97])
def test_interpolation_uses_delaunay_triangles(kind: str, share: float) -> None:
    # On z = x^2 + y^2 Delaunay triangles are the lower convex hull: a value that no choice of diagonals changes and
    # that any other triangle exceeds. The oracle triangulates all known pixels.
    known = mask_with(kind, share)
    y, x = np.indices(known.shape)
    values = np.stack([x**2 + y**2, 3 * x - 2 * y], axis=2).astype(float)
    expected = griddata(np.argwhere(known), values[known], np.argwhere(~known), method="linear")
    np.testing.assert_allclose(interpolate(values, known), expected, atol=1e-9)
    np.testing.assert_allclose(interpolate(values, known)[:, 1], values[~known][:, 1], atol=1e-9)


def test_restored_images_keep_what_is_known() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    assert restore(image, np.ones((20, 24), dtype=bool)) is image
    known = mask_with("grainy", 0.4, (20, 24))
    out = restore(image, known)
    assert np.array_equal(out[known], image[known])
    assert not np.array_equal(out, image)
    only_corners = restore(image, np.zeros((20, 24), dtype=bool))
    assert np.array_equal(only_corners[CORNERS], image[CORNERS])


def test_bytes_are_the_librarys_and_the_codec_is_recorded() -> None:
    image = np.array(Image.fromarray(data.chelsea()).resize((64, 64)))
    assert Codec().size(image) == pic.estimate_image_entropy(image)
    assert Codec(effort=0).size(image) > Codec().size(image)
    record = Codec().provenance()
    assert set(record) == {"format", "quality", "effort", "libwebp", "pillow"}
    assert (record["quality"], record["effort"]) == (100, 4)


def test_start_pixels_are_one_percent_and_depend_on_id_and_seed() -> None:
    zero = torch.zeros(3, dtype=torch.long)
    clean = Prediction(zero.double(), zero)
    batch = ImageBatch(["a", "b", "a"], torch.zeros(3, 3, 224, 224), zero, clean, zero)
    masks = start_pixels(batch, 0.01, 0)
    assert masks.sum(axis=(1, 2)).tolist() == [501] * 3  # int(0.01 * 50176), as the library draws
    assert np.array_equal(masks[0], masks[2])
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks, start_pixels(batch, 0.01, 1))


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"reveal": "all"}, "reveal"), ({"aggregate": "mode"}, "aggregate"), ({"thresholds": (2.0,)}, "thresholds")],
)
def test_a_wrong_choice_names_its_key(changes: dict[str, object], key: str) -> None:
    with pytest.raises(ValueError, match=f"protocol.{key}"):
        replace(FAST_SIC, **changes)  # type: ignore[arg-type]
