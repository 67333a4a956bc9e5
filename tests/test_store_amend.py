"""Taking cells out of a results folder, renaming a method in it, and its rows as a tidy table."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import engine_jobs as parts
from torch import Tensor

from dix.baselines.controls import Random
from dix.bench.run.evaluate import evaluate
from dix.bench.store import amend, clock
from dix.bench.store.results import ResultStore
from dix.bench.store.rows import Parts
from dix.bench.store.status import survey
from dix.cli import main
from dix.cli.report import plans_of
from dix.explainer import Explainer
from dix.passes import Passes

IMAGES = 8


#: Images that were explained, by the key of a method.
SEEN: Counter[int] = Counter()


@dataclass(frozen=True)
class Counted(parts.Brightness):
    """Brightness maps that count in SEEN."""

    key: int = 0

    def explain(self, passes: Passes) -> Tensor:
        """The maps."""
        SEEN[self.key] += len(passes.ids)
        return super().explain(passes)


def stored(folder: Path, **settings: Any) -> ResultStore:
    """A store of three methods, four metrics and eight images, the pictures of two of them."""
    store = ResultStore(folder)
    evaluate(parts.job(gallery=2, **settings), store)
    return store


def values(folder: Path, method: str, metric: str = "neg") -> list[float]:
    """What is stored of a cell, by image."""
    rows = ResultStore(folder).rows()
    own = rows[(rows["method"] == method) & (rows["metric"] == metric)].sort_values("image")
    return [float(value) for value in own["value"]]


def test_a_removed_method_leaves_no_row_no_record_and_no_picture(tmp_path: Path) -> None:
    stored(tmp_path)
    kept = values(tmp_path, "random"), values(tmp_path, "ones", "ins")
    assert len(list(tmp_path.rglob("brightness.png"))) == 2
    assert main(["clean", str(tmp_path), "--method", "brightness"]) == 0
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"brightness" not in left
    assert not list(tmp_path.rglob("brightness.png"))
    assert len(ResultStore(tmp_path).rows()) == 2 * 4 * IMAGES
    assert (values(tmp_path, "random"), values(tmp_path, "ones", "ins")) == kept
    status = survey(ResultStore(tmp_path))
    assert status.sound
    assert not status.incomplete
    assert status.total("expected") == 2 * 4 * IMAGES


def test_what_was_removed_is_computed_again_and_nothing_else(tmp_path: Path) -> None:
    methods: dict[str, Explainer] = {"first": Counted(key=1), "second": Counted(key=2)}
    stored(tmp_path, methods=methods)
    before = values(tmp_path, "first", "pos")
    assert main(["clean", str(tmp_path), "--method", "first", "--metric", "pos,ins"]) == 0
    assert values(tmp_path, "first", "pos") == []
    assert len(values(tmp_path, "first", "neg")) == IMAGES
    before_again = Counter(SEEN)
    stored(tmp_path, methods=methods)
    assert SEEN - before_again == {1: IMAGES}
    assert values(tmp_path, "first", "pos") == before


def test_a_dry_run_and_an_unknown_name_remove_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path)
    assert main(["clean", str(tmp_path), "--method", "ones", "--dry-run"]) == 0
    assert f"4 cells with {4 * IMAGES} rows would be removed" in capsys.readouterr().out
    assert main(["clean", str(tmp_path), "--method", "brightnes"]) == 1
    assert "did you mean 'brightness'?" in capsys.readouterr().err
    assert main(["clean", str(tmp_path)]) == 1
    assert "say what is to go" in capsys.readouterr().err
    assert len(ResultStore(tmp_path).rows()) == 3 * 4 * IMAGES


def test_the_last_cells_take_their_job_and_group_with_them(tmp_path: Path) -> None:
    store = stored(tmp_path)
    amend.remove(store, lambda cell: True)
    assert not ResultStore(tmp_path).cells()
    assert survey(store).sound
    assert [kind for kind in ("jobs", "clean", "cells", "failures") if store.read_json(kind)] == []


def test_a_renamed_method_keeps_its_rows_and_is_not_computed_again(tmp_path: Path) -> None:
    method = Counted(key=3)
    stored(tmp_path, methods={"old": method, "other": Random()})
    before, other = values(tmp_path, "old"), values(tmp_path, "other")
    assert main(["rename", str(tmp_path), "--method", "old=new", "--label", "New"]) == 0
    assert values(tmp_path, "new") == before
    assert values(tmp_path, "old") == []
    assert values(tmp_path, "other") == other
    assert {cell["printed"]["label"] for cell in ResultStore(tmp_path).cells() if cell["method"] == "new"} == {"New"}
    assert {path.stem for path in tmp_path.rglob("*.png")} == {"photo", "new", "other"}
    status = survey(ResultStore(tmp_path))
    assert status.sound
    assert not status.incomplete
    seen = SEEN[3]
    stored(tmp_path, methods={"new": method, "other": Random()})
    assert SEEN[3] == seen


def test_a_method_that_gets_a_configured_name_is_printed_as_that_name_is(tmp_path: Path) -> None:
    stored(tmp_path)
    assert main(["rename", str(tmp_path), "--method", "random=gc"]) == 0
    labels = {cell["method"]: cell["printed"]["label"] for cell in ResultStore(tmp_path).cells()}
    assert labels["gc"] == "GC"


def test_a_table_tells_two_methods_of_one_label_apart(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert main(["rename", str(tmp_path), "--method", "random=once", "--label", "GC"]) == 0
    [plan] = plans_of(store, "t").values()
    labels = plan.labels
    assert (labels.method("once"), labels.method("gc"), labels.method("ones")) == ("GC (once)", "GC (gc)", "Ones")


def test_two_methods_exchange_their_names(tmp_path: Path) -> None:
    stored(tmp_path)
    before = values(tmp_path, "random"), values(tmp_path, "ones")
    words = ["--method", "random=between", "--method", "ones=random", "--method", "between=ones"]
    assert main(["rename", str(tmp_path), *words]) == 0
    assert (values(tmp_path, "ones"), values(tmp_path, "random")) == before


def test_a_name_that_is_taken_or_unknown_renames_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path)
    assert main(["rename", str(tmp_path), "--method", "random=ones"]) == 1
    assert "with other settings" in capsys.readouterr().err
    assert main(["rename", str(tmp_path), "--method", "randon=x"]) == 1
    assert "it has brightness, ones, random" in capsys.readouterr().err
    assert main(["rename", str(tmp_path), "--method", "random=a/b"]) == 1
    assert {cell["method"] for cell in ResultStore(tmp_path).cells()} == {"brightness", "ones", "random"}


@pytest.mark.parametrize("at", range(1, 4))
def test_an_interrupted_rename_loses_nothing_and_is_finished_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Interrupted before rows, between a part's new rows and the old ones, and before the old records go."""
    stored(tmp_path, flush_seconds=0.0)
    before = values(tmp_path, "random")

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    places: dict[int, tuple[Any, str]] = {1: (Parts, "rewrite"), 2: (Path, "unlink"), 3: (ResultStore, "forget")}
    with monkeypatch.context() as patch:
        patch.setattr(*places[at], interrupted)
        with pytest.raises(KeyboardInterrupt):
            amend.rename(ResultStore(tmp_path), "random", "new")
    rows = ResultStore(tmp_path).rows()
    names = set(rows["method"]) & {"random", "new"}
    assert sum(len(values(tmp_path, name)) for name in names) >= IMAGES
    amend.rename(ResultStore(tmp_path), "random", "new")
    assert values(tmp_path, "new") == before
    assert values(tmp_path, "random") == []
    assert survey(ResultStore(tmp_path)).sound


