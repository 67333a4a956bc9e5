"""Metrics put to the test: Krippendorff's own example, ladders by hand, and planted truth with known verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from dix.baselines.extras_path import InputXGradient
from dix.bench.sanity.train import deleted
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.validate import judge
from dix.bench.validate.degrade import ITSELF, LADDERS, Degraded, Noise, OtherClass, Randomised, Turned, degraded, step
from dix.bench.validate.krippendorff import alpha
from dix.bench.validate.report import STEPS, Validation, documents, verdict
from dix.cli import main
from dix.datasets.api import Dataset
from dix.datasets.loader import load
from dix.datasets.planted import Planted
from dix.datasets.preprocess import Preprocess
from dix.metrics.segmentation import Pointing
from dix.models.planted import planted
from dix.passes import Passes

NAN = float("nan")
#: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), Sec. C: four observers, twelve units.
OBSERVED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def test_alpha_is_krippendorffs_own_for_his_example() -> None:
    """Interval data: alpha = 0.849."""
    assert alpha(np.array(OBSERVED)) == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_1_for_equal_raters_and_0_for_chance() -> None:
    ranks = np.arange(10.0)
    assert alpha(np.stack([ranks] * 4)) == pytest.approx(1)
    random = np.random.default_rng(0)
    drawn = np.stack([random.permutation(200) for _ in range(50)]).astype(float)
    assert alpha(drawn) == pytest.approx(0, abs=0.02)  # its deviation is near sqrt(2 / 200) / 50
    assert alpha(np.stack([ranks, ranks[::-1]])) == pytest.approx(-0.9)  # 1 - 2 * 8.25 * 2 / (2 * 8.25 * 20 / 19)
    assert np.isnan(alpha(np.ones((3, 4))))
    assert np.isnan(alpha(np.array([[1.0, NAN], [NAN, 2.0]])))


def passes_of(count: int = 4) -> Passes:
    data, model = Planted(count=count), planted()
    batch = load(data, Preprocess(size=32), range(count))
    return Passes(model, batch.images, batch.labels, ids=batch.ids)


def test_a_planted_pictures_label_is_its_bright_cell_and_the_network_knows_it() -> None:
    data = Planted()
    assert isinstance(data, Dataset)
    batch = load(data, Preprocess(size=32), range(20))
    assert batch.masks is not None
    assert torch.equal(planted().logits(batch.images).argmax(dim=1), batch.labels)
    for image, mask, label in zip(batch.images, batch.masks, batch.labels.tolist(), strict=True):
        top, left = (8 * at for at in divmod(label, 4))
        assert mask[top : top + 8, left : left + 8].all()
        assert int(mask.sum()) == 64
        assert image[:, mask == 1].mean() > image[:, mask == 0].mean() + 0.25  # 0.3 brighter, deviation 0.013
    assert data.content(3) == data.read(3).content
    with pytest.raises(ValueError, match="a grid that divides the side"):
        Planted(grid=5)


def test_the_planted_networks_logit_is_the_cells_brightness_and_its_contributions_lie_there_alone() -> None:
    passes = passes_of()
    grey = passes.images.double().mean(dim=1)
    for place in (0, 5, 15):
        top, left = (8 * at for at in divmod(place, 4))
        mean = grey[:, top : top + 8, left : left + 8].mean(dim=(1, 2))
        torch.testing.assert_close(passes.logits[:, place].double(), 12 * mean, rtol=1e-5, atol=1e-5)
    maps = InputXGradient("black", reduction="sum").explain(passes)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), passes.logits.gather(1, passes.targets[:, None])[:, 0])
    for i, label in enumerate(passes.targets.tolist()):
        top, left = (8 * at for at in divmod(label, 4))
        outside = maps[i].clone()
        outside[top : top + 8, left : left + 8] = 0
        assert (outside == 0).all()


BASE = InputXGradient("black")


def itself(passes: Passes) -> Tensor:
    return Degraded(BASE, ITSELF).explain(passes)


def test_the_first_step_is_the_method_and_the_last_of_each_ladder_has_nothing_of_it() -> None:
    passes = passes_of()
    own = BASE.explain(passes)
    torch.testing.assert_close(itself(passes), own / own.amax(dim=(1, 2), keepdim=True))
    noise = passes.noise((32, 32), "degraded")
    torch.testing.assert_close(Degraded(BASE, Noise(1.0)).explain(passes), noise)
    half = Degraded(BASE, Noise(0.5)).explain(passes)
    torch.testing.assert_close(half, (itself(passes) + noise) / 2)
    least = Passes(passes.classifier, passes.images, passes.logits.argmin(dim=1), ids=passes.ids)
    torch.testing.assert_close(Degraded(BASE, OtherClass(1.0)).explain(passes), itself(least))


@pytest.mark.parametrize(("degrees", "turns"), [(0.0, 0), (90.0, 1), (180.0, 2)])
def test_maps_are_turned_about_the_middle(degrees: float, turns: int) -> None:
    passes = passes_of()
    expected = itself(passes).rot90(turns, dims=(1, 2))
    torch.testing.assert_close(Degraded(BASE, Turned(degrees)).explain(passes), expected, rtol=0, atol=1e-4)


def test_a_randomised_step_explains_a_copy_and_leaves_the_network_alone() -> None:
    passes = passes_of()
    before = passes.classifier.fingerprint
    maps = Degraded(BASE, Randomised(0.1)).explain(passes)  # the head: weights everywhere, so attribution everywhere
    assert (maps != 0).double().mean() > 0.99
    passes.classifier.__dict__.pop("fingerprint")
    assert passes.classifier.fingerprint == before


def test_every_step_has_a_name_of_its_own_and_a_word_in_the_tables() -> None:
    found = degraded({"gc": BASE})
    assert list(found) == judge.units("gc")
    assert len(found) == 1 + sum(map(len, LADDERS.values()))
    assert {ladder: len(names) for ladder, (_, names) in STEPS.items()} == {k: len(v) for k, v in LADDERS.items()}


def test_spearman_is_scipys() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (2, 20, 6)).astype(float)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(judge.spearman(first, second), expected)
    assert judge.spearman(np.ones((1, 4)), np.arange(4.0)[None]).tolist() == [0]


BLOCK = Block("thesis", "made", "made")


def stored(levels: dict[str, list[float]], spread: float, count: int = 30) -> dict[Key, Sample]:
    """Rows of one metric: each step's level plus an image's own offset and noise."""
    random = np.random.default_rng(0)
    images = tuple(f"image{i:02d}" for i in range(count))
    offset = random.normal(0, 20, count)
    rows = {}
    for ladder, values in levels.items():
        for number, level in enumerate(values):
            value = level + offset + random.normal(0, spread, count)
            key = Key(BLOCK, step("gc", ladder, number), "pointing")
            rows[key] = Sample(images, value, np.zeros((count, 0)), np.zeros((count, 0)), ("",) * count, ("",) * count)
    return rows


def order_of(values: list[float], spread: float = 1.0) -> judge.Order:
    """values: of the method itself and the four noisy steps, higher is better."""
    [order] = judge.orders(stored({"noise": values}, spread), {"pointing": Pointing()})
    return order


def test_a_metric_that_falls_with_every_step_keeps_the_order_and_tells_the_first_step_apart() -> None:
    order = order_of([50, 45, 40, 35, 30])
    assert (order.rho, order.n, order.apart, order.resolution) == (1, 30, (1, 1, 1, 1), 1)
    assert order.kept
    assert verdict([order]) == "yes"


def test_resolution_is_the_smallest_step_that_is_told_apart() -> None:
    """With 30 images and a deviation of 1 in each score a difference of 0.02 is not seen, one of 4 is."""
    order = order_of([50, 49.98, 49.96, 46, 40])
    assert order.apart[2:] == (1, 1)
    assert order.resolution == 3


def test_a_metric_that_rises_is_misled_and_a_constant_one_says_nothing() -> None:
    order = order_of([30, 35, 40, 45, 50])
    assert (order.rho, order.apart) == (-1, (-1, -1, -1, -1))
    assert verdict([order]) == "misled"
    flat = order_of([30.0] * 5, spread=0.0)
    assert (flat.rho, flat.apart, flat.resolution) == (0, (0, 0, 0, 0), 0)
    assert verdict([flat]) == "no"
    assert verdict([order_of([50, 45, 40, 35, 30]), flat]) == "partly"
    assert verdict([]) == ""


def test_on_planted_truth_metrics_that_read_the_truth_keep_every_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command: exact contributions made worse, scored and judged; sparseness has no direction and no line."""
    monkeypatch.chdir(tmp_path)
    words = ["validate-metrics", "experiment=validation_planted", "metric=[localisation,map,deletion,sparseness]"]
    words += ["dataset.count=16", "run.batch_size=8", "run.workers=0", "run.progress=false"]
    assert main(words) == 0
    page = (tmp_path / "results" / "validation" / "validation.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert "| localisation | yes | yes | yes | yes |" in page
    assert "| mAP | yes | yes | yes | yes |" in page
    assert "sparseness" not in rows
    assert "16 images" in page
    assert main(words) == 0  # everything is stored: the page is the same, written from the rows
    assert (tmp_path / "results" / "validation" / "validation.md").read_text() == page


def test_a_page_without_rows_is_a_page() -> None:
    assert "Which metric" in documents(Validation({}, [], [], []))["validation.md"]


def test_ladders_need_methods_and_metrics() -> None:
    assert main(["validate-metrics", "experiment=validation_planted", "method=[]"]) == 1


def test_deleted_cells_are_black_as_many_as_drawn_and_the_same_for_the_same_seed() -> None:
    images = torch.ones(400, 3, 32, 32)
    one, again = (deleted(images, 8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, again)
    cells = torch.nn.functional.avg_pool2d(one[:, :1], 8)[:, 0]
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    gone = (cells == 0).sum(dim=(1, 2))
    assert set(gone.tolist()) == set(range(9))  # each of 9 counts has probability 1 / 9 in 400 draws
    assert float(gone.double().mean()) == pytest.approx(4, abs=4 * (60 / 9 / 400) ** 0.5)
    assert torch.equal(deleted(images, 0, torch.Generator()), images)
