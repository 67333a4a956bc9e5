"""Worker processes encode one method's images while the next one explains: the same rows, and no work done twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import engine_jobs as parts
from support.hostile_methods import TRICKS, Hostile, conv_model
from torch import Tensor

from dix.baselines.controls import Random
from dix.bench.run.batch import prepare
from dix.bench.run.evaluate import evaluate
from dix.bench.run.outcome import Outcome
from dix.bench.run.worker import elsewhere
from dix.bench.run.workers import Workers
from dix.bench.store.results import ResultStore
from dix.datasets.loader import load
from dix.metrics.api import Case, Prediction, Probe
from dix.metrics.information import Aic, Reveal, Sic
from dix.metrics.road import Imputed
from dix.metrics.scattered import Codec
from dix.passes import Passes

LEVELS = (0.1, 0.25, 0.5)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    """What pools were given, each done at once and in this process; the model computes as if on a GPU."""
    monkeypatch.setattr("dix.bench.run.worker.elsewhere", lambda classifier: True)
    given: list[Callable[..., Any]] = []

    def submit(_pool: object, work: Callable[..., Any], *args: Any) -> Future[Any]:
        given.append(work)
        future = Future[Any]()
        future.set_result(work(*args))
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    return given


def total(array: np.ndarray) -> float:
    return float(array.sum())


def told(value: object) -> str:
    return repr(value)


def test_a_pool_knows_again_what_it_was_given_ahead(done: list[Any]) -> None:
    """Equal numbers are equal work, in whatever array; what may change in between is not taken for equal."""
    pool, array = Workers(2), np.arange(6.0)
    with pool.ahead():
        first = pool.submit(total, array)
        assert pool.submit(total, array.copy()) is first
    assert pool.submit(total, array.reshape(2, 3)).result() == 15
    assert pool.submit(total, array.astype(int)).result() == 15
    assert len(done) == 3
    assert pool.submit(total, array.copy()) is first  # once
    assert pool.submit(total, array) is not first
    assert len(done) == 4
    with pool.ahead():
        one = pool.submit(told, 1)
    assert pool.submit(told, True) is not one
    assert pool.submit(told, 1.0) is not one
    assert pool.submit(told, 1) is one
    with pool.ahead():
        listed = pool.submit(told, [1, 2])
        settings = pool.submit(told, Codec(90))
    assert pool.submit(told, [1, 2]) is not listed
    assert pool.submit(told, Codec(91)) is not settings
    assert pool.submit(told, Codec(90)) is settings
    with pool.ahead():
        forgotten = pool.submit(total, array)
    pool.forget()
    assert pool.submit(total, array) is not forgotten


def test_an_array_that_was_written_into_is_other_work(done: list[Any]) -> None:
    pool, array = Workers(2), np.zeros(3)
    with pool.ahead():
        pool.submit(total, array)
    array += 1
    assert pool.submit(total, array).result() == 3


@pytest.mark.parametrize("probe", [Reveal(LEVELS), Reveal(LEVELS, draw="SIC"), Imputed((0.2, 0.4))], ids=repr)
def test_a_probe_begins_with_the_work_that_its_trace_asks_for(probe: Any, done: list[Any]) -> None:
    job = parts.job()
    batch = prepare(job, load(job.dataset, job.preprocess, [0, 1, 2])).images
    maps = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))

    def predict(images: Tensor, targets: Tensor, /, **_: Any) -> Prediction:
        shown = images.double().mean(dim=(1, 2, 3))
        return Prediction(shown, targets)

    alone = probe.trace(Case(dataclasses.replace(batch, _memo={}), maps), predict)
    assert not done
    pool = Workers(2)
    case = Case(dataclasses.replace(batch, pool=pool, _memo={}), maps)
    with pool.ahead():
        probe.begin(case)
    begun = len(done)
    assert begun > 3
    found = probe.trace(case, predict)
    assert len(done) == begun
    assert torch.equal(found.probability, alone.probability)
    assert all(torch.equal(found.side[name], alone.side[name]) for name in alone.side)


@dataclass(frozen=True)
class Noting(parts.Brightness):
    """Brightness, times `factor`; notes that it was asked, and what pools had been given by then."""

    factor: float = 1.0
    events: list[int] = field(default_factory=list, compare=False, metadata={"summary_only": True})
    done: list[Any] = field(default_factory=list, compare=False, metadata={"summary_only": True})

    def explain(self, passes: Passes) -> Tensor:
        self.events.append(len(self.done))
        return self.factor * super().explain(passes)


def scored(folder: Path, workers: int, methods: dict[str, Any], **run: Any) -> tuple[Outcome, pd.DataFrame]:
    job = parts.job(methods=methods, model=conv_model(), workers=workers, **run)
    metrics = {"neg": job.metrics["neg"], "sic": Sic(LEVELS, min_pred_value=0), "aic": Aic(LEVELS, min_pred_value=0)}
    outcome = evaluate(dataclasses.replace(job, metrics=metrics), ResultStore(folder))
    rows = ResultStore(folder).rows().set_index(["method", "metric", "image"]).sort_index()
    return outcome, rows[["value", "parts", "curve", "reason"]]


def test_rows_are_those_without_workers_and_nothing_is_encoded_twice(tmp_path: Path, done: list[Any]) -> None:
    """Of four methods, two order the pixels alike: for 8 images 3 x 3 levels, and the blurred and the whole image."""
    methods = {"a": parts.Brightness(), "random": Random(), "b": Noting(factor=2.0), "c": Noting(factor=-1.0)}
    alone, expected = scored(tmp_path / "alone", 0, methods)
    assert not done
    found, rows = scored(tmp_path / "pool", 2, methods)
    assert not alone.failed
    assert not found.failed
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)
    assert len(done) == 8 * (3 * 3 + 2)


def test_the_next_method_explains_while_workers_encode(tmp_path: Path, done: list[Any]) -> None:
    """A batch of 8: the second method begins when the first one's 24 levels, 8 blurred and 8 whole ones are given."""
    first, second = Noting(done=done), Noting(factor=-1.0, done=done)
    scored(tmp_path, 2, {"first": first, "second": second}, batch_size=8)
    assert first.events == [0]
    assert second.events == [40]
    assert len(done) == 64


