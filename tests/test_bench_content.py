"""Rows are about the images they were computed from, and a network that does not answer gets no score."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import torch
from PIL import Image
from support import engine_jobs as parts
from torch import Tensor

from dix.baselines.controls import Ones
from dix.bench.run import checks
from dix.bench.run.evaluate import evaluate
from dix.bench.run.scorer import ABSURD, NOT_FINITE, UNEXPLAINED, settled
from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.store.errors import StaleResults
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.datasets.api import Record
from dix.maps import Resize
from dix.metrics import options
from dix.metrics.api import Scores


@dataclass(frozen=True)
class Painted(parts.Made):
    """The made images, of which one is grey."""

    grey: int = -1

    def read(self, index: int) -> Record:
        """Another picture under the same name and size."""
        record = super().read(index)
        if index != self.grey:
            return record
        return dataclasses.replace(record, image=Image.new("RGB", record.image.size, (90, 90, 90)))


def test_a_changed_image_is_refused_by_name_and_nothing_is_lost(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    evaluate(parts.job(dataset=Painted()), store)
    before = store.rows()
    with pytest.raises(StaleResults, match="image4 has changed since its rows"):
        evaluate(parts.job(dataset=Painted(grey=4)), ResultStore(tmp_path))
    assert ResultStore(tmp_path).rows().equals(before)
    assert evaluate(parts.job(dataset=Painted()), ResultStore(tmp_path)).images == 0  # the old files are back


def test_a_changed_image_is_not_mixed_when_a_method_is_added(tmp_path: Path) -> None:
    evaluate(parts.job({"ones": Ones()}, Painted()), ResultStore(tmp_path))
    both = {"ones": Ones(), "brightness": parts.Brightness()}
    with pytest.raises(StaleResults, match="image0"):
        evaluate(parts.job(both, Painted(grey=0)), ResultStore(tmp_path))
    assert set(ResultStore(tmp_path).rows()["method"]) == {"ones"}


def test_images_are_checked_as_the_grid_is_walked(tmp_path: Path) -> None:
    """What lies before the changed image is computed: no full pass over the images comes first."""
    evaluate(parts.job({"ones": Ones()}, Painted()), ResultStore(tmp_path))
    both = {"ones": Ones(), "brightness": parts.Brightness()}
    with pytest.raises(StaleResults, match="image7"):
        evaluate(parts.job(both, Painted(grey=7)), ResultStore(tmp_path))
    rows = ResultStore(tmp_path).rows()
    assert set(rows[rows["method"] == "brightness"]["image"]) == {f"image{i}" for i in range(6)}


def test_rows_carry_what_they_were_computed_from_and_by(tmp_path: Path) -> None:
    evaluate(parts.job(batch_size=3), ResultStore(tmp_path))
    rows = ResultStore(tmp_path).rows()
    assert rows.groupby("image")["content"].nunique().eq(1).all()
    assert rows["content"].nunique() == 8
    [origin] = set(rows["origin"])
    record = ResultStore(tmp_path).json("origins", origin)
    assert record is not None
    assert (record["batch_size"], record["threads"]) == (3, torch.get_num_threads())
    evaluate(parts.job(dataset=parts.Made(9), batch_size=2), ResultStore(tmp_path / "other"))
    assert set(ResultStore(tmp_path / "other").rows()["origin"]) != {origin}


class Silent(parts.TwoHalves):
    """Gives NaN or infinite logits: always, for unmasked images that are brighter on the left, or for masked ones."""

    def __init__(self, when: str, what: float) -> None:
        super().__init__()
        self.when = when
        self.what = what

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, 2]."""
        logits = super().forward(images)
        masked = (images == 0).flatten(1).any(dim=1)
        silent = {
            "always": torch.ones(len(images), dtype=torch.bool),
            "left": (logits[:, 0] > logits[:, 1]) & ~masked,
            "masked": masked,
        }[self.when]
        return logits.masked_fill(silent[:, None] & torch.tensor([True, False]), self.what)


def silent(when: str, what: float = math.nan) -> Classifier:
    made = parts.classifier()
    made.network = Silent(when, what).eval().requires_grad_(False)
    return made


@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
def test_images_without_an_answer_are_excluded_by_reason(what: float, tmp_path: Path) -> None:
    outcome = evaluate(parts.job(model=silent("left", what)), ResultStore(tmp_path))
    rows = ResultStore(tmp_path).rows()
    even = {f"image{i}" for i in range(0, 8, 2)}
    out = rows[rows["image"].isin(even)]
    assert len(rows) == 8 * 3 * 4
    assert out["value"].isna().all()
    assert set(out["reason"]) == {"the network's logits are not finite"}
    assert set(outcome.silent) == even
    assert even.isdisjoint(outcome.right)  # nothing is claimed about them
    assert outcome.trouble == ""


def test_the_others_have_the_scores_of_a_network_that_always_answers(tmp_path: Path) -> None:
    evaluate(parts.job(model=silent("left"), batch_size=1), ResultStore(tmp_path / "a"))
    evaluate(parts.job(batch_size=1), ResultStore(tmp_path / "b"))
    key = ["method", "metric", "image"]
    some, whole = (ResultStore(tmp_path / name).rows().set_index(key)["value"] for name in ("a", "b"))
    answered = some[some.notna()]
    assert len(answered) == 4 * 3 * 4
    pd.testing.assert_series_equal(answered, whole.loc[answered.index], check_exact=True)


