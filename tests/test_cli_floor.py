"""Passes are counted as they run, and a run's end says how it compares with what they alone would cost."""

from __future__ import annotations

import copy
import dataclasses
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from support import engine_jobs as parts
from support.small_networks import pixels, small_cnn
from torch import nn

from dix.baselines.controls import Random
from dix.bench.run import meter
from dix.bench.run.evaluate import evaluate
from dix.bench.run.outcome import Outcome
from dix.bench.run.speed import flops, forward_flops
from dix.bench.run.workers import Workers
from dix.bench.store.results import ResultStore
from dix.cli.floor import _encoding, floor_of
from dix.explainer import Dix
from dix.metrics.information import Aic, Sic
from dix.passes import Passes


def test_passes_are_those_that_counting_every_operation_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against operations counted one by one: whole passes there and back, tails of the network, and copies of it."""
    monkeypatch.setattr(meter, "LEAST_WEIGHTS", 1)
    classifier = small_cnn("resnet")
    images, whole = pixels(2), forward_flops(classifier, pixels(1))

    def work() -> None:
        with torch.no_grad():
            classifier.logits(images)
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(classifier.logits(leaf).sum(), leaf)
        Dix(depth=2).explain(Passes(classifier, images))
        copy.deepcopy(classifier.network)(images)

    work()  # tails are recorded once
    expected = flops(work) / whole
    before = [dict(module._forward_hooks) for module in classifier.network.modules()]
    with meter.counting(classifier) as counted:
        work()
    assert counted.passes == pytest.approx(expected, rel=0.02)
    assert 0 < counted.fastest < 10
    assert [dict(module._forward_hooks) for module in classifier.network.modules()] == before


def test_small_networks_and_those_that_hooks_would_change_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    small, other = small_cnn("resnet"), small_cnn("resnet")
    other.network.encoder = nn.TransformerEncoderLayer(8, 2)
    for classifier, least in ((small, 10**9), (other, 1)):
        monkeypatch.setattr(meter, "LEAST_WEIGHTS", least)
        with meter.counting(classifier) as counted:
            classifier.logits(pixels(1))
        assert (counted.passes, counted.fastest) == (0, float("inf"))


def test_a_network_that_fails_on_a_black_image_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "LEAST_WEIGHTS", 1)
    classifier = small_cnn("resnet")

    def refuse(_module: nn.Module, given: tuple[torch.Tensor]) -> None:
        if bool(given[0][0, 0].min() == given[0][0, 0].max()):
            raise RuntimeError("an even image")

    hook = classifier.network.register_forward_pre_hook(refuse)
    with meter.counting(classifier) as counted:
        classifier.logits(pixels(1))
    hook.remove()
    assert counted.passes == 0


def test_files_that_all_maps_of_an_image_share_count_once(tmp_path: Path) -> None:
    """2 images: of each a blurred and a whole file, and one for each of 3 thresholds and 2 methods' maps."""
    methods = {"one": parts.Brightness(), "other": Random()}
    thresholds = (0.1, 0.3, 0.6)
    metrics = {"sic": Sic(thresholds), "aic": Aic(thresholds)}
    made = dataclasses.replace(parts.job(methods=methods, limit=2), metrics=metrics)
    outcome = evaluate(made, ResultStore(tmp_path))
    assert outcome.files == 2 * (2 + 3 * 2)


def test_a_run_is_compared_with_its_passes_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 passes of 0.2 s and 400 files of 0.1 s on two cores cost 40 s; the run took 50."""
    outcome = Outcome(passes=100.0, pass_seconds=0.2, files=400)
    monkeypatch.setattr("dix.cli.floor._encoding", lambda jobs: 0.1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = floor_of([parts.job()], [outcome, Outcome()], 50.0)
    assert found is not None
    assert found.times == pytest.approx(1.25)
    assert str(found).startswith("took 50 s, 1.25 times what its 100 passes (200.0 ms each) and 400 encoded files (100")
    assert "busy" not in str(found)
    assert floor_of([parts.job()], [outcome], 10.0) is None
    assert floor_of([parts.job()], [Outcome()], 100.0) is None


def test_the_encoder_is_timed_on_the_runs_own_images() -> None:
    assert _encoding([dataclasses.replace(parts.job(), metrics={"sic": Sic((0.1, 0.5))})]) > 0
    assert _encoding([parts.job()]) == 0


def test_workers_are_as_busy_as_they_had_work_while_files_were_encoded() -> None:
    """One of two workers had work for all of 8 s in which there was any, the other for 4: 12 of 16 worker-seconds."""
    made = dataclasses.replace(parts.job(workers=2), metrics={"sic": Sic((0.1, 0.5))})
    outcome = Outcome(passes=100.0, pass_seconds=0.2, files=9, worker_seconds=12.0, working_seconds=8.0)
    found = floor_of([made], [outcome], 50.0)
    assert found is not None
    assert str(found).endswith("; while files were encoded, its workers were 75% busy")


def test_work_of_the_workers_is_counted_from_submission_to_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tasks for two workers at 10 s, done at 12, 13 and 15 s: 2 * 2 + 2 * 1 + 1 * 2 worker-seconds in 5 s."""
    clock = iter([0.0, 10.0, 10.0, 10.0, 12.0, 13.0, 15.0, 100.0, 100.0])
    futures = [Future[int]() for _ in range(3)]
    waiting = iter(futures)
    monkeypatch.setattr("dix.bench.run.workers.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(ProcessPoolExecutor, "submit", lambda *_: next(waiting))
    pool = Workers(2)
    for _ in range(3):
        pool.submit(abs, -1)
    for future in futures:
        future.set_result(1)
    assert pool.seconds == 8.0
    assert pool.open == 5.0
