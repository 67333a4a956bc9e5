"""The contract checks find what they are for, and everything this project ships holds them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from support import engine_jobs as parts
from support.hostile_methods import Hostile, Leaving, Shared, Vandal, conv_model
from torch import Tensor

from dix.bench.run import contracts
from dix.cli import main
from dix.cli.config import composed, options
from dix.cli.construct import many
from dix.metrics.api import Case, Scores, Summary, Trace
from dix.metrics.summaries import Averaged
from dix.passes import Passes

IMAGES = torch.rand(2, 3, parts.SIZE, parts.SIZE, generator=torch.Generator().manual_seed(0))
SLOW_METHODS = {"score_cam", "rise", "big", "smooth_grad"}


def problems(findings: object) -> list[str]:
    return [finding.clause for finding in findings if finding.problem]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class BatchNormalised(parts.Brightness):
    """Scales by the batch's maximum: not alike in any batch."""

    def explain(self, passes: Passes) -> Tensor:
        maps = passes.images.mean(dim=1) ** 2
        return maps - maps.mean()


@dataclass(frozen=True)
class LeavesAHook(parts.Brightness):
    """Forgets a hook."""

    def explain(self, passes: Passes) -> Tensor:
        passes.classifier.network.register_forward_hook(lambda *_: None)
        return super().explain(passes)


@dataclass(frozen=True)
class Flat(parts.Brightness):
    """A constant map."""

    def explain(self, passes: Passes) -> Tensor:
        return torch.ones_like(passes.images[:, 0])


@pytest.mark.parametrize(
    ("explainer", "clause"),
    [
        (BatchNormalised(), "explains an image alike in any batch"),
        (LeavesAHook(), "leaves the model as it was"),
        (Flat(), "gives finite maps that are not constant"),
    ],
)
def test_faults_of_a_method_are_found(explainer: parts.Brightness, clause: str) -> None:
    assert problems(contracts.explainer_contract(explainer, parts.classifier(), IMAGES)) == [clause]


def test_a_sound_method_holds() -> None:
    assert not problems(contracts.explainer_contract(parts.Brightness(), parts.classifier(), IMAGES))


@dataclass(frozen=True)
class SilentlyExcludes(Averaged):
    """NaN without a reason, and a summary that ignores its weights' shape."""

    label: str = "bad"
    higher_is_better: bool | None = True
    extra: bool = True
    probe: None = None
    needs_mask: bool = False

    def score(self, case: Case, trace: Trace | None) -> Scores:
        return Scores.of(torch.full((len(case.batch.ids),), float("nan")))

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        return lambda weights=None: np.zeros(3)


def test_faults_of_a_metric_are_found() -> None:
    found = problems(contracts.metric_contract(SilentlyExcludes(), parts.classifier(), IMAGES))
    assert found == ["says why an image is excluded, and only then", "summarises with weights as without"]


@pytest.mark.parametrize("metric", options("metric"))
def test_every_metric_of_this_project_holds(metric: str) -> None:
    built = many(composed([f"metric=[{metric}]"]).metric, "metric")[metric]
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not problems(contracts.metric_contract(built, parts.classifier(), images))


def test_faults_of_a_data_set_are_found() -> None:
    class Twice(parts.Made):
        def __post_init__(self) -> None:
            object.__setattr__(self, "ids", ("image0", "image0"))

    assert problems(contracts.dataset_contract(Twice(count=2))) == ["names every image once", "reads image0"][:1]
    assert not problems(contracts.dataset_contract(parts.Made()))


def test_data_sets_label_name_and_identify_their_images() -> None:
    numbers = count()

    class Unlabelled(parts.Made):
        labels = (0,)

    class Unsteady(parts.Made):
        def content(self, index: int) -> str:
            return str(next(numbers))

    class Escaping(parts.Made):
        def __post_init__(self) -> None:
            object.__setattr__(self, "ids", tuple(f"\x1b[31m{i}" for i in range(self.count)))

    wrong = {Unlabelled: "labels every image, or says None", Unsteady: "knows an image by its content"}
    wrong[Escaping] = "names images in text that can be stored"
    for made, clause in wrong.items():
        assert problems(contracts.dataset_contract(made())) == [clause]


def test_models_split_exactly() -> None:
    assert not problems(contracts.classifier_contract(parts.classifier(), IMAGES))


