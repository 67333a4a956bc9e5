"""The grid pointing game: what is in the pictures, what the score is, and what disconnected heads cannot see."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support import engine_jobs as parts
from support.baseline_networks import classifier, resnet
from test_datasets_mosaic import Plain, shown
from torch import Tensor, nn

from dix.baselines.cam import GradCam, HiResCam, LayerCam
from dix.baselines.extras_path import InputXGradient
from dix.baselines.path import IntegratedGradients
from dix.bench.run.evaluate import evaluate
from dix.bench.store.results import ResultStore
from dix.cli import main
from dix.datasets.api import Dataset
from dix.datasets.grid import GridPointing, confidences
from dix.datasets.planted import Planted
from dix.explainer import Dix, Explainer, PathIntegral
from dix.metrics.api import Case, ImageBatch, Prediction, Probe, Scores, Trace
from dix.metrics.localisation import Impossible, Localisation
from dix.metrics.segmentation import EnergyInMask
from dix.metrics.summaries import Averaged
from dix.models.disconnected import Cut, Disconnected, Stitch, disconnected
from dix.passes import Passes

SIDE, GRID = 32, 2


def case_of(maps: Tensor, masks: Tensor, native: Tensor | None = None) -> Case:
    count = len(maps)
    zero = torch.zeros(count, dtype=torch.long)
    batch = ImageBatch(
        [f"image{i}" for i in range(count)],
        torch.zeros(count, 3, *maps.shape[1:]),
        zero,
        Prediction(zero.double(), zero),
        zero,
        masks,
        torch.ones(count, dtype=torch.bool),
    )
    return Case(batch, maps, native=native)


def in_cell(count: int, place: int = 0, side: int = SIDE) -> Tensor:
    """[count, side, side] int8: 1 in one cell of GRID x GRID."""
    mask, cell = torch.zeros(count, side, side, dtype=torch.int8), side // GRID
    top, left = (cell * at for at in divmod(place, GRID))
    mask[:, top : top + cell, left : left + cell] = 1
    return mask


def value(metric: Localisation | Impossible | EnergyInMask, case: Case) -> Tensor:
    return metric.score(case, None).value


@pytest.mark.parametrize("place", range(4))
def test_the_perfect_map_scores_100_and_its_opposite_0(place: int) -> None:
    masks = in_cell(2, place)
    assert value(Localisation(), case_of(masks.double(), masks)).tolist() == [100, 100]
    assert value(Localisation(), case_of(-masks.double(), masks)).tolist() == [0, 0]  # nothing speaks for the class
    assert value(Localisation(), case_of(1.0 - masks, masks)).tolist() == [0, 0]
    assert value(Localisation(), case_of(torch.ones(2, SIDE, SIDE), masks)).tolist() == [25, 25]


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_a_random_map_scores_the_cells_share_of_the_pixels(kind: str) -> None:
    """For independent positive parts M the score is p = 1 / 4 up to sqrt(p (1 - p) E[M^2] / E[M]^2 / (n N)).

    E[M^2] / E[M]^2 is 4 / 3 for uniform numbers and pi for the positive part of normal ones, to first order in 1 / N.
    """
    count, random = 200, torch.Generator().manual_seed(0)
    draw = torch.rand if kind == "uniform" else torch.randn
    maps = draw(count, SIDE, SIDE, generator=random, dtype=torch.float64)
    moments = 4 / 3 if kind == "uniform" else math.pi
    deviation = 100 * math.sqrt(0.25 * 0.75 * moments / (count * SIDE * SIDE))
    assert float(value(Localisation(), case_of(maps, in_cell(count))).mean()) == pytest.approx(25, abs=4 * deviation)


def test_scaling_by_minimum_and_maximum_would_lift_what_speaks_for_nothing() -> None:
    """One negative pixel makes every zero grey: then 1 of the cell's 256 and 1/2 of the 767 others are attribution."""
    masks = in_cell(1)
    maps = masks.double()
    maps[0, -1, -1] = -1
    assert value(Localisation(), case_of(maps, masks)).item() == 100
    assert value(EnergyInMask(), case_of(maps, masks)).item() == pytest.approx(100 * 256 / (256 + 767 / 2))


