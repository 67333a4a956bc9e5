"""The sanity tests end to end on small networks: exactly 1 without randomisation, faults counted, seeds enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import engine_jobs as parts
from support import rounding
from torch import Tensor

from dix.baselines.cam import GradCam
from dix.baselines.controls import Edges
from dix.baselines.path import IntegratedGradients
from dix.bench.run.job import Job
from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.sanity.chance import Others
from dix.bench.sanity.compare import run_series
from dix.bench.sanity.figures import figures_of, line_figure, strip_figure
from dix.bench.sanity.randomise import randomised
from dix.bench.sanity.report import Curves, box, curves_of, documents
from dix.bench.sanity.series import data_series, parameter_series
from dix.bench.sanity.settings import Sanity, Train
from dix.bench.sanity.similarity import Explained
from dix.bench.sanity.strips import kept_strips
from dix.bench.sanity.train import Task, train
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.cli import main
from dix.datasets.mnist import Mnist
from dix.datasets.preprocess import Preprocess
from dix.datasets.subset import select
from dix.explainer import Dix, Explainer
from dix.models.zoo import lenet5
from dix.passes import Passes
from dix.seeding import generator

LAYERS = {"last": "network.bn2", "second": "network.pool1", "third": "network.relu1"}
METHODS: dict[str, Explainer] = {"dix3": Dix(), "gc": GradCam(), "edges": Edges()}
FIVE = ("", "network.fc3", "network.fc2", "network.fc1", "network.conv2", "network.conv1")


def untrained(seed: int = 0) -> Classifier:
    """LeNet-5 in double precision, so that batches of any size agree to rounding."""
    return lenet5("lenet5", LAYERS, seed=seed).to("cpu", torch.float64)


def job(
    methods: Mapping[str, Explainer] | None = None,
    classifier: Classifier | None = None,
    count: int = 6,
    batch_size: int = 3,
    seed: int = 0,
) -> Job:
    return Job(
        classifier=classifier or untrained(),
        dataset=select(Mnist(), f"random:{count}"),
        preprocess=Preprocess(size=32, resize="pad"),
        methods=methods or METHODS,
        metrics={},
        protocol=ScoreProtocol(name="tested", version=1, dtype="float64", seed=seed),
        run=Run(batch_size=batch_size, workers=0),
    )


def ran(made: Job, folder: Path, **settings: Any) -> dict[tuple[str, str, str], Curves]:
    """Run the parameter test; curves by test, measure and method."""
    options = Sanity(**settings)
    store = ResultStore(folder)
    for series in parameter_series(made.classifier, options, made.protocol.seed):
        run_series(made, series, options, store)
    return {(c.test, c.measure, c.method): c for c in curves_of(store)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """LeNet-5 trained on 600 digits."""
    classifier = lenet5("lenet5", LAYERS)
    task = Task(
        classifier=classifier,
        train=select(Mnist(part="train"), "random:600"),
        held_out=None,
        preprocess=Preprocess(size=32, resize="pad"),
        settings=Train(out=str(tmp_path_factory.mktemp("w") / "w.safetensors"), epochs=4, lr=0.005, cache=True),
        identity={},
        workers=0,
    )
    assert train(task).train_accuracy > 0.9
    return classifier.to("cpu", torch.float64)


@pytest.fixture(scope="module")
def folder(trained: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the trained network: both modes, all measures, two repeats."""
    folder = tmp_path_factory.mktemp("results")
    methods = {**METHODS, "ig": IntegratedGradients(steps=4)}
    measures = ["spearman", "spearman_absolute", "ssim", "hog", "entropy"]
    ran(
        job(methods, trained, count=8, batch_size=8),
        folder,
        modes=["cascading", "independent"],
        repeats=2,
        measures=measures,
    )
    return folder


def found(folder: Path) -> dict[tuple[str, str, str], Curves]:
    return {(c.test, c.measure, c.method): c for c in curves_of(ResultStore(folder))}


@pytest.mark.numeric
def test_without_randomisation_likeness_is_exactly_one(folder: Path) -> None:
    for (_, measure, method), curves in found(folder).items():
        if measure.startswith("spearman"):
            assert (curves.values[:, :, 0] == 1.0).all(), method
        elif measure != "entropy":
            assert np.allclose(curves.values[:, :, 0], 1.0, atol=1e-6), (measure, method)


