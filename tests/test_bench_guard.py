"""Whatever one method or metric does to what all share, the others' rows are those of a run without it."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import engine_jobs as parts
from torch import Tensor, nn

from dix.baselines.cam import GradCam
from dix.bench.run.evaluate import evaluate
from dix.bench.run.guard import Guard, Left
from dix.bench.run.job import Job
from dix.bench.run.seals import Memory, seal
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier, Weights
from dix.metrics.api import Case, Scores, Trace
from dix.metrics.summaries import Averaged
from dix.passes import Passes


class Conv(nn.Module):
    """A convolution, batch normalisation and dropout before the two classes: everything that a mode changes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.drop = nn.Dropout(0.5)
            self.out = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, 2]."""
        return self.out(self.drop(self.norm(self.conv(images)).relu().mean(dim=(2, 3))))


def model() -> Classifier:
    """The network as a run has it."""
    weights = Weights("made for tests", trained=True)
    layers = {"last": "norm", "second": "conv"}
    return Classifier(
        "conv",
        Conv(),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        input_size=parts.SIZE,
        layers=layers,
        kind="cnn",
        weights=weights,
    )


def made(methods: dict[str, Any], **run: Any) -> Job:
    return parts.job(methods=methods, model=model(), **run)


@dataclass(frozen=True)
class Hostile(parts.Brightness):
    """Does something to what it is handed, then explains as if nothing had happened."""

    what: str = ""

    def explain(self, passes: Passes) -> Tensor:
        TRICKS[self.what](passes)
        return super().explain(passes)


def network(passes: Passes) -> Conv:
    found = passes.classifier.network
    assert isinstance(found, Conv)
    return found


def forward_in_training(passes: Passes) -> None:
    """Leaves the mode as it was, but the running statistics are others."""
    network(passes).train()
    passes.classifier.logits(passes.images)
    network(passes).eval()


def replace_forward(passes: Passes) -> None:
    network(passes).forward = lambda images: images.mean(dim=(2, 3))[:, :2]  # type: ignore[method-assign]


def poison_tail(passes: Passes) -> None:
    """A tail that is recorded while a hook is there stays wrong when the hook is gone."""
    handle = network(passes).conv.register_forward_hook(lambda _m, _a, out: out * 0)
    passes.classifier.tail("last")
    handle.remove()
    network(passes).conv.register_forward_hook(lambda _m, _a, out: out)


TRICKS: dict[str, Callable[[Passes], object]] = {
    "hook": lambda p: network(p).conv.register_forward_hook(lambda _m, _a, out: out * 0),
    "pre-hook": lambda p: network(p).norm.register_forward_pre_hook(lambda _m, given: (given[0] * 0,)),
    "hook on all modules": lambda p: nn.modules.module.register_module_forward_hook(lambda _m, _a, out: out * 0),
    "training mode": lambda p: network(p).train(),
    "training mode of one layer": lambda p: network(p).drop.train(),
    "statistics": forward_in_training,
    "forward replaced": replace_forward,
    "layer replaced": lambda p: setattr(network(p), "norm", nn.Identity()),
    "attribute of a layer": lambda p: setattr(network(p).norm, "eps", 10.0),
    "weights in place": lambda p: network(p).conv.weight.zero_(),
    "weights past the counter": lambda p: network(p).conv.weight.data.zero_(),
    "weights through numpy": lambda p: network(p).conv.weight.numpy().fill(0),
    "weights replaced": lambda p: setattr(network(p).conv, "weight", nn.Parameter(torch.zeros(4, 3, 3, 3))),
    "weights that want gradients": lambda p: network(p).requires_grad_(),
    "normalisation": lambda p: p.classifier.mean.fill_(9),
    "layers": lambda p: p.classifier.layers.update(last="conv"),
    "tail": poison_tail,
    "targets": lambda p: p.targets.add_(1).remainder_(2),
    "targets replaced": lambda p: setattr(p, "targets", 1 - p.targets),
    "images": lambda p: p.images.zero_(),
    "images past the counter": lambda p: p.images.data.zero_(),
    "images through numpy": lambda p: p.images.numpy().fill(0),
    "images turned": lambda p: p.images.data.copy_(p.images.flip(-1)),
    "images replaced": lambda p: setattr(p, "images", torch.zeros_like(p.images)),
    "ids": lambda p: p.ids.reverse(),
    "chunk": lambda p: setattr(p, "chunk", 0),
    "seed": lambda p: setattr(p, "seed", 99),
    "activation": lambda p: p.activation("last").zero_(),
    "gradient": lambda p: p.gradient("last").data.zero_(),
    "logits": lambda p: p.logits.zero_(),
    "working directory": lambda p: os.chdir("/"),
    "gradients off": lambda p: torch.set_grad_enabled(False),
    "default dtype": lambda p: torch.set_default_dtype(torch.float64),
    "threads": lambda p: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda p: torch.set_deterministic_debug_mode("warn"),
    "autocast": lambda p: torch.set_autocast_enabled("cpu", True),
    "errors of numpy": lambda p: np.seterr(divide="raise"),
    "signals": lambda p: signal.signal(signal.SIGTERM, signal.SIG_IGN),
}


def values(folder: Path) -> pd.Series:
    rows = ResultStore(folder).rows()
    return rows[rows["method"] != "hostile"].set_index(["method", "metric", "image"])["value"].sort_index()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pd.Series:
    folder = tmp_path_factory.mktemp("alone")
    assert not evaluate(made({"before": GradCam(), "gc": GradCam("second")}), ResultStore(folder)).failed
    return values(folder)


@pytest.mark.parametrize("what", TRICKS)
def test_the_others_rows_are_those_of_a_run_without_it(what: str, tmp_path: Path, alone: pd.Series) -> None:
    here = Path.cwd()
    methods = {"before": GradCam(), "hostile": Hostile(what=what), "gc": GradCam("second")}
    job = made(methods)
    weights = [tensor.clone() for tensor in job.classifier.network.state_dict().values()]
    outcome = evaluate(job, ResultStore(tmp_path))
    assert list(outcome.failed) == ["hostile"]
    assert "it changed what others rely on: " in outcome.failed["hostile"]
    pd.testing.assert_series_equal(values(tmp_path), alone, check_exact=True)
    stored = ResultStore(tmp_path).rows()
    assert not (stored["method"] == "hostile").any()
    assert [record["method"] for record in ResultStore(tmp_path).read_json("failures")] == ["hostile"]
    # and everything is as it was
    assert Path.cwd() == here
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert not job.classifier.network.training
    for now, kept in zip(job.classifier.network.state_dict().values(), weights, strict=True):
        assert torch.equal(now, kept)


@pytest.mark.parametrize("what", ["hook", "train", "weights past the counter"])
def test_the_culprit_may_stand_anywhere(what: str, tmp_path: Path, alone: pd.Series) -> None:
    what = {"train": "training mode"}.get(what, what)
    for name, order in (("first", ["hostile", "before", "gc"]), ("last", ["before", "gc", "hostile"])):
        methods = {"before": GradCam(), "hostile": Hostile(what=what), "gc": GradCam("second")}
        outcome = evaluate(made({key: methods[key] for key in order}), ResultStore(tmp_path / name))
        assert list(outcome.failed) == ["hostile"]
        pd.testing.assert_series_equal(values(tmp_path / name), alone, check_exact=True)


@dataclass(frozen=True)
class Leaving(parts.Brightness):
    """Asks for the end of the process, or is interrupted."""

    error: type[BaseException] = field(default=SystemExit, metadata={"summary_only": True})

    def explain(self, passes: Passes) -> Tensor:
        raise self.error(0)


def test_system_exit_is_the_methods_failure(tmp_path: Path, alone: pd.Series) -> None:
    methods = {"before": GradCam(), "hostile": Leaving(), "gc": GradCam("second")}
    outcome = evaluate(made(methods), ResultStore(tmp_path))
    assert outcome.failed == {"hostile": "SystemExit(0)"}
    pd.testing.assert_series_equal(values(tmp_path), alone, check_exact=True)


def test_an_interruption_is_the_users_and_stops_the_run(tmp_path: Path) -> None:
    methods = {"before": GradCam(), "hostile": Leaving(error=KeyboardInterrupt)}
    with pytest.raises(KeyboardInterrupt):
        evaluate(made(methods), ResultStore(tmp_path))
    [job] = ResultStore(tmp_path).read_json("jobs")
    assert job["state"] == "stopped"


def test_a_data_set_that_asks_for_the_end_is_no_success(tmp_path: Path) -> None:
    class Exiting(parts.Made):
        def read(self, index: int) -> Any:
            raise SystemExit(0)

    with pytest.raises(Left, match="SystemExit"):
        evaluate(parts.job(dataset=Exiting()), ResultStore(tmp_path))


@dataclass(frozen=True)
class Shared(parts.Brightness):
    """Draws from the generators that everybody shares."""

    def explain(self, passes: Passes) -> Tensor:
        noise = torch.rand(len(passes.ids), 8, 8) + random.random()
        return noise + torch.from_numpy(np.random.rand(8, 8))  # noqa: NPY002


def test_shared_random_numbers_depend_on_nobody_else(tmp_path: Path) -> None:
    torch.manual_seed(5)
    evaluate(made({"shared": Shared()}), ResultStore(tmp_path / "a"))
    state = torch.get_rng_state()
    torch.manual_seed(6)
    evaluate(made({"before": GradCam(), "shared": Shared()}), ResultStore(tmp_path / "b"))
    first, second = values(tmp_path / "a"), values(tmp_path / "b")
    pd.testing.assert_series_equal(second["shared"], first["shared"], check_exact=True)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)  # nobody's numbers were used up


@dataclass(frozen=True)
class Vandal(Averaged):
    """A metric that writes into what it is handed."""

    what: str = "maps"
    label: str = "VANDAL"
    higher_is_better: bool | None = True
    extra: bool = True
    probe: None = None
    needs_mask: bool = False

    def score(self, case: Case, trace: Trace | None) -> Scores:
        acts: dict[str, Callable[[], object]] = {
            "maps": lambda: case.maps.zero_(),
            "images": lambda: case.batch.images.data.zero_(),
            "labels": lambda: case.batch.labels.fill_(1),
            "clean": lambda: case.batch.clean.probability.fill_(0.5),
            "raises": lambda: [][0],
        }
        acts[self.what]()
        return Scores.of(torch.zeros(len(case.batch.ids)))


@pytest.mark.parametrize("what", ["maps", "images", "labels", "clean", "raises"])
def test_a_metric_spoils_no_other_metric(what: str, tmp_path: Path, alone: pd.Series) -> None:
    job = made({"before": GradCam(), "gc": GradCam("second")})
    metrics = {"neg": job.metrics["neg"], "vandal": Vandal(what=what), **job.metrics}
    outcome = evaluate(dataclasses.replace(job, metrics=metrics), ResultStore(tmp_path))
    assert set(outcome.failed) == {"before", "gc"}
    assert all(message.startswith("vandal: ") for message in outcome.failed.values())
    pd.testing.assert_series_equal(values(tmp_path), alone, check_exact=True)


def test_sound_methods_are_never_accused(tmp_path: Path) -> None:
    outcome = evaluate(made({"a": GradCam(), "b": parts.Brightness()}, workers=0), ResultStore(tmp_path))
    assert outcome.failed == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_(1e-6),
        lambda t: t.data.mul_(-1),
        lambda t: t.copy_(t.flip(0)),
        lambda t: t.view(-1)[-1:].zero_(),
        lambda t: t.fill_(float("nan")),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_seal_breaks_with_any_change(change: Callable[[Tensor], object], dtype: torch.dtype) -> None:
    tensor = torch.rand(5, 77, generator=torch.Generator().manual_seed(0)).add(1).to(dtype)
    if dtype == torch.bfloat16 and change.__code__.co_consts and 1e-6 in change.__code__.co_consts:
        return  # less than a step of that precision: nothing changes
    before = seal({"nested": [tensor]})
    assert seal({"nested": [tensor.clone()]}) == before
    change(tensor)
    assert seal({"nested": [tensor]}) != before


def test_a_memory_knows_what_was_changed_replaced_and_removed() -> None:
    memory = Memory()
    for key in ("a", "b", "c", "d"):
        memory[key] = (torch.ones(3), np.ones(4))
    memory["a"][1][2] = 5
    memory["b"] = torch.ones(3)
    del memory["c"]
    assert sorted(memory.changed()) == ["a", "b", "c"]


def test_the_guard_costs_little(tmp_path: Path) -> None:
    """In forwards of the clean pass, which a run of one method and four metrics pays for many times over."""
    job = made({"gc": GradCam()})
    guard = Guard(job.classifier)
    assert guard.changed(thorough=True) == []
    quick, thorough = (_seconds(partial(guard.changed, thorough=each)) for each in (False, True))
    assert quick < thorough
    assert quick < 0.02


def _seconds(act: Callable[[], object], times: Sequence[int] = range(20)) -> float:
    import time

    start = time.perf_counter()
    for _ in times:
        act()
    return (time.perf_counter() - start) / len(times)


def test_one_number_of_a_wider_tensor_can_be_sealed() -> None:
    """Of a batch of one image, a column keeps the row's stride and yet counts as contiguous."""
    column = torch.arange(4).view(2, 2)[:1, 0]
    assert column.stride() == (2,)
    assert column.is_contiguous()
    assert seal(column) == seal(torch.tensor([0])) != seal(torch.tensor([1]))
