"""Whatever one method or metric does to what all share, the others' rows are those of a run without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import engine_jobs as parts
from support.hostile_methods import TRICKS, Hostile, Leaving, Shared, Vandal, conv_model
from torch import Tensor

from dix.baselines.cam import GradCam
from dix.bench.run.evaluate import evaluate
from dix.bench.run.guard import Guard, Left
from dix.bench.run.job import Job
from dix.bench.run.seals import Memory, seal
from dix.bench.store.results import ResultStore


def made(methods: dict[str, Any], **run: Any) -> Job:
    return parts.job(methods=methods, model=conv_model(), **run)


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