def test_impossible_attribution_is_found_before_the_resize() -> None:
    """A 4 x 4 map with values in its cell alone: enlarged bilinearly it reaches over the edge."""
    native = torch.zeros(1, 4, 4)
    native[:, :2, :2] = 1
    enlarged = torch.nn.functional.interpolate(native[None], (SIDE, SIDE), mode="bilinear")[0]
    masks = in_cell(1)
    assert value(Impossible(), case_of(enlarged, masks, native)).item() == 0
    assert value(Impossible(), case_of(enlarged, masks)).item() > 1
    native[:, 3, 3] = -4  # as much as the cell holds, and signs do not matter
    assert value(Impossible(), case_of(enlarged, masks, native)).item() == 50
    assert value(Impossible(), case_of(torch.zeros(1, SIDE, SIDE), masks)).item() == 0


@dataclass(frozen=True)
class Darkness(parts.Brightness):
    """Minus the mean brightness of each 2 x 2 block: never positive, at half the resolution."""

    label: str = "Darkness"

    def explain(self, passes: Passes) -> Tensor:
        return -torch.nn.functional.avg_pool2d(passes.images.mean(dim=1), 2)


@dataclass(frozen=True)
class Least(Averaged):
    """The map's least value, plus 100 for each of its rows before the resize."""

    label: str = "least"
    higher_is_better: bool | None = None
    extra: bool = True
    probe: Probe | None = None
    needs_mask: bool = False

    def score(self, case: Case, trace: Trace | None) -> Scores:
        assert case.native is not None
        return Scores.of(case.maps.amin(dim=(1, 2)) + 100 * case.native.shape[1])


