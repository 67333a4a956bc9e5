"""Perturbation metrics on closed-form models, against hand-derived scores and a literal loop."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Metric, Prediction, Probe, Scores, mean_summary
from dix.metrics.curves import area
from dix.metrics.derived import Difference
from dix.metrics.faithfulness import Del, Ins, Neg, Pos
from dix.metrics.fills import canvas
from dix.metrics.options import floats
from dix.metrics.probes import Blackout
from dix.metrics.ranks import ascending, first, generator, inverse, tie_share

pytestmark = pytest.mark.numeric

TENTHS = tuple(k / 10 for k in range(10))
SIDE = 10  # images of 10 x 10 pixels: a tenth is one row of ten pixels


class Counted:
    """A closed-form two-class model that counts the rows it is given."""

    def __init__(self, probability: Callable[[Tensor], Tensor]) -> None:
        self.rows = 0
        self.calls = 0
        self._probability = probability

    def __call__(self, images: Tensor, targets: Tensor) -> Prediction:
        self.rows += len(images)
        self.calls += 1
        one = self._probability(images).double()
        probability = torch.where(targets == 1, one, 1 - one)
        return Prediction(probability, (one > 0.5).long())


def left(images: Tensor) -> Tensor:
    """P(class 1) = mean of the left half of the image."""
    return images[..., : SIDE // 2].mean(dim=(1, 2, 3))


def anywhere(images: Tensor) -> Tensor:
    """P(class 1) = 1 while any pixel of the left half is lit."""
    return images[..., : SIDE // 2].amax(dim=(1, 2, 3))


def flat(images: Tensor) -> Tensor:
    """P(class 1) = 0.75 whatever the image."""
    return torch.full((len(images),), 0.75)


def case_of(model: Counted, maps: Tensor, images: Tensor | None = None, labels: Tensor | None = None) -> Case:
    images = torch.ones(len(maps), 3, SIDE, SIDE) if images is None else images
    targets = torch.ones(len(maps), dtype=torch.long)
    clean = model(images, targets)
    model.rows = model.calls = 0
    ids = [f"image{i}" for i in range(len(maps))]
    labels = torch.full_like(targets, -1) if labels is None else labels
    return Case(ImageBatch(ids, images, targets, clean, labels), maps)


def run(metric: Metric, case: Case, model: Counted) -> Scores:
    assert metric.probe is not None
    return metric.score(case, metric.probe.trace(case, model))


def perfect() -> Tensor:
    """Relevance 1 on the left half, plus a gradient that leaves no ties."""
    tilt = torch.arange(SIDE * SIDE).view(SIDE, SIDE) / 1000
    return (tilt + (torch.arange(SIDE) < SIDE // 2).float())[None]


# With the white image and `left`, masking k of the left half's 50 pixels leaves probability 1 - k/50.
# Perfect map: NEG/INS mask the right half first, so f = 0 ... 0.5 keep 1, then 0.8, 0.6, 0.4, 0.2.
INS_PERFECT = [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
DEL_PERFECT = [1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0, 0]


def by_hand(curve: list[float]) -> float:
    """The trapezoid over 0, 0.1, ..., 0.9 in percent."""
    return 100 * 0.1 * (sum(curve) - (curve[0] + curve[-1]) / 2)


@pytest.mark.parametrize(
    ("metric", "maps", "expected"),
    [
        (Ins(TENTHS), perfect(), INS_PERFECT),
        (Del(TENTHS), perfect(), DEL_PERFECT),
        (Ins(TENTHS), -perfect(), DEL_PERFECT),
        (Del(TENTHS), -perfect(), INS_PERFECT),
        (Neg(TENTHS), perfect(), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]),
        (Pos(TENTHS), perfect(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (Neg(TENTHS), -perfect(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (Pos(TENTHS), -perfect(), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]),
        # a constant map is scored by the tie rule: row by row, so each tenth takes a tenth of the left half
        (Ins(TENTHS), torch.zeros(1, SIDE, SIDE), [1 - f for f in TENTHS]),
        (Del(TENTHS), torch.ones(1, SIDE, SIDE), [1 - f for f in TENTHS]),
        (Neg(TENTHS), torch.ones(1, SIDE, SIDE), [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]),
    ],
)
def test_oracle_maps_score_what_the_formula_says(metric: Metric, maps: Tensor, expected: list[float]) -> None:
    model = Counted(left)
    scores = run(metric, case_of(model, maps), model)
    assert scores.curve[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert scores.value.tolist() == pytest.approx([by_hand(expected)], abs=1e-4)
    assert list(scores.reasons) == [""]


def test_half_zero_map_ranks_its_ties_by_index() -> None:
    # The top five rows hold zeros (tied), the bottom five rise: least first is then exactly row by row, most first
    # its reverse; both take a tenth of the left half at each level.
    maps = torch.zeros(1, SIDE, SIDE)
    maps[0, 5:] = torch.arange(1, 51).view(5, SIDE).float()
    model = Counted(left)
    case = case_of(model, maps)
    expected = [1 - f for f in TENTHS]
    for metric in (Ins(TENTHS), Del(TENTHS)):
        assert run(metric, case, model).curve[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert tie_share(maps).tolist() == [0.5]


def test_one_pixel_map_protects_its_pixel_alone() -> None:
    # One lit pixel decides: it survives until the last level if it is the most relevant one.
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[:, :, 4, 2] = 1
    maps = images[:, 0].clone()
    model = Counted(anywhere)
    case = case_of(model, maps, images)
    assert run(Ins(TENTHS), case, model).value.tolist() == pytest.approx([90.0])
    assert run(Del(TENTHS), case, model).value.tolist() == pytest.approx([5.0])  # 1 at x = 0 only: a triangle
    assert run(Neg(TENTHS), case, model).value.tolist() == pytest.approx([90.0])
    assert run(Pos(TENTHS), case, model).value.tolist() == pytest.approx([5.0])


def test_random_maps_average_to_the_diagonal() -> None:
    draw = torch.Generator().manual_seed(5)
    maps = torch.rand(200, SIDE, SIDE, generator=draw)
    model = Counted(left)
    value = run(Ins(TENTHS), case_of(model, maps), model).value
    # each level keeps 1 - f of the left half on average; the standard error over 200 maps is about 0.15
    assert float(value.mean()) == pytest.approx(by_hand([1 - f for f in TENTHS]), abs=0.6)


def test_a_constant_model_is_flat() -> None:
    model = Counted(flat)
    case = case_of(model, perfect())
    assert run(Ins(TENTHS), case, model).value.tolist() == pytest.approx([67.5])  # 0.75 * 90
    assert run(Neg(TENTHS), case, model).value.tolist() == pytest.approx([90.0])


def test_forms_of_the_area_are_what_their_names_say() -> None:
    y = torch.tensor([INS_PERFECT])
    assert float(area(y, TENTHS, "trapezoid")) == pytest.approx(by_hand(INS_PERFECT))
    assert float(area(y, TENTHS, "normalised")) == pytest.approx(by_hand(INS_PERFECT) / 0.9)
    assert float(area(y, TENTHS, "mean")) == pytest.approx(100 * sum(INS_PERFECT[1:]) / 9)
    assert float(area(torch.ones(1, 10), TENTHS, "trapezoid")) == pytest.approx(90)


def test_hits_count_against_the_label_or_the_predicted_class() -> None:
    model = Counted(flat)  # predicts class 1 always
    labels = torch.tensor([0, 1, -1])
    case = case_of(model, perfect().expand(3, -1, -1), labels=labels)
    assert run(Neg(TENTHS, hit="label"), case, model).value.tolist() == pytest.approx([0, 90, 90])
    assert run(Neg(TENTHS, hit="predicted"), case, model).value.tolist() == pytest.approx([90, 90, 90])


def test_four_metrics_cost_eighteen_forwards_a_map() -> None:
    model = Counted(left)
    case = case_of(model, torch.rand(3, SIDE, SIDE))
    metrics: list[Metric] = [Neg(TENTHS), Pos(TENTHS), Ins(TENTHS), Del(TENTHS)]
    probes: set[Probe] = {m.probe for m in metrics if m.probe is not None}
    assert len(probes) == 2
    for probe in probes:
        probe.trace(case, model)
    assert model.rows == 18 * 3


def test_equal_choices_make_equal_probes_whatever_the_sequence_type() -> None:
    assert Neg(list(TENTHS)).probe == Ins(TENTHS).probe  # type: ignore[arg-type]
    assert Pos(TENTHS).probe == Del(TENTHS).probe
    assert Neg(TENTHS).probe != Pos(TENTHS).probe
    assert Neg(TENTHS).probe != Neg(TENTHS, ties="random").probe


def literal_loop(images: np.ndarray, maps: np.ndarray, model: Callable[[Tensor], Tensor], most: bool) -> np.ndarray:
    """Mask one image and one level at a time, in float64, straight from the definition."""
    curves = []
    for image, relevance in zip(images, maps, strict=True):
        pixels = sorted(range(relevance.size), key=lambda i: (relevance.flat[i], i))
        pixels = pixels[::-1] if most else pixels
        curve = []
        for fraction in TENTHS:
            masked = image.reshape(3, -1).copy()
            for pixel in pixels[: round(fraction * 1000) * relevance.size // 1000]:
                masked[:, pixel] = 0.0
            curve.append(float(model(torch.from_numpy(masked.reshape(1, *image.shape)))[0]))
        curves.append(curve)
    return np.array(curves)


@pytest.mark.parametrize("most", [False, True])
def test_curves_equal_a_literal_loop(most: bool) -> None:
    draw = np.random.default_rng(0)
    images = draw.random((4, 3, 13, 11))
    maps = np.maximum(draw.normal(size=(4, 13, 11)), 0)  # half of the pixels tie at zero
    weights = torch.from_numpy(draw.normal(size=(3, 13, 11)))

    def linear(x: Tensor) -> Tensor:
        return torch.sigmoid((x * weights).sum(dim=(1, 2, 3)))

    model = Counted(linear)
    case = case_of(model, torch.from_numpy(maps), torch.from_numpy(images))
    expected = literal_loop(images, maps, linear, most)
    soft, hard = (Del(TENTHS), Pos(TENTHS)) if most else (Ins(TENTHS), Neg(TENTHS))
    np.testing.assert_allclose(run(soft, case, model).curve.numpy(), expected, atol=1e-12)
    hits = (expected > 0.5) == (expected[:, :1] > 0.5)
    np.testing.assert_array_equal(run(hard, case, model).curve.numpy(), hits.astype(float))
    np.testing.assert_allclose(
        run(hard, case, model).value.numpy(), [by_hand(list(row)) for row in hits.astype(float)], atol=1e-9
    )


@pytest.mark.parametrize("ties", ["index", "random"])
@pytest.mark.parametrize("metric", [Neg, Pos, Ins, Del])
def test_monotone_transforms_change_nothing(metric: type[Neg], ties: str) -> None:
    draw = torch.Generator().manual_seed(1)
    maps = torch.randint(-3, 4, (3, SIDE, SIDE), generator=draw).double()  # many ties, exact under the transforms
    images = torch.rand(3, 3, SIDE, SIDE, generator=draw)
    model = Counted(left)
    m = metric(TENTHS, ties=ties)  # type: ignore[arg-type]
    base = run(m, case_of(model, maps, images), model).curve
    for transform in (lambda x: 5 * x - 2, torch.exp, lambda x: x**3):
        assert torch.equal(run(m, case_of(model, transform(maps), images), model).curve, base)


@pytest.mark.parametrize("ties", ["index", "random"])
def test_scores_do_not_depend_on_the_batch(ties: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(2)
    maps = torch.relu(torch.randn(5, SIDE, SIDE, generator=draw))
    images = torch.rand(5, 3, SIDE, SIDE, generator=draw)
    metric = Ins(TENTHS, ties=ties)  # type: ignore[arg-type]
    model = Counted(left)
    whole = case_of(model, maps, images)
    together = run(metric, whole, model).curve
    for order in ([4, 2, 0, 1, 3], [3], [1, 1]):
        batch = whole.batch
        part = ImageBatch(
            [batch.ids[i] for i in order],
            images[order],
            batch.targets[order],
            Prediction(batch.clean.probability[order], batch.clean.predicted[order]),
            batch.labels[order],
        )
        assert torch.equal(run(metric, Case(part, maps[order]), model).curve, together[order])
    monkeypatch.setattr("dix.metrics.probes.ROWS", 7)
    assert torch.equal(run(metric, case_of(model, maps, images), model).curve, together)


def test_random_ties_differ_between_images_and_seeds_only() -> None:
    model = Counted(left)
    case = case_of(model, torch.zeros(2, SIDE, SIDE), torch.rand(1, 3, SIDE, SIDE).expand(2, -1, -1, -1))
    first_seed = run(Ins(TENTHS, ties="random"), case, model).curve
    assert not torch.equal(first_seed[0], first_seed[1])
    assert not torch.equal(first_seed, run(Ins(TENTHS, ties="random", seed=1), case, model).curve)
    again = case_of(model, torch.zeros(2, SIDE, SIDE), case.batch.images)
    assert torch.equal(first_seed, run(Ins(TENTHS, ties="random"), again, model).curve)


def test_ranks_treat_both_zeros_as_one_value_and_are_stable() -> None:
    maps = torch.tensor([[[0.0, -0.0, 1.0], [-1.0, 0.0, -0.0]]])
    assert ascending(maps).tolist() == [[3, 0, 1, 4, 5, 2]]
    assert inverse(ascending(maps)).tolist() == [[1, 2, 5, 0, 3, 4]]
    assert tie_share(maps).tolist() == pytest.approx([4 / 6])
    assert tie_share(torch.ones(1, 4, 4)).tolist() == [1.0]
    assert tie_share(torch.arange(16.0).view(1, 4, 4)).tolist() == [0.0]


def test_a_random_permutation_settles_ties_but_never_reorders_values() -> None:
    maps = torch.tensor([[[2.0, 1.0], [2.0, 0.0]]])
    assert ascending(maps, torch.tensor([[2, 3, 0, 1]])).tolist() == [[3, 1, 2, 0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_cuda_rank_alike() -> None:
    maps = torch.relu(torch.randn(4, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(ascending(maps), ascending(maps.cuda()).cpu())


def test_levels_are_rounded_down_exactly() -> None:
    assert first(100, 0.29) == 29  # 0.29 * 100 is 28.999999999999996 in floating point
    assert [first(50176, f) for f in TENTHS] == [50176 * k // 10 for k in range(10)]


def test_fills_are_the_stated_colours() -> None:
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    model = Counted(lambda x: x.mean(dim=(1, 2, 3)))
    batch = case_of(model, torch.zeros(2, 32, 32), images).batch
    assert float(canvas(batch, "black").abs().max()) == 0
    np.testing.assert_allclose(canvas(batch, "mean")[:, :, 5, 7], images.mean(dim=(2, 3)))
    assert canvas(batch, "imagenet")[1, :, 3, 3].tolist() == pytest.approx([0.485, 0.456, 0.406])
    # away from the border the blur is a convolution with the outer product of a Gaussian filter's impulse response
    from scipy.ndimage import gaussian_filter

    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = gaussian_filter(impulse, 5)
    window = images[1, 2, 10:21, 12:23].numpy()
    assert float(canvas(batch, "blur")[1, 2, 15, 17]) == pytest.approx(float((window * kernel).sum()))
    grey = canvas(replace(batch, images=canvas(batch, "imagenet").clone(), _memo={}), "blur")
    np.testing.assert_allclose(grey[0, :, 0, 0], [0.485, 0.456, 0.406], atol=1e-7)


def test_rise_schedule_inserts_onto_a_blurred_canvas() -> None:
    insertion, deletion = Ins(TENTHS, schedule="rise"), Del(TENTHS, schedule="rise")
    rows = tuple(k / 224 for k in range(225))  # RISE's authors change one row's worth of 224 pixels a step
    assert insertion.probe == Blackout(rows, "blur", "least")
    assert deletion.probe == Blackout(rows, "imagenet", "most")
    images = torch.rand(1, 3, 224, 224)
    seen: list[Tensor] = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x)
        return x.mean(dim=(1, 2, 3))

    model = Counted(watch)
    maps = torch.rand(1, 224, 224)
    case = case_of(model, maps, images)
    seen.clear()
    score = run(insertion, case, model)
    assert model.rows == 224
    shown = torch.cat(seen)
    top = maps.flatten().argsort(descending=True)[: 224 * 10]
    inserted = canvas(case.batch, "blur")[0].flatten(1).clone()
    inserted[:, top] = images[0].flatten(1)[:, top]
    assert torch.equal(shown[213].flatten(1), inserted)  # ten steps of 224 pixels onto the blurred image
    curve = score.curve[0]
    assert float(score.value[0]) == pytest.approx(100 * float((curve.sum() - (curve[0] + curve[-1]) / 2) / 224))


def test_difference_is_taken_image_by_image() -> None:
    srg = Difference("neg", "pos", "SRG")
    values = {"neg": np.array([60.0, np.nan, 50.0]), "pos": np.array([20.0, 10.0, 30.0])}
    assert srg.inputs == ("neg", "pos")
    np.testing.assert_array_equal(srg.combine(values), [40.0, np.nan, 20.0])
    empty = np.empty((3, 0))
    assert srg.summary(srg.combine(values), empty, empty)().tolist() == [30.0]


def test_summary_weights_images_and_leaves_out_the_excluded() -> None:
    value = np.array([10.0, np.nan, 40.0])
    weights = np.array([[1, 5, 1], [3, 0, 1], [0, 2, 0]])
    np.testing.assert_array_equal(Neg(TENTHS).summary(value, value, value)(weights), [25.0, 17.5, np.nan])
    np.testing.assert_array_equal(mean_summary(value), [25.0])


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Neg((0.5, 0.1)), "protocol.fractions"),
        (lambda: Neg(()), "protocol.fractions"),
        (lambda: Ins((0.0, 1.5)), "protocol.fractions"),
        (lambda: Neg(TENTHS, fill="grey"), "protocol.fill"),  # type: ignore[arg-type]
        (lambda: Neg(TENTHS, hit="truth"), "protocol.hit"),  # type: ignore[arg-type]
        (lambda: Pos(TENTHS, ties="last"), "protocol.ties"),  # type: ignore[arg-type]
        (lambda: Del(TENTHS, auc="simpson"), "protocol.auc"),  # type: ignore[arg-type]
        (lambda: Del(TENTHS, schedule="quick"), "protocol.schedule"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_choice_names_its_key(make: Callable[[], object], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        make()


def test_seeds_come_from_the_id_and_the_purpose() -> None:
    expected = int.from_bytes(hashlib.sha256(b"3\x1fcat.jpg\x1fties").digest()[:8], "little") >> 1
    assert generator(3, "cat.jpg", "ties").initial_seed() == expected
    seeds = [generator(s, i, p).initial_seed() for s, i, p in itertools.product((0, 1), "ab", "xy")]
    assert len(set(seeds)) == 8
    assert floats("k", [0, 1]) == (0.0, 1.0)


def test_every_metric_file_holds_one_entry_of_its_own_name() -> None:
    import yaml

    from dix.cli.config import CONF

    folder = CONF / "metric"
    for path in sorted(folder.glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        assert list(content) == [path.stem]
        assert content[path.stem]["_target_"].startswith("dix.metrics.")