def test_every_layer_is_tested_from_the_output_down(folder: Path) -> None:
    curves = found(folder)["cascading", "spearman", "dix3"]
    assert curves.x == (0, 1, 2, 3, 4, 5)
    assert curves.names == FIVE
    assert curves.values.shape == (8, 2, 6)


@pytest.mark.numeric
@pytest.mark.parametrize("mode", ["cascading", "independent"])
@pytest.mark.parametrize("measure", ["spearman", "ssim", "hog"])
def test_dix3_falls_and_an_edge_detector_does_not(folder: Path, mode: str, measure: str) -> None:
    """The test can be failed, and the control fails it."""
    curves = found(folder)
    dix3, edges = (curves[mode, measure, method] for method in ("dix3", "edges"))
    assert np.allclose(edges.values, 1.0)
    assert all(point.value < 0.5 for point in dix3.points()[1:])
    assert np.nanmean(dix3.altered()) < 0.3


def test_repeats_differ_and_are_averaged_within_an_image(folder: Path) -> None:
    curves = found(folder)["cascading", "spearman", "dix3"]
    assert not np.allclose(curves.values[:, 0, 1:], curves.values[:, 1, 1:])
    assert np.allclose(curves.of_image(), curves.values.mean(axis=1))
    expected = curves.values.mean(axis=0).std(axis=0, ddof=1)
    assert np.allclose(curves.repeat_deviation(), expected)


def test_the_first_randomised_layer_is_the_same_in_both_modes(folder: Path) -> None:
    curves = found(folder)
    first, second = (curves[mode, "spearman", "dix3"].values[:, :, 1] for mode in ("cascading", "independent"))
    assert np.array_equal(first, second)


@pytest.mark.numeric
def test_a_value_is_what_the_definition_says(trained: Classifier, folder: Path) -> None:
    """One number by hand: explain with the original and a randomised copy, the original's class, and correlate."""
    from scipy.stats import spearmanr

    curves = found(folder)["cascading", "spearman", "dix3"]
    made = job(classifier=trained, count=8)
    image = made.preprocess.image(made.dataset.read(4).image)[None].double()
    target = trained.logits(image).argmax(dim=1)
    copy = randomised(trained, list(FIVE[1:4]), seed=(0, 1))
    maps = [Dix().explain(Passes(c, image, target, ids=["x"]))[0].float() for c in (trained, copy)]
    row = curves.images.index(made.dataset.ids[4])
    expected = spearmanr(*(m.flatten().numpy() for m in maps)).statistic
    # along the border the resize repeats values, whose order rounding decides
    assert curves.values[row, 1, 3] == pytest.approx(expected, abs=rounding.swaps(4 * 32, 32 * 32))
    # The copy answers with another class: a map of that one would have been another map.
    own = copy.logits(image).argmax(dim=1)
    assert own.tolist() != target.tolist()
    other = Dix().explain(Passes(copy, image, own, ids=["x"]))[0].float()
    assert abs(spearmanr(maps[0].flatten().numpy(), other.flatten().numpy()).statistic - expected) > 0.02


@pytest.mark.numeric
@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_do_not_matter(tmp_path: Path, batch_size: int) -> None:
    """In double precision, so that maps agree to 1e-14 of their range.

    SSIM depends on them smoothly, with constants of 1e-4 in its denominators. A rank correlation does not: along the
    border the resize repeats values, equal but for rounding, and at most a border's 4 x 32 pairs change places.
    """
    measures = {"ssim": 1e-9, "spearman": rounding.swaps(4 * 32, 32 * 32)}
    alike = ran(job(), tmp_path / "a", samples=2, measures=list(measures))
    other = ran(job(batch_size=batch_size), tmp_path / "b", samples=2, measures=list(measures))
    for key, curves in alike.items():
        assert curves.images == other[key].images
        assert np.allclose(curves.values, other[key].values, rtol=0, atol=measures[key[1]], equal_nan=True), key


def test_the_seed_tells_everything(tmp_path: Path) -> None:
    key = ("cascading", "spearman", "dix3")
    first, again, other = (
        ran(job(seed=seed), tmp_path / name)[key].values for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first[:, :, 1:], other[:, :, 1:])


def test_the_original_is_not_touched(tmp_path: Path) -> None:
    classifier = untrained()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    before = classifier.logits(images)
    ran(job(classifier=classifier, count=2), tmp_path, modes=["cascading", "independent"])
    assert torch.equal(classifier.logits(images), before)