@pytest.mark.parametrize(
    ("what", "clause"),
    [
        ("hook", "leaves the model as it was"),
        ("training mode", "leaves the model as it was"),
        ("weights past the counter", "leaves the model as it was"),
        ("weights that want gradients", "leaves the model as it was"),
        ("forward replaced", "leaves the model as it was"),
        ("images through numpy", "leaves the batch as it was"),
        ("targets", "leaves the batch as it was"),
        ("activation", "leaves the batch as it was"),
        ("working directory", "leaves the process as it was"),
        ("gradients off", "leaves the process as it was"),
        ("default dtype", "leaves the process as it was"),
        ("threads", "leaves the process as it was"),
    ],
)
def test_what_a_method_does_to_others_is_found_with_advice(what: str, clause: str) -> None:
    model, here = conv_model(), Path.cwd()
    before = model.logits(IMAGES).clone()
    found = {f.clause: f.problem for f in contracts.explainer_contract(Hostile(what=what), model, IMAGES)}
    assert "it changed what others rely on: " in found[clause]
    assert found[clause].endswith(contracts.ADVICE[clause])
    assert torch.equal(model.logits(IMAGES), before)
    assert Path.cwd() == here
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("error", [SystemExit, RuntimeError, AssertionError])
def test_a_method_that_raises_is_reported_to_the_last_clause(error: type[BaseException]) -> None:
    found = list(contracts.explainer_contract(Leaving(error=error), conv_model(), IMAGES))
    sound = list(contracts.explainer_contract(parts.Brightness(), conv_model(), IMAGES))
    assert [f.clause for f in found] == [f.clause for f in sound]
    problems_ = {f.clause: f.problem for f in found if f.problem}
    assert error.__name__ in problems_[contracts.RAISES]
    assert contracts.ALIKE in problems_


def test_shared_random_numbers_are_found() -> None:
    assert contracts.RANDOM in problems(contracts.explainer_contract(Shared(), conv_model(), IMAGES))


@pytest.mark.parametrize(("what", "clause"), [("maps", contracts.BATCH), ("images", contracts.BATCH)])
def test_what_a_metric_does_to_others_is_found(what: str, clause: str) -> None:
    assert clause in problems(contracts.metric_contract(Vandal(what=what), conv_model(), IMAGES))


def test_a_data_set_that_cannot_be_read_is_reported() -> None:
    [unreadable] = [f for f in contracts.dataset_contract(parts.Made(broken=(1,))) if f.problem]
    assert unreadable.clause == "reads image1"
    assert "made to be unreadable" in unreadable.problem


BROKEN = """
from dataclasses import dataclass


@dataclass(frozen=True)
class Raising:
    label: str = "Raising"
    extra: bool = True

    def __post_init__(self):
        raise RuntimeError("made to raise")

    def unsupported(self, classifier):
        return ""

    def explain(self, passes):
        return passes.images.mean(dim=1)


class Unreadable:
    name, label_space, ids, labels, class_names = "unreadable", None, ("a", "b"), (None, None), {}

    def read(self, index):
        raise OSError("made to be unreadable")

    def fingerprint(self):
        return "f"
"""


def test_check_goes_on_whatever_a_part_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A method that cannot be built, a sound one, and a data set that cannot be read, with a model and without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_parts.py").write_text(BROKEN, encoding="utf-8")
    for kind, name, text in (
        ("method", "raising", "raising:\n  _target_: broken_parts.Raising\n"),
        ("dataset", "unreadable", "_target_: broken_parts.Unreadable\n"),
    ):
        (tmp_path / "c" / kind).mkdir(parents=True)
        (tmp_path / "c" / kind / f"{name}.yaml").write_text(text, encoding="utf-8")
    words = ["check", "method=[raising,gc]", "dataset=unreadable", "--config-dir", "c"]
    assert main([*words, "model=lenet5"]) == 1
    out = capsys.readouterr().out
    assert "FAILS is built from its configuration: method.raising: Raising: RuntimeError: made to raise; mend" in out
    assert "FAILS reads a: OSError: made to be unreadable; open the file with Pillow" in out
    sound = out[out.index("method gc on lenet5") :].splitlines()[1:]
    assert len(sound) > 8
    assert all(line.startswith("  ok ") for line in sound)
    assert main([*words, "model=lenet5", "model.weights=gone.pth"]) == 1
    out = capsys.readouterr().out
    assert "FAILS is built from its configuration: model.weights: no file gone.pth" in out
    assert "FAILS is tried on a model: there is none" in out


def test_every_clause_that_can_fail_has_advice() -> None:
    said = [*contracts.explainer_contract(parts.Brightness(), parts.classifier(), IMAGES)]
    said += [*contracts.metric_contract(SilentlyExcludes(), parts.classifier(), IMAGES)]
    said += [*contracts.dataset_contract(parts.Made()), *contracts.classifier_contract(parts.classifier(), IMAGES)]
    clauses = {finding.clause for finding in said} - {"reads its first 20 images with masks of their size"}
    assert len(clauses) > 20
    assert {clause for clause in clauses if not any(clause.startswith(about) for about in contracts.ADVICE)} == set()
