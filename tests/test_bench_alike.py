"""What several methods ask for alike is computed once, and their rows are those of runs of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
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
from dix.metrics.api import Trace
from dix.metrics.contrast import Contrast
from dix.metrics.faithfulness import Neg
from dix.metrics.information import Reveal
from dix.passes import Passes


@dataclasses.dataclass(frozen=True)
class Shifted(parts.Brightness):
    """Brightness with the first image's least pixel moved by the last bit."""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps, one number of which is another than Brightness's."""
        maps = super().explain(passes).clone()
        maps[0, 0, 0] = torch.nextafter(maps[0, 0, 0], torch.tensor(torch.inf))
        return maps


def run(folder: Path, methods: Mapping[str, Explainer], metrics: Mapping[str, Any] | None = None) -> Outcome:
    job = parts.job(methods=dict(methods), model=conv_model())
    return evaluate(dataclasses.replace(job, metrics=metrics or job.metrics), ResultStore(folder))


def values(folder: Path, method: str) -> pd.Series:
    rows = ResultStore(folder).rows()
    return rows[rows["method"] == method].set_index(["metric", "image"])["value"].sort_index()


def test_the_network_answers_once_for_equal_maps(tmp_path: Path) -> None:
    """The third method's maps are equal to the first's; the fourth's differ in one bit of each batch."""
    methods = {"a": parts.Brightness(), "random": Random(), "b": parts.Brightness("again"), "c": Shifted()}
    found = run(tmp_path / "all", methods)
    alone = {name: run(tmp_path / name, {name: methods[name]}) for name in ("a", "b", "c", "random")}
    assert alone["a"].forwards == alone["c"].forwards == alone["random"].forwards > 0
    assert found.forwards == 3 * alone["a"].forwards
    for name in methods:
        pd.testing.assert_series_equal(values(tmp_path / "all", name), values(tmp_path / name, name), check_exact=True)


@pytest.mark.parametrize(("draw", "remembered"), [("", True), ("SIC", False)])
def test_random_pixels_of_each_method_are_its_own(draw: str, remembered: bool) -> None:
    assert Reveal((0.1,), draw=draw).maps_alone is remembered


def test_what_is_remembered_is_handed_out_as_copies_and_for_these_bits_only() -> None:
    job = parts.job()
    batch = load(job.dataset, job.preprocess, [0, 1])
    prepared, other = prepare(job, batch), prepare(job, batch)
    maps, probe = torch.zeros(2, 8, 8), Neg(parts.FRACTIONS).probe
    answers, trace = Answers(), Trace(torch.ones(2, 3), torch.ones(2, 3).long(), {"bytes": torch.ones(2, 3)})
    answers.keep(prepared, maps, {probe: trace, "a stranger's probe": trace})
    known = answers.of(prepared, maps.clone())
    assert list(known) == [probe]
    known[probe].probability.zero_()
    known[probe].side["bytes"].zero_()
    again = answers.of(prepared, maps)[probe]
    assert torch.equal(again.probability, torch.ones(2, 3))
    assert torch.equal(again.side["bytes"], torch.ones(2, 3))
    assert not answers.of(other, maps)
    assert not answers.of(prepared, -maps)
    assert not answers.of(prepared, maps.double())


def test_evidence_about_another_class_is_shared_and_changes_no_row(tmp_path: Path) -> None:
    """Two of Grad-CAM's kind ask for one more clean pass a batch, not for one each."""
    methods = {"a": GradCam(), "b": GradCam("second")}
    job = parts.job(methods=methods, model=conv_model())
    job = dataclasses.replace(job, metrics={"contrast": Contrast()})
    seen: list[int] = []
    with job.classifier.network.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0]))):
        evaluate(job, ResultStore(tmp_path / "both"))
    assert sum(seen) == 2 * job.count
    for name, method in methods.items():
        run(tmp_path / name, {name: method}, {"contrast": Contrast()})
        pd.testing.assert_series_equal(values(tmp_path / "both", name), values(tmp_path / name, name), check_exact=True)