def test_what_is_stored_is_not_computed_again(tmp_path: Path) -> None:
    made, options, store = job(), Sanity(), ResultStore(tmp_path)
    series = list(parameter_series(made.classifier, options, 0))
    first = run_series(made, series[0], options, store)
    assert (first.images, first.rows) == (6, 18)
    assert run_series(made, series[0], options, store).images == 0


def test_more_images_are_added_to_stored_ones(tmp_path: Path) -> None:
    ran(job(), tmp_path, strips=0)
    part = replace(job(), run=Run(batch_size=3, workers=0, limit=3))
    options, store = Sanity(strips=0), ResultStore(tmp_path / "part")
    for made, expected in ((part, 3), (job(), 3), (job(), 0)):
        series = next(iter(parameter_series(made.classifier, options, 0)))
        assert run_series(made, series, options, store).images == expected
    whole, added = (curves_of(ResultStore(folder))[0] for folder in (tmp_path, tmp_path / "part"))
    assert np.array_equal(whole.values, added.values)


@dataclass(frozen=True)
class Faulty(parts.Brightness):
    """Brightness; on a network whose output layer was re-initialised, what `fault` says, for chosen images."""

    fault: str = "constant"
    bias: float = 0.0
    images: tuple[str, ...] = ()

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] brightness, or a faulty map, or raises."""
        maps = super().explain(passes).clone()
        altered = float(passes.classifier.network.get_submodule("network.fc3").bias[0]) != self.bias
        for i, name in enumerate(passes.ids):
            if altered and name in self.images:
                if self.fault == "failed":
                    raise RuntimeError("made to fail")
                maps[i] = float("nan") if self.fault == "not finite" else 0.1
        return maps


@pytest.fixture
def faulty_ids() -> tuple[str, ...]:
    return tuple(job().dataset.ids[i] for i in (1, 2))


@pytest.mark.parametrize("fault", ["constant", "not finite", "failed"])
@pytest.mark.parametrize("batch_size", [1, 6])
def test_faults_are_counted_and_never_averaged(
    tmp_path: Path, fault: str, batch_size: int, faulty_ids: tuple[str, ...]
) -> None:
    classifier = untrained()
    bias = float(classifier.network.get_submodule("network.fc3").bias[0])
    method = Faulty(fault=fault, bias=bias, images=faulty_ids)
    made = job({"faulty": method}, classifier, batch_size=batch_size)
    curves = ran(made, tmp_path, depths=[1, 2])["cascading", "spearman", "faulty"]
    assert curves.counts()[fault] == [0, 2, 2]
    assert sum(sum(counts) for counts in curves.counts().values()) == 4
    assert [point.n for point in curves.points()] == [6, 4, 4]
    assert [point.value for point in curves.points()] == [1.0, 1.0, 1.0]
    assert np.isnan(curves.altered()).sum() == 2
    rows = ResultStore(tmp_path).rows().set_index("image")
    assert set(rows.index[rows["value"].isna()]) == set(faulty_ids)
    assert rows.at[faulty_ids[0], "reason"] == f"{fault} at 1, {fault} at 2"
    if fault == "failed":
        assert rows.at[faulty_ids[0], "note"] == "failed: RuntimeError: made to fail"
    text = documents(ResultStore(tmp_path))
    assert f"1.000 (2 {fault})" in text["sanity.md"]
    assert "| | mean of x > 0 | 1.000 (4 images) |" in text["sanity.md"]


def test_an_image_whose_original_map_is_faulty_is_left_out_and_said(
    tmp_path: Path, faulty_ids: tuple[str, ...]
) -> None:
    method = Faulty(bias=99.0, images=faulty_ids)  # faulty on every network, the original among them
    curves = ran(job({"faulty": method}), tmp_path, depths=[1])["cascading", "spearman", "faulty"]
    assert len(curves.images) == 4
    assert curves.excluded == {"original map constant": 2}
    assert "faulty: 2 images left out: original map constant." in documents(ResultStore(tmp_path))["sanity.md"]


def test_a_method_that_cannot_explain_the_model_is_skipped_with_its_reason(tmp_path: Path) -> None:
    made, options = job({"impossible": parts.Impossible(), "edges": Edges()}), Sanity()
    series = next(iter(parameter_series(made.classifier, options, 0)))
    outcome = run_series(made, series, options, ResultStore(tmp_path))
    assert outcome.skipped == {"impossible": "needs what this model has not"}
    assert {c.method for c in curves_of(ResultStore(tmp_path))} == {"edges"}


def test_smoothed_maps_are_means_over_the_same_noisy_images(tmp_path: Path) -> None:
    """For a map that is linear in the image, the mean map is the map of the mean image."""
    made = job({"brightness": parts.Brightness()}, count=1)
    ran(made, tmp_path, depths=[1], samples=3, noise=0.2)
    image = made.preprocess.image(made.dataset.read(0).image).double()
    draws = [
        torch.randn(3, 32, 32, generator=generator(0, made.dataset.ids[0], "smooth", i)).double() for i in range(3)
    ]
    expected = (image + 0.2 * torch.stack(draws).mean(dim=0)).mean(dim=0)
    strip = kept_strips(tmp_path)[0]
    assert strip.about["test"] == "cascading_smooth"
    assert np.allclose(strip.maps[0], expected.numpy(), atol=1e-6)
    assert np.array_equal(strip.maps[0], strip.maps[1])


def test_maps_can_be_compared_at_a_smaller_size(tmp_path: Path) -> None:
    ran(job({"brightness": parts.Brightness()}, count=1), tmp_path, depths=[1], size=8)
    made = job(count=1)
    image = made.preprocess.image(made.dataset.read(0).image).double()
    expected = image.mean(dim=0).view(8, 4, 8, 4).mean(dim=(1, 3))
    assert np.allclose(kept_strips(tmp_path)[0].maps[0], expected.numpy(), atol=1e-6)


def test_data_test_against_other_weights(tmp_path: Path) -> None:
    made, options, store = job(), Sanity(), ResultStore(tmp_path)
    series = data_series(made.classifier, {"other": untrained(seed=1)}, options)
    run_series(made, series, options, store)
    curves = {c.method: c for c in curves_of(store)}
    assert (curves["dix3"].values[:, 0, 0] == 1).all()
    assert curves["dix3"].values[:, 0, 1].mean() < 0.9
    assert (curves["edges"].values == 1).all()
    assert curves["dix3"].names[1].split(" ")[0] == "other"
    text = documents(store)["sanity.md"]
    assert "6 images, the networks that are named, protocol tested. Fewer than 10 images: no intervals." in text
    assert "mean of x > 0" not in text  # a yardstick and what it is held against are not averaged
    assert "[" not in text.split("| x |")[1].split("## Provenance")[0]
    drawn = figures_of(store, tmp_path)
    assert {path.name for path in drawn} >= {"labels-spearman-lenet5-mnist.pdf", "panels.png"}


def blob(shift: float) -> Tensor:
    """[32, 32] a circular Gaussian of .205 image sides, its centre beside the image's by `shift` along both axes."""
    at = (torch.arange(32) + 0.5) / 32 - 0.5 - shift
    along = torch.exp(-at.square() / (2 * 0.205**2)).double()
    return along[:, None] * along[None]