def test_a_run_hands_maps_to_metrics_as_the_method_gave_them(tmp_path: Path) -> None:
    """Signed, in their own scale, and at their own resolution as well."""
    job = parts.job({"darkness": Darkness()})
    object.__setattr__(job, "metrics", {"least": Least()})
    store = ResultStore(tmp_path)
    assert not evaluate(job, store).failed
    images = torch.from_numpy(np.stack([_pixels(i) for i in range(8)]))
    blocks = -torch.nn.functional.avg_pool2d(images, 2)
    wide = torch.nn.functional.interpolate(blocks[:, None], (parts.SIZE, parts.SIZE), mode="bilinear")[:, 0]
    found = store.rows().set_index("image")["value"]
    for i in range(8):
        assert found[f"image{i}"] == pytest.approx(float(wide[i].amin()) + 100 * parts.SIZE // 2, abs=1e-4)


def _pixels(index: int) -> np.ndarray:
    return np.asarray(np.asarray(parts.Made().read(index).image, dtype=np.float32).mean(axis=2) / 255)


class Linear(nn.Module):
    """Logits of one cell: each class a weighted sum of its pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.see = nn.Identity()
        self.head = nn.Linear(3 * side * side, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.see(images).flatten(1))


def test_on_disconnected_linear_heads_attribution_is_the_weighted_pixels_in_the_cell_and_nothing_elsewhere() -> None:
    torch.manual_seed(0)
    cell = SIDE // GRID
    one = classifier(Linear(cell), {"last": "see"}, side=cell).to("cpu", torch.float64)
    model = disconnected("linear", one, GRID).to("cpu", torch.float64)
    images = torch.rand(4, 3, SIDE, SIDE, dtype=torch.float64)
    targets = torch.tensor([3 * place + 1 for place in range(4)])
    maps = InputXGradient("black", reduction="sum").explain(Passes(model, images, targets))
    weight = one.network.head.weight[1].view(3, cell, cell) / one.std[0]
    for place in range(4):
        top, left = (cell * at for at in divmod(place, GRID))
        inside = (slice(top, top + cell), slice(left, left + cell))
        expected = torch.zeros(SIDE, SIDE, dtype=torch.float64)
        expected[inside] = (weight * images[place][(slice(None), *inside)]).sum(dim=0)
        torch.testing.assert_close(maps[place], expected, rtol=1e-12, atol=1e-12)
        assert (maps[place][expected == 0] == 0).all()


def test_cells_are_cut_in_rows_and_stitched_to_what_they_were() -> None:
    whole = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    cells = Cut(2)(whole)
    assert torch.equal(cells[1], whole[0, :, :2, 3:])
    assert torch.equal(cells[6], whole[1, :, 2:, :3])
    assert torch.equal(Stitch(2)(cells), whole)
    with pytest.raises(ValueError, match="4 x 4 cells do not divide a map of 4 x 6"):
        Cut(4)(whole)


def test_each_head_gives_the_networks_logits_of_its_cell_and_layers_are_those_of_the_cells() -> None:
    one = resnet()
    model = disconnected("full", one, GRID)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([one.logits(cell) for cell in Cut(2)(images).unflatten(0, (2, 4)).transpose(0, 1)], dim=1)
    torch.testing.assert_close(model.logits(images), alone.flatten(1), rtol=1e-4, atol=1e-5)
    passes = Passes(model, images)
    for layer in ("last", "second", "third"):
        x = passes.activation(layer)
        corner = Passes(one, images[:, :, 64:, :64]).activation(layer)
        half = x.shape[-1] // 2
        torch.testing.assert_close(x[:, :, half:, :half], corner, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            model.tail(layer).logits(x, passes.context(layer)), passes.logits, rtol=1e-4, atol=1e-5
        )
    assert model.label_space == "imagenet, 2 x 2 cells"
    assert torch.equal(one.logits(images[:, :, :64, :64]), resnet().logits(images[:, :, :64, :64]))  # not changed


STEPS = PathIntegral(steps=2)
#: Methods whose maps are a product with the gradient at each place; nearest, since DIX resizes its maps itself.
LOCAL: dict[str, Explainer] = {
    "LayerCAM": LayerCam(),
    "HiResCAM": HiResCam(),
    "IxG": InputXGradient(),
    "IG": IntegratedGradients(steps=2, score="logit"),  # the probability depends on all cells
    "DIX1": Dix(depth=1, path=STEPS, resize="nearest"),
    "DIX3": Dix(depth=3, path=STEPS, resize="nearest"),
    "DIX3-GRADS": Dix(depth=3, phi="gradient", path=STEPS, resize="nearest"),
}


def impossible(method: Explainer, kind: str) -> list[float]:
    model = disconnected(kind, resnet(), GRID, kind)  # type: ignore[arg-type]
    images = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([10 * place + 3 for place in range(4)])
    native = method.explain(Passes(model, images, targets)).detach()
    assert (native.flatten(1).abs().amax(dim=1) > 0).all()
    masks = torch.cat([in_cell(1, place, 128) for place in range(4)])
    return value(Impossible(), case_of(torch.zeros(4, 128, 128), masks, native)).tolist()


@pytest.mark.parametrize("method", LOCAL)
def test_gradient_methods_give_nothing_to_cells_that_a_disconnected_head_cannot_see(method: str) -> None:
    """Exactly nothing: the gradient there is 0, not small."""
    assert impossible(LOCAL[method], "full") == [0, 0, 0, 0]


@pytest.mark.parametrize("method", ["LayerCAM", "HiResCAM", "DIX1"])
def test_a_head_that_is_cut_off_behind_the_last_layer_gives_nothing_to_other_cells_there(method: str) -> None:
    assert impossible(LOCAL[method], "part") == [0, 0, 0, 0]
    assert max(impossible(InputXGradient(), "part")) > 1  # receptive fields reach over the edge at the pixels


def test_grad_cam_and_min_max_do_attribute_where_nothing_can_be_seen() -> None:
    """Grad-CAM's channel weights are one for all places; min-max lifts the zeros of a map with negative values."""
    assert min(impossible(GradCam(), "full")) > 1
    assert max(impossible(Dix(depth=1, path=STEPS, resize="nearest", normalise=True), "full")) > 1


def test_disconnected_networks_say_what_they_cannot_be_made_of() -> None:
    with pytest.raises(ValueError, match=r"model\.kind: expected one of full, part"):
        disconnected("x", resnet(), kind="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a CNN that names its last layer"):
        disconnected("x", classifier(Linear(8), {"other": "see"}, side=8))
    assert isinstance(disconnected("x", resnet(), 2, "part").network, Disconnected)


GAME = GridPointing(Plain(), side=8)


def test_the_game_shows_what_the_mosaic_shows_and_its_truth_is_the_cell() -> None:
    assert isinstance(GAME, Dataset)
    assert GAME.ids == ("image0", "image1", "image2", "image3", "image4", "image6")
    record = GAME.read(2)
    assert shown(record) == list(GAME.cells(2))
    expected = np.zeros((16, 16), np.int8)
    expected[8:, :8] = 1
    assert record.mask is not None
    assert (record.mask == expected).all()
    assert GAME.read(0).mask is not None  # though its image has no drawn mask
    assert record.content == GAME.content(2)


def test_labels_of_disconnected_heads_name_cell_and_class() -> None:
    game = GridPointing(Plain(class_names={3: "three"}), side=8, heads=10)
    assert game.labels == (0, 11, 22, 33, 3, 11)
    assert game.label_space == "own, 2 x 2 cells"
    assert game.class_names == {3: "three (cell 1)", 13: "three (cell 2)", 23: "three (cell 3)", 33: "three (cell 4)"}
    assert game.fingerprint() != GAME.fingerprint()


def test_images_that_the_network_is_not_confident_of_are_in_no_mosaic(tmp_path: Path) -> None:
    file = tmp_path / "confidence.json"
    shares = {f"image{i}": 0.9 for i in (0, 1, 2, 3)} | {"image4": 0.3, "image6": 0.5}
    record = {"dataset": "plain", "fingerprint": Plain().fingerprint(), "confidence": shares}
    file.write_text(json.dumps(record))
    game = GridPointing(Plain(), side=8, confidence=str(file))
    assert game.ids == ("image0", "image1", "image2", "image3", "image6")
    assert all(4 not in game.cells(index) for index in range(5))
    assert {each.name: each.reason for each in game.left_out} == {
        "image4": "its label has a probability below 0.5",
        "image5": "no label",
    }
    assert GridPointing(Plain(), confidence=str(file), least=0.95).ids == ()
    with pytest.raises(ValueError, match="3 x 3 cells need 9 classes, and plain has 4"):
        GridPointing(Plain(), confidence=str(file), grid=3).cells(0)
    with pytest.raises(ValueError, match=r"dataset\.confidence: .* is about 'plain'"):
        _ = GridPointing(Plain(labels=(0, 1)), confidence=str(file)).ids
    with pytest.raises(ValueError, match=r"no file 'nowhere\.json'"):
        _ = GridPointing(Plain(), confidence="nowhere.json").ids


def test_confidence_is_measured_and_read_again(tmp_path: Path) -> None:
    """The planted network's probabilities by their formula, through the command and back into the data set."""
    file = tmp_path / "confidence.json"
    words = ["data", "confidence", str(file), "model=planted", "dataset=planted", "dataset.count=20", "run.workers=0"]
    assert main(words) == 0
    data = Planted(count=20)
    found = confidences(str(file), data)
    for index in (0, 7):
        grey = np.asarray(data.read(index).image, dtype=float).mean(axis=2) / 255
        logits = 12 * grey.reshape(4, 8, 4, 8).mean(axis=(1, 3)).ravel()
        share = np.exp(logits[index % 16]) / np.exp(logits).sum()
        assert found[data.ids[index]] == pytest.approx(share, abs=1e-4)
    every, none = (GridPointing(data, confidence=str(file), least=least) for least in (0.1, 0.999))
    assert (len(every.ids), len(none.ids)) == (20, 0)
    assert main(["data", "confidence", str(file), "model=planted", "dataset=mnist", "run.limit=2"]) == 1  # other labels
