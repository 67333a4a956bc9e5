"""Several protocols in one run: rows of separate runs, bit for bit, and what is equal computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import engine_jobs as parts

from dix.baselines.controls import Random
from dix.bench.run.evaluate import evaluate, evaluate_together
from dix.bench.run.job import Job
from dix.bench.run.settings import ScoreProtocol
from dix.bench.store.results import ResultStore
from dix.datasets.api import Record
from dix.metrics.confidence import Adp, Pic
from dix.metrics.faithfulness import Del, Ins, Neg, Pos
from dix.metrics.options import Fill, ScoreClass
from dix.passes import Passes

LEVELS = sum(fraction > 0 for fraction in parts.FRACTIONS)


@dataclass(frozen=True)
class Counting(parts.Brightness):
    """Brightness in small maps that notes every image it is asked about."""

    seen: list[str] = field(default_factory=list, compare=False)

    def explain(self, passes: Passes) -> torch.Tensor:
        """[B, H / 2, W / 2], brighter for class 1, so that another class means another map."""
        self.seen.extend(passes.ids)
        return super().explain(passes)[:, ::2, ::2] * (1 + passes.targets.view(-1, 1, 1))


def metrics(fill: Fill, which: ScoreClass) -> Mapping[str, object]:
    """Six metrics that read one class."""
    hit = "label" if which == "label" else "predicted"
    return {
        "neg": Neg(parts.FRACTIONS, fill=fill, hit=hit),  # type: ignore[arg-type]
        "pos": Pos(parts.FRACTIONS, fill=fill, hit=hit),  # type: ignore[arg-type]
        "ins": Ins(parts.FRACTIONS, fill=fill, score_class=which),
        "deletion": Del(parts.FRACTIONS, fill=fill, score_class=which),
        "adp": Adp(soft_fill=fill, score_class=which),
        "pic": Pic(soft_fill=fill, score_class=which),
    }


def jobs(*wanted: str, **run: object) -> list[Job]:
    """Jobs that share everything but their protocols, among them one with wrong labels to explain and one resize."""
    base = parts.job(methods={"counting": Counting(), "random": Random()}, dataset=Mislabelled(), **run)  # type: ignore[arg-type]
    known = {
        "thesis": (ScoreProtocol(name="thesis"), metrics("black", "predicted")),
        "ltx": (ScoreProtocol(name="ltx"), metrics("black", "label")),
        "bee": (ScoreProtocol(name="bee"), metrics("mean", "predicted")),
        "label": (ScoreProtocol(name="label", target="label", unlabelled="drop"), metrics("black", "label")),
        "cubic": (ScoreProtocol(name="cubic", map_resize="bicubic"), metrics("black", "predicted")),
    }
    return [dataclasses.replace(base, protocol=known[name][0], metrics=known[name][1]) for name in wanted]


@dataclass(frozen=True)
class Mislabelled(parts.Made):
    """The made images, of which the last batch's first has the wrong label and the last none."""

    def read(self, index: int) -> Record:
        """Image `index`."""
        found = super().read(index)
        label = {6: 1, 7: None}.get(index, index % 2)
        return dataclasses.replace(found, label=label)


@contextmanager
def forwards(job: Job) -> Iterator[list[int]]:
    """The rows of every pass through the network."""
    seen: list[int] = []

    def count(_module: object, arguments: tuple[torch.Tensor]) -> None:
        seen.append(len(arguments[0]))

    with job.classifier.network.register_forward_pre_hook(count):
        yield seen


def rows(folder: Path) -> pd.DataFrame:
    """The stored rows in one order, without what computed them."""
    found = ResultStore(folder).rows().sort_values(["protocol", "method", "metric", "image"], ignore_index=True)
    return found.drop(columns=[name for name in ("origin",) if name in found])


def assert_same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """The same rows with the same bits."""
    plain = [name for name in first if name not in ("curve", "parts")]
    pd.testing.assert_frame_equal(first[plain], second[plain], check_exact=True)
    for name in ("curve", "parts"):
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first[name], second[name], strict=True))


ALL = ("thesis", "ltx", "bee", "label", "cubic")


def test_rows_are_those_of_separate_jobs_bit_for_bit(tmp_path: Path) -> None:
    for name in ALL:
        evaluate(jobs(name)[0], ResultStore(tmp_path / "apart"))
    evaluate_together(jobs(*ALL), ResultStore(tmp_path / "together"))
    assert len(rows(tmp_path / "apart")) == 5 * 2 * 6 * 8
    assert_same(rows(tmp_path / "apart"), rows(tmp_path / "together"))