def test_two_unrelated_centred_blobs_are_far_from_nothing_alike() -> None:
    maps = torch.stack([blob(-0.075), blob(0.075), torch.ones(32, 32, dtype=torch.float64)])
    shown = Explained(maps, ("", "", "constant"))
    others = Others(("a", "b", "c"), shown)
    for measure, expected in (("ssim", 0.44), ("spearman", 0.54)):
        first, second, faulty = others.chance(measure, shown, ["a", "b", "c"])
        assert (first, second) == (pytest.approx(expected, abs=0.01), pytest.approx(expected, abs=0.01))
        assert math.isnan(faulty)
    assert all(math.isnan(value) for value in Others().chance("ssim", shown, ["a", "b", "c"]))


@pytest.mark.parametrize("batch_size", [1, 12])
def test_chance_is_the_likeness_of_the_maps_of_the_first_five_images(tmp_path: Path, batch_size: int) -> None:
    from scipy.stats import spearmanr

    made = job({"brightness": parts.Brightness()}, count=12, batch_size=batch_size)
    curves = ran(made, tmp_path, depths=[1])["cascading", "spearman", "brightness"]
    images = [made.preprocess.image(made.dataset.read(i).image).mean(dim=0).flatten().numpy() for i in range(12)]
    expected = [
        np.mean([spearmanr(images[i], images[k]).statistic for k in range(5) if k != i]) for i in range(len(images))
    ]
    found = [curves.chance[curves.images.index(name)] for name in made.dataset.ids]
    assert found == pytest.approx(expected, abs=1e-9)
    text = documents(ResultStore(tmp_path))["sanity.md"]
    assert f"| | chance | {np.mean(expected):.3f} [" in text
    assert "12 images, one draw of the weights, which may be an odd one, protocol tested.\n" in text
    assert "| | mean of x > 0 | 1.000 |" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": ["sideways"]}, "sanity.modes: expected cascading or independent, got 'sideways'"),
        ({"measures": ["kendall"]}, "sanity.measures: expected some of spearman"),
        ({"measures": []}, "sanity.measures: expected some of spearman"),
        ({"repeats": 0}, "sanity.repeats"),
        ({"every": 0}, "sanity.every"),
        ({"noise": 0.0}, "noise > 0"),
    ],
)
def test_mistakes_are_said(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ran(job(), tmp_path, **settings)


def test_nothing_to_compare_with_is_said() -> None:
    with pytest.raises(ValueError, match=r"sanity.against: expected at least one file of weights"):
        data_series(untrained(), {}, Sanity())


def test_the_label_is_never_explained(tmp_path: Path) -> None:
    made = job()
    made.protocol.target = "label"
    with pytest.raises(ValueError, match=r"protocol.target: the sanity tests explain the original prediction"):
        ran(made, tmp_path)


def test_boxes_are_tukeys() -> None:
    values = np.array([0.0, 1, 2, 3, 4, 100, math.nan])
    found = box(values)
    assert (found["images"], found["min"], found["max"]) == (6, 0, 100)
    assert (found["q1"], found["median"], found["q3"]) == (1.25, 2.5, 3.75)
    assert (found["whisker_low"], found["whisker_high"]) == (0, 4)  # 3.75 + 1.5 * 2.5 = 7.5


def test_line_figures_show_the_means(folder: Path) -> None:
    curves = found(folder)["cascading", "spearman", "dix3"]
    place = line_figure([curves]).axes[0]
    assert place.lines[0].get_ydata().tolist() == [point.value for point in curves.points()]
    assert place.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4, 5]


