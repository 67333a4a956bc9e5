"""What several methods ask for alike is computed once, and their rows are those of runs of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from support import engine_jobs as parts
from support.hostile_methods import conv_model
from torch import Tensor

from dix.baselines.cam import GradCam
from dix.baselines.controls import Random
from dix.bench.run.alike import Answers
from dix.bench.run.batch import prepare
from dix.bench.run.evaluate import evaluate
from dix.bench.run.outcome import Outcome
from dix.bench.store.results import ResultStore
from dix.datasets.loader import load
from dix.explainer import Explainer
from dix.metrics.api import Case, Trace
from dix.metrics.contrast import Contrast
from dix.metrics.information import Reveal
from dix.metrics.probes import Blackout, SoftMask
from dix.metrics.single_deletion import OneCell
from dix.passes import Passes


@dataclasses.dataclass(frozen=True)
class Turned(parts.Brightness):
    """Brightness with another order of the first image's pixels."""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps, the first of which is Brightness's negative."""
        maps = super().explain(passes).clone()
        maps[0] *= -1
        return maps


def run(folder: Path, methods: Mapping[str, Explainer], metrics: Mapping[str, Any] | None = None) -> Outcome:
    job = parts.job(methods=dict(methods), model=conv_model())
    return evaluate(dataclasses.replace(job, metrics=metrics or job.metrics), ResultStore(folder))


def values(folder: Path, method: str) -> pd.Series:
    rows = ResultStore(folder).rows()
    return rows[rows["method"] == method].set_index(["metric", "image"])["value"].sort_index()


def test_the_network_answers_once_for_equal_maps(tmp_path: Path) -> None:
    """The third method's maps order the pixels as the first's do; the fourth's another way."""
    methods: dict[str, Explainer] = {
        "a": parts.Brightness(),
        "random": Random(),
        "b": parts.Brightness("again"),
        "c": Turned(),
    }
    found = run(tmp_path / "all", methods)
    alone = {name: run(tmp_path / name, {name: methods[name]}) for name in ("a", "b", "c", "random")}
    assert alone["a"].forwards == alone["c"].forwards == alone["random"].forwards > 0
    assert found.forwards == 3 * alone["a"].forwards
    for name in methods:
        pd.testing.assert_series_equal(values(tmp_path / "all", name), values(tmp_path / name, name), check_exact=True)


def test_random_pixels_of_each_method_are_its_own() -> None:
    batch = prepare(parts.job(), load(parts.Made(), parts.job().preprocess, [0, 1])).images
    case = Case(batch, torch.rand(2, 8, 8))
    assert Reveal((0.1,), draw="SIC").reads(case) is None
    shared = Reveal((0.25,)).reads(case)
    assert shared is not None
    assert shared.sum() == 2 * 16


def test_what_is_remembered_is_handed_out_as_copies_and_for_what_was_read_only() -> None:
    """Blackout reads ranks: a map twice as large asks the same, its negative does not, nor do other images."""
    job = parts.job()
    batch = load(job.dataset, job.preprocess, [0, 1])
    first, other = (prepare(job, batch).images for _ in range(2))
    maps, asked = torch.rand(2, 8, 8), []

    def ask() -> Trace:
        asked.append(True)
        return Trace(torch.ones(2, 3), torch.ones(2, 3).long(), {"bytes": torch.ones(2, 3)})

    answers, probe = Answers(), Blackout(parts.FRACTIONS)
    for factor in (1, 2):
        found = answers.recall(probe, Case(first, factor * maps), ask)
        assert torch.equal(found.probability, torch.ones(2, 3))
        assert torch.equal(found.side["bytes"], torch.ones(2, 3))
        found.probability.zero_()
        found.side["bytes"].zero_()
    assert len(asked) == 1
    for case, by in ((Case(first, -maps), probe), (Case(other, maps), probe), (Case(first, maps), SoftMask())):
        answers.recall(by, case, ask)
    assert len(asked) == 4
    for _ in range(2):
        answers.recall(OneCell(), Case(first, maps), ask)  # it does not tell what it reads
    assert len(asked) == 6


def test_evidence_about_another_class_is_shared_and_changes_no_row(tmp_path: Path) -> None:
    """Two of Grad-CAM's kind ask for one more clean pass a batch, not for one each."""
    methods: dict[str, Explainer] = {"a": GradCam(), "b": GradCam("second")}
    job = parts.job(methods=methods, model=conv_model())
    job = dataclasses.replace(job, metrics={"contrast": Contrast()})
    seen: list[int] = []
    with job.classifier.network.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0]))):
        evaluate(job, ResultStore(tmp_path / "both"))
    assert sum(seen) == 2 * job.count
    for name, method in methods.items():
        run(tmp_path / name, {name: method}, {"contrast": Contrast()})
        pd.testing.assert_series_equal(values(tmp_path / "both", name), values(tmp_path / name, name), check_exact=True)