def test_on_a_processor_one_follows_the_other(tmp_path: Path, done: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second method begins when the first one's 40 files are encoded and its scores are made."""
    monkeypatch.setattr("dix.bench.run.worker.elsewhere", elsewhere)
    began: list[object] = []
    monkeypatch.setattr(Reveal, "begin", lambda probe, case: began.append(case))
    second = Noting(factor=-1.0, done=done)
    scored(tmp_path, 2, {"first": Noting(done=done), "second": second}, batch_size=8)
    assert second.events == [40]
    assert not began


@pytest.mark.parametrize("what", ["images", "images past the counter", "weights past the counter", "hook", "targets"])
@pytest.mark.parametrize("workers", [0, 2])
def test_scores_that_wait_for_workers_are_safe_from_the_next_method(
    what: str, workers: int, tmp_path: Path, done: list[Any]
) -> None:
    assert what in TRICKS
    _, expected = scored(tmp_path / "alone", 0, {"a": parts.Brightness()})
    outcome, rows = scored(tmp_path / "both", workers, {"a": parts.Brightness(), "hostile": Hostile(what=what)})
    assert list(outcome.failed) == ["hostile"]
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


def test_a_probe_that_cannot_begin_gives_its_rows_later(
    tmp_path: Path, done: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(_probe: Probe, _case: Case) -> None:
        raise RuntimeError("made to fail")

    monkeypatch.setattr(Reveal, "begin", begin)
    _, expected = scored(tmp_path / "alone", 0, {"a": parts.Brightness()})
    outcome, rows = scored(tmp_path / "pool", 2, {"a": parts.Brightness()})
    assert not outcome.failed
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)