def test_equal_probes_are_asked_once_and_maps_made_once(tmp_path: Path) -> None:
    made = jobs("thesis", "ltx", "bee")
    with forwards(made[0]) as seen:
        outcomes = evaluate_together(made, ResultStore(tmp_path))
    one = 8 * 2 * (2 * LEVELS + 1)  # images, methods, two orders of masking and the soft mask
    assert [outcome.forwards for outcome in outcomes] == [one, 0, one]  # ltx reads what thesis asked
    assert sum(seen) == 8 + 2 * one  # one clean pass
    assert len(made[0].methods["counting"].seen) == 8  # type: ignore[attr-defined]


def test_a_job_of_one_protocol_makes_the_passes_it_always_made(tmp_path: Path) -> None:
    [single] = jobs("thesis", chunk=32)
    with forwards(single) as seen:
        evaluate(single, ResultStore(tmp_path))
    # batches of 3, 3 and 2; each method asks for its levels by order, then for the soft mask
    assert sorted(seen) == sorted([n for b in (3, 3, 2) for n in (b, *[b * LEVELS, b * LEVELS, b] * 2)])


def test_maps_are_shared_where_a_batch_has_the_same_classes_and_made_once_for_every_resize(tmp_path: Path) -> None:
    made = jobs("thesis", "label", "cubic")
    evaluate_together(made, ResultStore(tmp_path))
    # the last batch holds a wrong label and an image without one, so its other image is explained anew
    assert len(made[0].methods["counting"].seen) == 8 + 1  # type: ignore[attr-defined]


def test_a_run_goes_on_where_one_protocol_was_computed_alone(tmp_path: Path) -> None:
    evaluate_together(jobs(*ALL), ResultStore(tmp_path / "together"))
    evaluate(jobs("ltx")[0], ResultStore(tmp_path / "resumed"))
    outcomes = evaluate_together(jobs(*ALL), ResultStore(tmp_path / "resumed"))
    assert [outcome.rows for outcome in outcomes] == [96, 0, 96, 96, 96]
    assert_same(rows(tmp_path / "together"), rows(tmp_path / "resumed"))


def test_shards_of_several_protocols_give_the_rows_of_one_run(tmp_path: Path) -> None:
    evaluate_together(jobs(*ALL), ResultStore(tmp_path / "whole"))
    for part in (1, 0):
        evaluate_together(jobs(*ALL, shard=[part, 2]), ResultStore(tmp_path / "parts"))
    assert_same(rows(tmp_path / "whole"), rows(tmp_path / "parts"))


def test_a_method_that_fails_fails_under_every_protocol_and_no_other_method_does(tmp_path: Path) -> None:
    made = jobs("thesis", "ltx")
    broken = [dataclasses.replace(job, methods={**job.methods, "failing": parts.Failing()}) for job in made]
    broken[1] = dataclasses.replace(broken[1], methods=broken[0].methods)
    outcomes = evaluate_together(broken, ResultStore(tmp_path))
    assert [set(outcome.failed) for outcome in outcomes] == [{"failing"}, {"failing"}]
    assert {record["protocol"] for record in ResultStore(tmp_path).read_json("failures")} == {"thesis", "ltx"}
    assert set(rows(tmp_path)["method"]) == {"counting", "random", "failing"}  # on the batches without the image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float64"}, r"protocol\.dtype: expected one value .* 'float32' in thesis and 'float64' in other"),
        ({"antialias": False}, r"protocol\.antialias"),
        ({"name": "thesis"}, r"protocol\.name: .* 'thesis' more than once"),
    ],
)
def test_what_cannot_share_a_run_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    first, second = jobs("thesis", "ltx")
    other = dataclasses.replace(second.protocol, **{"name": "other", **change})
    with pytest.raises(ValueError, match=message):
        evaluate_together([first, dataclasses.replace(second, protocol=other)], ResultStore(tmp_path))


def test_other_methods_cannot_share_a_run(tmp_path: Path) -> None:
    first, second = jobs("thesis", "ltx")
    chosen: Sequence[Job] = [first, dataclasses.replace(second, methods={"random": Random(label="other")})]
    with pytest.raises(ValueError, match="method: expected the same for all protocols of a job"):
        evaluate_together(chosen, ResultStore(tmp_path))