def test_nothing_is_changed_while_a_job_is_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(tmp_path)
    [record] = store.read_json("jobs")
    store.write_json("jobs", record["key"], {**record, "state": "running"})
    clock.touch(store.records.path("jobs", record["key"]))
    assert main(["clean", str(tmp_path), "--method", "ones"]) == 1
    assert "is running there" in capsys.readouterr().err
    assert main(["rename", str(tmp_path), str(tmp_path.with_name("elsewhere"))]) == 1
    assert len(ResultStore(tmp_path).rows()) == 3 * 4 * IMAGES


def test_what_is_changed_of_a_dead_job_is_no_sign_of_life(tmp_path: Path) -> None:
    store = stored(tmp_path)
    [record] = store.read_json("jobs")
    store.write_json("jobs", record["key"], {**record, "state": "running"})
    path = store.records.path("jobs", record["key"])
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    for command, change in (("rename", "random=new"), ("rename", "ones=all"), ("clean", "new")):
        assert main([command, str(tmp_path), "--method", change]) == 0


def test_a_folder_gets_another_name_but_no_taken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "results" / "first")
    (tmp_path / "results" / "taken").mkdir()
    assert main(["rename", "first", "taken"]) == 1
    assert main(["rename", "first", "second"]) == 0
    assert len(ResultStore(tmp_path / "results" / "second").rows()) == 3 * 4 * IMAGES
    assert not (tmp_path / "results" / "first").exists()


def test_all_formats_of_an_export_say_the_same(tmp_path: Path) -> None:
    store = stored(tmp_path)
    for form in ("csv", "json", "parquet"):
        assert main(["export", str(tmp_path), "--format", form]) == 0
    with (tmp_path / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    objects = json.loads((tmp_path / "rows.json").read_text())
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    expected = store.rows().set_index(["method", "metric", "image"])["value"]
    assert len(lines) == len(objects) == len(frame) == len(expected) == 3 * 4 * IMAGES
    for line, thing, (_, row) in zip(lines, objects, frame.iterrows(), strict=True):
        value = expected[row["method"], row["metric"], row["image"]]
        assert float(line["value"]) == thing["value"] == row["value"] == value
        assert json.loads(line["curve"]) == thing["curve"] == [float(x) for x in row["curve"]]
        assert list(line) == list(thing) == list(frame.columns)


def test_an_export_to_the_terminal_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path)
    assert main(["export", str(tmp_path), "--output", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("model,dataset,method,metric,protocol,image,value")
    assert main(["export", str(tmp_path), "--format", "parquet", "--output", "-"]) == 1