@pytest.mark.parametrize("when", ["always", "masked"])
def test_a_network_that_never_answers_is_trouble_now_and_later(when: str, tmp_path: Path) -> None:
    first = evaluate(parts.job(model=silent(when)), ResultStore(tmp_path))
    assert "all 8 images are excluded: the network's logits are not finite" in first.trouble
    rows = ResultStore(tmp_path).rows()
    assert rows["value"].isna().all()
    assert rows["reason"].str.startswith("the network's logits are not finite").all()
    second = evaluate(parts.job(model=silent(when)), ResultStore(tmp_path))
    assert (second.images, second.trouble) == (0, first.trouble)


def test_a_job_whose_every_method_is_skipped_says_so(tmp_path: Path) -> None:
    outcome = evaluate(parts.job({"no": parts.Impossible()}), ResultStore(tmp_path))
    assert outcome.trouble == ("nothing can be computed, every method was skipped (no: needs what this model has not)")


def scores(value: float, parts: list[float], curve: list[float], reason: str = "") -> Scores:
    return Scores(torch.tensor([value], dtype=torch.float64), torch.tensor([parts]), torch.tensor([curve]), [reason])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (scores(math.nan, [], []), UNEXPLAINED),
        (scores(math.inf, [], []), "the metric gives inf, which is no score"),
        (scores(-1e30, [], []), "the metric gives -1e+30, which is no score"),
        (scores(5.0, [math.nan], []), NOT_FINITE),
        (scores(5.0, [], [1.0, math.inf]), NOT_FINITE),
        (scores(5.0, [1.0], [2.0], "left out"), "left out"),
        (scores(math.nan, [1.0], [math.nan], "left out"), "left out"),
    ],
)
def test_what_is_no_score_has_a_reason(given: Scores, reason: str) -> None:
    [one] = settled(given, [""])
    assert math.isnan(one.value)
    assert one.reason == reason


def test_what_is_a_score_has_none() -> None:
    [one] = settled(scores(-ABSURD / 2, [1.0], [2.0]), [""])
    assert (one.value, one.reason, list(one.parts), list(one.curve)) == (-ABSURD / 2, "", [1.0], [2.0])
    [out] = settled(scores(5.0, [1.0], [2.0]), ["excluded"])
    assert (math.isnan(out.value), out.reason, out.parts) == (True, "excluded", ())


def test_a_metric_that_does_not_score_every_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected value \[2\]"):
        settled(scores(1.0, [], []), ["", ""])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": -1}, "run.threads: expected an integer of at least 0, got -1"),
        ({"workers": -1}, "run.workers: expected an integer of at least 0, got -1"),
        ({"gallery": -1}, "run.gallery: expected an integer of at least 0, got -1"),
        ({"limit": 0}, "run.limit: expected an integer of at least 1, got 0"),
        ({"flush_seconds": -1.0}, "run.flush_seconds: expected a number of at least 0, got -1.0"),
        ({"flush_seconds": math.nan}, "run.flush_seconds: expected a number"),
        ({"shard": [0]}, r"run.shard: expected \[i, n\] with 0 <= i < n, got \[0\]"),
        ({"shard": [0, 1, 2]}, r"run.shard: expected \[i, n\]"),
        ({"on_error": "ignore"}, "run.on_error: expected one of stop, skip, got 'ignore'"),
    ],
)
def test_settings_of_a_run_that_make_no_sense_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parts.job(**settings)


@pytest.mark.parametrize("key", checks.PROTOCOL)
def test_unknown_choices_of_a_protocol_are_named(key: str) -> None:
    with pytest.raises(ValueError, match=rf"protocol\.{key}: expected one of .*, got 'no such'"):
        dataclasses.replace(parts.job(), protocol=parts.protocol(**{key: "no such"}))


def test_the_choices_are_those_of_the_code_that_reads_them() -> None:
    read = {
        "hit": options.Hit,
        "auc": options.Auc,
        "fill": options.Removal,
        "soft_fill": options.Fill,
        "score_class": options.ScoreClass,
        "constant_maps": options.ConstantMaps,
        "nan_maps": options.NanMaps,
        "segmentation_maps": options.NanMaps,
        "start_mask": options.StartMask,
        "sic_output": options.Output,
        "sic_input": options.Input,
        "ties": options.Ties,
        "schedule": options.Schedule,
        "void": options.Void,
        "reveal": options.Revealed,
        "aggregate": options.Aggregate,
        "map_resize": Resize,
    }
    assert {key: set(checks.PROTOCOL[key]) for key in read} == {key: set(get_args(kind)) for key, kind in read.items()}
    texts = {field.name for field in dataclasses.fields(ScoreProtocol) if field.type == "str"} - {"name"}
    assert texts <= set(checks.PROTOCOL)  # no choice goes unchecked
    numbers = {field.name for field in dataclasses.fields(Run) if field.type in ("int", "float", "int | None")}
    assert numbers - {"alpha"} <= set(checks.LEAST)  # a probability has two ends, and a check of its own


def test_nothing_to_compute_is_said(tmp_path: Path) -> None:
    nothing = dataclasses.replace(parts.job(), methods={})
    with pytest.raises(ValueError, match="method: expected at least one, got none"):
        evaluate(nothing, ResultStore(tmp_path))
    unmeasured = dataclasses.replace(parts.job(), metrics={})
    with pytest.raises(ValueError, match=r"metric: expected at least one, or run\.gallery above 0"):
        evaluate(unmeasured, ResultStore(tmp_path))
