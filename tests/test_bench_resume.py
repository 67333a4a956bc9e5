"""What a run does again where everything, or everything but the pictures, is stored already; and when it starts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from support import engine_jobs as parts
from torch import Tensor

from dix.bench.run.evaluate import evaluate
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.cli import main, tables, task
from dix.datasets.api import Record
from dix.datasets.folder import Folder
from dix.datasets.identity import digest
from dix.datasets.subset import select
from dix.explainer import Explainer
from dix.passes import Passes


@dataclass(frozen=True)
class Counting(parts.Made):
    """Counts the images that are decoded, and those that are only digested. tints: images that look another way."""

    tints: tuple[int, ...] = ()
    counts: Counter[str] = field(default_factory=Counter, compare=False)

    def read(self, index: int) -> Record:
        self.counts["decoded"] += 1
        record = super().read(index)
        if index in self.tints:
            record = replace(record, image=Image.new("RGB", record.image.size, (200, 10, 10)))
        return replace(record, content=self.content(index))

    def content(self, index: int) -> str:
        self.counts["digested"] += 1
        return digest(f"{index} {index in self.tints}")


def run(dataset: Counting, folder: Path, methods: Sequence[str] = ("brightness",), **settings: object) -> Counter[str]:
    """What a run decoded and digested."""
    before = Counter(dataset.counts)
    chosen: dict[str, Explainer] = {name: parts.Brightness() for name in methods}
    evaluate(parts.job(methods=chosen, dataset=dataset, **settings), ResultStore(folder))
    return dataset.counts - before


@pytest.mark.parametrize(("gallery", "looks"), [(0, 8), (2, 10)])
def test_a_resumed_run_decodes_nothing_and_digests_each_image_once(tmp_path: Path, gallery: int, looks: int) -> None:
    dataset = Counting()
    assert run(dataset, tmp_path, gallery=gallery)["decoded"] == 8
    again = run(dataset, tmp_path, gallery=gallery)
    assert again["decoded"] == 0
    assert again["digested"] == looks  # the gallery looks at its images before the walk does


def about(folder: Path, index: int) -> dict[str, object]:
    [path] = (folder / "images").glob(f"*/{index:05d}/about.json")
    return json.loads(path.read_text())


def pictures_only(dataset: Counting, folder: Path, *methods: str) -> Counter[str]:
    """A run without a metric, which keeps two images' pictures."""
    before = Counter(dataset.counts)
    chosen: dict[str, Explainer] = {name: parts.Brightness() for name in methods}
    job = replace(parts.job(methods=chosen, dataset=dataset, gallery=2, batch_size=1), metrics={})
    evaluate(job, ResultStore(folder))
    return dataset.counts - before


def test_pictures_follow_the_images_content(tmp_path: Path) -> None:
    pictures_only(Counting(), tmp_path, "first", "second")
    [folder] = (tmp_path / "images").glob("*/00001")
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(old) == {"about.json", "photo.png", "first.png", "second.png"}
    assert pictures_only(Counting(), tmp_path, "first", "second")["decoded"] == 0
    changed = Counting(tints=(1,))
    assert pictures_only(changed, tmp_path, "first")["decoded"] == 1  # the other image's pictures are kept
    new = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(new) == {"about.json", "photo.png", "first.png"}  # the second method's picture was of the old image
    assert new["photo.png"] != old["photo.png"]
    assert about(tmp_path, 1)["content"] == changed.content(1)


def test_pictures_without_a_digest_are_made_anew(tmp_path: Path) -> None:
    pictures_only(Counting(), tmp_path, "first")
    [path] = (tmp_path / "images").glob("*/00000/about.json")
    path.write_text(json.dumps({key: value for key, value in about(tmp_path, 0).items() if key != "content"}))
    assert pictures_only(Counting(), tmp_path, "first")["decoded"] == 1
    assert pictures_only(Counting(), tmp_path, "first")["decoded"] == 0


def test_a_run_says_what_a_data_set_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    whole = Folder(tmp_path)
    for dataset in (whole, select(whole, "random:1")):
        task._say_left_out(replace(parts.job(), dataset=dataset))
        said = "dataset folder: left out 1 x file whose name does not end as an image's does (notes.txt)"
        assert capsys.readouterr().out.splitlines() == [said]
    task._say_left_out(parts.job())
    assert capsys.readouterr().out == ""


def test_the_tables_reports_know_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(parts.job(), ResultStore(tmp_path / "results"))
    given: list[object] = []
    monkeypatch.setattr(tables, "_folder", lambda words: tmp_path / "results")
    monkeypatch.setattr(tables, "write", lambda folder, folders=(): given.append((folder, list(folders))))
    monkeypatch.setattr(tables, "gaps", lambda table: [])
    own = tmp_path / "own"
    (own / "metric").mkdir(parents=True)
    assert main(["tables", "table4", "--report", "--config-dir", str(own)]) == 0
    assert given == [(tmp_path / "results", [own])]


class Mute(parts.TwoHalves):
    """Answers for no image whose left half is the brighter one."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return torch.where((logits[:, :1] > logits[:, 1:]), torch.nan, logits)


def mute() -> Classifier:
    base = parts.classifier()
    return Classifier(
        "mute", Mute(), mean=(0.0,) * 3, std=(1.0,) * 3, input_size=parts.SIZE, layers=base.layers, kind="cnn",
        weights=base.weights,
    )  # fmt: skip


def test_an_image_without_an_answer_is_not_computed_again_for_its_pictures(tmp_path: Path) -> None:
    dataset = Counting()
    assert run(dataset, tmp_path, model=mute(), gallery=3)["decoded"] == 8
    assert run(dataset, tmp_path, model=mute(), gallery=3)["decoded"] == 0
    kept = sorted(str(path.relative_to(tmp_path / "images")).split("/", 1)[1] for path in tmp_path.rglob("*.json")
                  if path.parent.name.isdigit())  # fmt: skip
    assert kept == ["00000/silent.json", "00001/about.json", "00002/silent.json"]


@dataclass(frozen=True)
class Clocked(parts.Brightness):
    """Notes when it is asked to explain."""

    times: ClassVar[list[float]] = []

    def explain(self, passes: Passes) -> Tensor:
        self.times.append(time.perf_counter())
        return super().explain(passes)


def test_start_up_ends_with_the_first_forward_pass(tmp_path: Path) -> None:
    model, method, passes = parts.classifier(), Clocked(), []
    method.times.clear()
    model.network.register_forward_hook(lambda *_: passes.append(time.perf_counter()))
    made = parts.job(methods={"clocked": method}, model=model)
    outcome = evaluate(made, ResultStore(tmp_path))
    assert outcome.first_forward is not None
    assert passes[0] <= outcome.first_forward <= method.times[0]
    assert len(method.times) == 3  # it is not set again by later batches
    resumed = evaluate(made, ResultStore(tmp_path))
    assert resumed.first_forward is None
    assert len(method.times) == 3