def test_strips_have_a_column_for_the_original_and_each_depth(folder: Path) -> None:
    strip = next(s for s in kept_strips(folder) if s.about["method"] == "dix3" and s.about["test"] == "cascading")
    figure = strip_figure(strip)
    assert [axis.get_title() for axis in figure.axes[:6]] == ["original", "1", "2", "3", "4", "5"]
    assert all(axis.images for axis in figure.axes)


def test_reports_have_the_same_bytes_twice(tmp_path: Path) -> None:
    ran(job({"dix3": Dix()}, count=2), tmp_path, modes=["independent"], depths=[1, 5])
    store = ResultStore(tmp_path)
    assert documents(store) == documents(store)
    first = {path.name: path.read_bytes() for path in figures_of(store, tmp_path)}
    assert {path.name: path.read_bytes() for path in figures_of(store, tmp_path)} == first
    stems = {name.rsplit(".")[0] for name in first}
    assert stems == {
        "independent-spearman-lenet5-mnist",
        f"strip-independent-lenet5-dix3-{job(count=2).dataset.ids[0]}",
    }


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["model=lenet5", "dataset=mnist", "method=[dix3,edges]", "run.limit=2", "run.workers=0", "run.name=small"]
    assert main(["sanity", "parameters", *words, "sanity.depths=[1,5]"]) == 0
    assert "2 images, 4 new rows" in capsys.readouterr().out
    assert main(["sanity", "data", *words, "sanity.against=[random]", "model.seed=1"]) == 0
    folder = tmp_path / "results" / "small"
    text = (folder / "sanity.md").read_text()
    assert "## lenet5, mnist: cascading, spearman" in text
    assert "random, seed 1 (random weights: scores mean nothing)" in text
    assert "torch " in text
    assert str(tmp_path) not in text
    assert (folder / "figures" / "cascading-spearman-lenet5-mnist.pdf").is_file()
    assert main(["sanity", "report", "small"]) == 0
    capsys.readouterr()
    assert main(["sanity", "parameters", *words, "sanity.depths=[9]"]) == 1
    assert "sanity.depths: expected 0 to 5" in capsys.readouterr().err
    assert main(["sanity", "report", "nowhere"]) == 1
