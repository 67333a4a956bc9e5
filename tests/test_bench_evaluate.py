"""The engine: every row once, the same bits however a run is cut, and failures that stay failures."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from support import engine_jobs as parts

from dix.baselines.controls import Ones, Random
from dix.bench.run import runtime
from dix.bench.run.batch import predict, prepare
from dix.bench.run.evaluate import evaluate
from dix.bench.store.errors import StaleResults
from dix.bench.store.results import ResultStore
from dix.datasets.api import CorruptSample
from dix.datasets.loader import load
from dix.identity import describe
from dix.metrics.faithfulness import Neg

COLUMNS = ["model", "dataset", "method", "metric", "protocol", "image", "value", "reason", "note"]


def run(folder: Path, **run: object) -> pd.DataFrame:
    evaluate(parts.job(**run), ResultStore(folder))
    return ResultStore(folder).rows()


def same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """The same rows with the same bits."""
    curves = [np.array_equal(a, b) for a, b in zip(first["curve"], second["curve"], strict=True)]
    return first[COLUMNS].equals(second[COLUMNS]) and all(curves)


def test_every_image_method_and_metric_has_one_row(tmp_path: Path) -> None:
    rows = run(tmp_path)
    assert len(rows) == 8 * 3 * 4
    assert not rows.duplicated(["method", "metric", "image"]).any()


@pytest.mark.numeric
def test_scores_follow_by_hand(tmp_path: Path) -> None:
    """Brightness masks the darker half first, so the decision survives until nothing of the bright half is left."""
    rows = run(tmp_path).set_index(["method", "metric", "image"])["value"].sort_index()
    # hits at 0, .25, .5, .75 masked: least first always 1; trapezoid over [0, .75] times 100
    assert (rows["brightness", "neg"] == 75).all()
    # most first: the bright half is gone at .5 and .75 (misses); at .25 its mean is near the dark half's: hit or miss
    assert set(rows["brightness", "pos"]) <= {100 * 0.25 * 0.5, 100 * 0.25 * 1.5}


def test_progress_is_told_at_once_and_within_a_batch(tmp_path: Path) -> None:
    told: list[tuple[float, int]] = []
    job = parts.job(batch_size=4)
    evaluate(job, ResultStore(tmp_path), lambda done, total: told.append((done, total)))
    share = 1 / len(job.methods)
    inside = [batch + share * method for batch in (0, 1) for method in range(1, len(job.methods) + 1)]
    assert [done for done, _ in told] == pytest.approx([0, *inside[:3], 1, *inside[3:], 2])
    assert {total for _, total in told} == {2}


def test_an_outputs_name_is_the_data_sets_or_the_networks() -> None:
    job = parts.job()
    assert job.dataset.label_space == job.classifier.label_space == "imagenet"
    assert job.class_name(1) == job.dataset.class_names.get(1, "goldfish")
    elsewhere = dataclasses.replace(job, dataset=parts.Made(label_space=None))
    assert elsewhere.class_name(1) == "goldfish"  # ImageNet's class 1, whatever a folder's own labels mean


def test_four_metrics_cost_two_probes(tmp_path: Path) -> None:
    seen = 0
    job = parts.job(methods={"random": Random()})

    def count(_module: object, arguments: tuple[torch.Tensor]) -> None:
        nonlocal seen
        seen += len(arguments[0])

    with job.classifier.network.register_forward_pre_hook(count):
        outcome = evaluate(job, ResultStore(tmp_path))
    masked_levels = sum(fraction > 0 for fraction in parts.FRACTIONS)
    assert outcome.forwards == 8 * 2 * masked_levels
    assert seen == outcome.forwards + 8  # and one clean forward an image


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    outcome = evaluate(parts.job(), ResultStore(tmp_path))
    assert (outcome.images, outcome.rows, outcome.forwards) == (0, 0, 0)
    assert same(first, ResultStore(tmp_path).rows())


def test_any_shards_in_any_order_give_the_rows_of_one_run(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    for part in (2, 0, 1):
        run(tmp_path / "parts", shard=[part, 3])
    assert same(whole, ResultStore(tmp_path / "parts").rows())


def test_a_run_that_stops_half_way_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    broken = parts.job(methods={"brightness": parts.Brightness(), "random": Random(), "ones": Ones()})

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(broken, ResultStore(tmp_path / "resumed"), stop)
    partial = ResultStore(tmp_path / "resumed").rows()
    assert 0 < len(partial) < len(whole)
    assert same(whole, run(tmp_path / "resumed"))


def test_adding_a_method_computes_only_that_method(tmp_path: Path) -> None:
    evaluate(parts.job(methods={"random": Random()}), ResultStore(tmp_path))
    outcome = evaluate(parts.job(methods={"random": Random(), "brightness": parts.Brightness()}), ResultStore(tmp_path))
    assert outcome.rows == 8 * 4
    assert set(ResultStore(tmp_path).rows()["method"]) == {"random", "brightness"}


@pytest.mark.numeric
@pytest.mark.parametrize("run_settings", [{"batch_size": 1}, {"batch_size": 8}, {"chunk": 1}, {"chunk": 5}])
def test_batch_size_and_chunk_change_no_score(tmp_path: Path, run_settings: dict[str, int]) -> None:
    whole, other = run(tmp_path / "a"), run(tmp_path / "b", **run_settings)
    assert whole[["method", "metric", "image"]].equals(other[["method", "metric", "image"]])
    # Logits of up to 10 carry some 10 roundings of a sum of 96 terms, a probability a quarter of their error, a score
    # 100 times that: 1.5e-4. A masked pixel or a decision that differed would be worth a tenth at least.
    np.testing.assert_allclose(other["value"], whole["value"], rtol=0, atol=1e-3)


def test_the_identity_knows_what_defines_a_score_and_nothing_else() -> None:
    def digests(job: object) -> set[str]:
        return {cell.digest for cell in job.cells().values()}  # type: ignore[attr-defined]

    base = digests(parts.job())
    assert digests(parts.job(batch_size=1, chunk=2, shard=[1, 2], workers=2, device="cpu", limit=3)) == base
    changed = {
        "dataset": parts.job(dataset=parts.Made(salt="other")),
        "protocol": dataclasses.replace(parts.job(), protocol=parts.protocol(seed=1)),
        "metric": dataclasses.replace(parts.job(), metrics={"neg": Neg((0.0, 0.5))}),
        "method": parts.job(methods={"random": Random(label="x"), "brightness": parts.NotFinite()}),
    }
    other_weights = parts.classifier()
    other_weights.network.scale.add_(1)
    changed["weights"] = parts.job(model=other_weights)
    unchanged = {name for name, job in changed.items() if name != "method" and digests(job) & base}
    assert not unchanged
    method = changed["method"].cells()
    assert method["random", "neg"].digest in base  # a label is only printed
    assert method["brightness", "neg"].digest not in base


def test_describe_refuses_what_it_cannot_tell_apart() -> None:
    with pytest.raises(ValueError, match="expected a dataclass"):
        describe(object())


def test_stale_results_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(StaleResults, match="seed: stored 0, wanted 7"):
        evaluate(dataclasses.replace(parts.job(), protocol=parts.protocol(seed=7)), ResultStore(tmp_path))
    assert len(ResultStore(tmp_path).rows()) == 8 * 3 * 4


def test_a_failing_method_stops_nobody_and_never_counts_as_done(tmp_path: Path) -> None:
    methods = {"failing": parts.Failing(), "random": Random()}
    outcome = evaluate(parts.job(methods=methods), ResultStore(tmp_path))
    assert outcome.failed == {"failing": "RuntimeError: made to fail"}
    rows = ResultStore(tmp_path).rows()
    assert len(rows[rows["method"] == "random"]) == 8 * 4
    assert sorted(set(rows[rows["method"] == "failing"]["image"])) == ["image0", "image1", "image2", "image6", "image7"]
    [record] = ResultStore(tmp_path).read_json("failures")
    assert record["images"] == ["image3", "image4", "image5"]

    mended = {"failing": parts.Failing(image="none"), "random": Random()}
    with pytest.raises(StaleResults):  # its hyper-parameter is part of its identity
        evaluate(parts.job(methods=mended, only="failed"), ResultStore(tmp_path))


def test_only_failed_runs_just_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {"failing": parts.Failing(), "random": Random()}
    evaluate(parts.job(methods=methods), ResultStore(tmp_path))
    monkeypatch.setattr(parts.Failing, "explain", parts.Brightness.explain)
    outcome = evaluate(parts.job(methods=methods, only="failed"), ResultStore(tmp_path))
    assert (outcome.images, outcome.rows) == (3, 3 * 4)
    assert ResultStore(tmp_path).read_json("failures") == []


def test_a_map_that_is_not_finite_is_excluded_by_reason(tmp_path: Path) -> None:
    evaluate(parts.job(methods={"nan": parts.NotFinite()}), ResultStore(tmp_path))
    rows = ResultStore(tmp_path).rows()
    broken = rows[rows["image"] == "image2"]
    assert broken["value"].isna().all()
    assert set(broken["reason"]) == {"map is not finite"}
    assert rows[rows["image"] != "image2"]["value"].notna().all()


def test_constant_maps_are_noted(tmp_path: Path) -> None:
    rows = run(tmp_path)
    assert set(rows[rows["method"] == "ones"]["note"]) == {"constant map"}
    assert set(rows[rows["method"] == "random"]["note"]) == {""}


def test_an_impossible_method_is_a_skip_with_its_reason(tmp_path: Path) -> None:
    outcome = evaluate(parts.job(methods={"no": parts.Impossible(), "random": Random()}), ResultStore(tmp_path))
    assert outcome.skipped == {"no": "needs what this model has not"}
    [skip] = ResultStore(tmp_path).read_json("skips")
    assert (skip["method"], skip["reason"]) == ("no", "needs what this model has not")


def test_unreadable_images_stop_the_run_or_are_left_out_by_name(tmp_path: Path) -> None:
    broken = parts.Made(broken=(4,))
    with pytest.raises(CorruptSample, match="image4: made to be unreadable"):
        evaluate(parts.job(dataset=broken), ResultStore(tmp_path / "stop"))
    outcome = evaluate(parts.job(dataset=broken, on_error="skip"), ResultStore(tmp_path / "skip"))
    assert outcome.unread == {"image4": "image4: made to be unreadable"}
    assert ResultStore(tmp_path / "skip").read_json("unread")[0]["images"] == {
        "image4": "image4: made to be unreadable"
    }
    assert len(ResultStore(tmp_path / "skip").rows()) == 7 * 3 * 4


@pytest.mark.parametrize(
    ("threads", "limit", "given", "rows"),
    [(1, 10**9, 0, 8), (2, 10**9, 0, 32), (1, 10**9, 5, 5), (2, 1, 0, 8), (2, 1, 16, 16)],
)
def test_a_single_thread_and_large_networks_take_small_chunks(
    threads: int, limit: int, given: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """limit: bytes of weights from which a network is large; this one has some."""
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr(runtime, "LARGE_NETWORK", limit)
    assert parts.job(chunk=given).chunk == rows


@pytest.mark.parametrize(
    ("name", "large"),
    [("resnet101", True), ("convnext_base", True), ("densenet201", True), ("vit_b_16", True), ("mobilenet_v2", False)],
)
def test_which_networks_are_large(name: str, large: bool) -> None:
    with torch.device("meta"):
        assert runtime.is_large(getattr(torchvision.models, name)()) == large


def test_deterministic_runs_refuse_other_algorithms() -> None:
    try:
        runtime.configure(0, tf32=False, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        runtime.configure(0, tf32=False, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "run.batch_size: expected an integer of at least 1, got 0"),
        ({"chunk": -1}, "run.chunk: expected an integer of at least 0, got -1"),
        ({"shard": [2, 2]}, r"run.shard: expected \[i, n\] with 0 <= i < n, got \[2, 2\]"),
        ({"only": "some"}, "run.only: expected one of all, failed"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parts.job(**settings)


def test_a_killed_process_leaves_a_store_that_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL while rows are being stored, several times, then one clean run."""
    script = textwrap.dedent("""
        import sys, time
        import dix.models; from support import engine_jobs as parts
        from dix.bench.run.evaluate import evaluate
        from dix.bench.store.results import ResultStore
        evaluate(parts.job(batch_size=1), ResultStore(sys.argv[1]), lambda done, total: time.sleep(0.15))
    """)
    whole = run(tmp_path / "whole", batch_size=1)
    killed = tmp_path / "killed"
    for attempt in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(killed)], env=_environment(), stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while len(list(killed.rglob("part-*.parquet"))) < 2 * (attempt + 1) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
    partial = ResultStore(killed).rows()
    assert 0 < len(partial) < len(whole)
    assert same(whole, run(killed, batch_size=1))


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def test_clean_and_altered_probabilities_have_one_precision() -> None:
    """A network in bfloat16 must not be compared with itself in float32: ADP of an all-ones map is exactly 0."""
    job = parts.job()
    job.classifier.to("cpu", torch.bfloat16)
    prepared = prepare(job, load(job.dataset, job.preprocess, range(3)))
    batch = prepared.images
    again = predict(job.classifier, batch.images, batch.targets, chunk=8)
    logits = prepared.passes.logits.double().numpy()
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    by_hand = (weights / weights.sum(axis=1, keepdims=True))[np.arange(3), batch.targets.numpy()]
    assert batch.clean.probability.dtype == again.probability.dtype == torch.float32
    np.testing.assert_allclose(batch.clean.probability, by_hand, rtol=1e-6)
    assert torch.equal(batch.clean.probability, again.probability)
    # bfloat16 has steps of 2**-8 just below 1: the probabilities above do not lie on them
    assert not torch.equal(batch.clean.probability, batch.clean.probability.bfloat16().float())
