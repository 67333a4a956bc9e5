"""Tables, pages and comparisons through the command line, from stores whose rows are known."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.results import ResultStore
from dix.bench.tables import paper
from dix.cli import main
from dix.cli.config import composed

OURS = {"mf1": "mf1_rows"}


def record(name: str, model: str, dataset: str, **changes: Any) -> dict[str, Any]:
    """A provenance record as a run leaves it."""
    weights = {"source": "made", "trained": True, "note": "", "published_top1": None}
    protocol = dict(composed([]).protocol)
    config = {
        "run": {"name": name, "limit": None},
        "protocol": {**protocol, "fractions": [*protocol["fractions"]], "thresholds": [*protocol["thresholds"]]},
        "dataset": {"subset": None},
        "method": {"gc": {}},
        "metric": {"neg": {}},
    }
    return {
        "job": f"{model}--{dataset}--thesis",
        "dataset": dataset,
        "protocol": "thesis",
        "model": model,
        "weights": weights,
        "device": "a machine",
        "versions": {"torch": "1"},
        "commit": "abc",
        "config": config,
        "cost": {"images": 1, "forwards_of_metrics": 2, "wall_seconds": 3.0},
        **changes,
    }


def filled(
    folder: Path,
    values: Mapping[tuple[str, str, str, str], Sequence[float]],
    records: Iterable[Mapping[str, Any]] = (),
    protocol: str = "thesis",
    identity: Mapping[str, Any] | None = None,
) -> ResultStore:
    """A results folder with the images' values by (model, data set, method, metric)."""
    store = ResultStore(folder)
    for (model, dataset, method, metric), numbers in values.items():
        cell = StoredCell(model, dataset, method, metric, protocol, identity or {"method": method, "metric": metric})
        store.open([cell])
        store.append(cell.group, [_row(cell, f"{i:03d}", value) for i, value in enumerate(numbers)])
    for number, one in enumerate(records):
        store.write_json("provenance", f"{one['job']}--{number}", one)
    return store


def _row(cell: StoredCell, image: str, value: float) -> Row:
    """A row whose summary over one image is `value`, whatever the metric's way to reduce."""
    parts = {"pa": [value, 100.0], "miou": [value, 100.0, value, 100.0]}.get(cell.metric, [])
    curve: list[float] = []
    if cell.metric in ("sic", "aic"):  # 0 at 0, level from .001 to .999, 1 at 1: its area is .999 level + .0005
        level = (value / 100 - 0.0005) / 0.999
        curve = [0.001, 0.999, level, level]
    return Row(cell.digest, image, value, parts, curve)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file below its head."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("# ")))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_thesis_fed_as_measured_reprints_the_thesis(number: int, tmp_path: Path) -> None:
    printed = {key[:3] + (OURS.get(key[3], key[3]),): value for key, value in paper.lookup([number]).items()}
    layout = paper.layout(number)
    records = [record(f"table{number}", model, dataset) for dataset, model in layout.blocks]
    filled(tmp_path, {key: [value, value] for key, value in printed.items()}, records)
    assert main(["report", str(tmp_path)]) == 0
    cells = {(r["model"], r["dataset"], r["method"], r["metric"]): r for r in read_csv(tmp_path / "table.csv")}
    assert set(cells) == set(printed)
    for key, cell in cells.items():
        assert cell["status"] == "measured"
        assert float(cell["printed"]) == printed[key]
        assert float(cell["value"]) == pytest.approx(printed[key], abs=1e-5)
        assert float(cell["difference"]) == pytest.approx(0, abs=1e-5)
        assert cell["outside"] == "0"
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert f"# Thesis Table {number}, measured" in text
    _assert_prints(text, layout, printed)


def _assert_prints(text: str, layout: paper.PrintedLayout, printed: Mapping[tuple[str, str, str, str], float]) -> None:
    """Every line of the Markdown tables has the thesis's numbers in its order, the best one bold."""
    lines = [line for line in text.splitlines() if re.match(r"\| (RN|CN|DN|ViT-B|ViT-S) \| \S+.*[↑↓] \|", line)]
    values = [line for line in lines if "(0.00)" not in line and "thesis" not in line]
    expected = [(dataset, model, metric) for dataset, model in layout.blocks for metric in layout.metrics]
    wide = values[: len(expected)]
    assert len(wide) == len(expected)
    for line, (dataset, model, metric) in zip(wide, expected, strict=True):
        shown = [word.strip() for word in line.strip("|").split("|")][2:]
        numbers = [printed[model, dataset, method, OURS.get(metric, metric)] for method in layout.methods]
        assert [re.sub(r"\*\*|</?u>", "", word) for word in shown] == [f"{number:.2f}" for number in numbers]
        best = min(numbers) if "↓" in line else max(numbers)
        assert [word.startswith("**") for word in shown] == [number == best for number in numbers]


def test_known_rows_give_hand_computed_scores(tmp_path: Path) -> None:
    values = {
        ("resnet101", "imagenet", "gc", "neg"): [10.0, 20.0, 30.0, 40.0],
        ("resnet101", "imagenet", "dix3", "neg"): [20.0, 30.0, 40.0, 54.0],
        ("resnet101", "imagenet", "gc", "pos"): [5.0, 6.0, 7.0, 8.0],
        ("resnet101", "imagenet", "dix3", "pos"): [4.0, 4.0, 4.0, 4.0],
    }
    filled(tmp_path, values, [record("mine", "resnet101", "imagenet")])
    assert main(["report", str(tmp_path), "--title", "By hand"]) == 0
    cells = {(r["method"], r["metric"]): r for r in read_csv(tmp_path / "table.csv")}
    assert float(cells["gc", "neg"]["value"]) == 25.0
    assert float(cells["dix3", "neg"]["value"]) == 36.0
    assert (cells["dix3", "neg"]["best"], cells["dix3", "neg"]["rank"]) == ("1", "1")
    printed = paper.lookup()["resnet101", "imagenet", "dix3", "neg"]
    assert float(cells["dix3", "neg"]["difference"]) == pytest.approx(36 - printed)
    assert float(cells["dix3", "srg"]["value"]) == 32.0
    assert float(cells["dix3", "neg"]["p_alone"]) == pytest.approx(0.125)  # all four differences positive: 2 / 2^4
    assert cells["gc", "pos"]["second"] == "1"
    assert "# By hand" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_the_head_names_machine_code_and_versions(tmp_path: Path) -> None:
    filled(tmp_path, {("resnet101", "imagenet", "gc", "neg"): [1.0, 2.0]}, [record("x", "resnet101", "imagenet")])
    assert main(["report", str(tmp_path)]) == 0
    head = "# measured on: a machine\n# code: abc\n# versions: torch = 1\n"
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").startswith(head)
    assert "- measured on: a machine\n- code: abc\n" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_thesis_table_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {("resnet101", "imagenet", "gc", "neg"): [1.0], ("resnet101", "imagenet", "gc", "sparseness"): [0.5]}
    filled(tmp_path, values, [record("table1", "resnet101", "imagenet")])
    assert main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "missing: everything of convnext_base on imagenet" in out
    assert "missing: 106 of 108 cells of resnet101 on imagenet" in out  # 12 methods, 8 metrics and the extra one
    assert main(["report", str(tmp_path), "--table", "0"]) == 0
    assert "missing" not in capsys.readouterr().out
    assert {r["method"] for r in read_csv(tmp_path / "table.csv")} == {"gc"}


@pytest.mark.parametrize(
    ("weights", "mark"),
    [
        ({"trained": False, "note": "random weights: scores mean nothing"}, "random weights"),
        ({"trained": True, "note": "few-shot head: learnt from the photos"}, "few-shot head"),
    ],
)
def test_weights_that_make_values_incomparable_are_named(weights: dict[str, Any], mark: str, tmp_path: Path) -> None:
    values = {("resnet101", "imagenet", method, "neg"): [50.0, 60.0] for method in ("gc", "dix3")}
    one = record("table1", "resnet101", "imagenet")
    one["weights"] |= weights
    filled(tmp_path, values, [one])
    assert main(["report", str(tmp_path)]) == 0
    cell = next(r for r in read_csv(tmp_path / "table.csv") if (r["method"], r["model"]) == ("gc", "resnet101"))
    assert mark in cell["reason"]
    assert cell["outside"] == "0"
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert f"‡ not comparable with the thesis's value: {mark}" in text
    verdicts = {r["verdict"] for r in read_csv(tmp_path / "claims.csv")}
    assert verdicts <= {"not comparable", "not measured"}


@pytest.mark.parametrize(
    ("dataset", "note", "published", "expected"),
    [
        ("imagenet", "", 77.37, "3 of 4 labelled images right, 75.00 %; published for the whole of ImageNet: 77.37 %"),
        ("imagenet", "", None, "3 of 4 labelled images right, 75.00 %"),
        ("photos", "", 77.37, "3 of 4 labelled images right (no measure of accuracy)"),
        ("imagenet", "few-shot head", None, "3 of 4 labelled images right (no measure of accuracy)"),
    ],
)
def test_clean_accuracy_is_shown_where_it_is_one(
    dataset: str, note: str, published: float | None, expected: str, tmp_path: Path
) -> None:
    one = record("x", "resnet101", dataset)
    one["weights"] |= {"note": note, "published_top1": published}
    store = filled(tmp_path, {("resnet101", dataset, "gc", "neg"): [1.0, 2.0]}, [one])
    for shard, right in (("a", {"0": True, "1": True}), ("b", {"1": True, "2": False, "3": True})):
        store.write_json("clean", shard, {"job": "j", "model": "resnet101", "dataset": dataset, "right": right})
    assert main(["report", str(tmp_path)]) == 0
    assert f"clean top-1: RN = {expected}".replace("RN", "resnet101") + "\n" in (tmp_path / "table.md").read_text()
    assert expected in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_each_protocol_is_reduced_by_its_own_choices(tmp_path: Path) -> None:
    """SIC is the area under the median curve in `thesis`, under the mean curve in `corrected`."""
    values = {("resnet101", "imagenet", "gc", "sic"): [20.0, 30.0, 80.0]}
    filled(tmp_path, values)
    filled(tmp_path, values, protocol="corrected")
    assert main(["report", str(tmp_path)]) == 0
    cells = {r["protocol"]: float(r["value"]) for r in read_csv(tmp_path / "table.csv")}
    assert cells == {
        "thesis": pytest.approx(30.0, abs=1e-5),
        "corrected": pytest.approx(130 / 3, abs=1e-5),
    }


def test_a_recorded_choice_of_the_protocol_counts(tmp_path: Path) -> None:
    one = record("x", "resnet101", "imagenet")
    one["config"]["protocol"]["aggregate"] = "mean"
    filled(tmp_path, {("resnet101", "imagenet", "gc", "sic"): [20.0, 30.0, 80.0]}, [one])
    assert main(["report", str(tmp_path)]) == 0
    (cell,) = read_csv(tmp_path / "table.csv")
    assert float(cell["value"]) == pytest.approx(130 / 3, abs=1e-5)


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    values = {("resnet101", "imagenet", m, "neg"): list(np.linspace(0, 90, 7)) for m in ("gc", "dix2", "dix3")}
    filled(tmp_path, values, [record("x", "resnet101", "imagenet")])
    names = ("table.csv", "claims.csv", "table.md", "table.tex", "index.html")
    contents = []
    for _ in range(2):
        assert main(["report", str(tmp_path)]) == 0
        contents.append([(tmp_path / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


def test_a_page_stays_small_however_many_pictures_are_kept(tmp_path: Path) -> None:
    filled(tmp_path, {("resnet101", "imagenet", "gc", "neg"): [1.0, 2.0]}, [record("x", "resnet101", "imagenet")])
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for index in range(60):
        folder = tmp_path / "images" / "resnet101--imagenet--thesis" / f"{index:05d}"
        folder.mkdir(parents=True)
        Image.fromarray(noise).save(folder / "photo.png")
        for method in ("gc", "dix2", "dix3"):
            Image.fromarray(noise[..., 0]).save(folder / f"{method}.png")
        about = {"image": f"{index:03d}", "explained": "cat", "probability": 0.5}
        names = {"model": "resnet101", "dataset": "imagenet", "protocol": "thesis"}
        (folder / "about.json").write_text(json.dumps({**names, **about}))
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_bytes()
    assert len(page) < 10_000_000
    assert page.count(b"data:image/webp") >= 40


def test_two_result_sets_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    key, other = ("resnet101", "imagenet", "gc", "neg"), ("resnet101", "imagenet", "dix3", "neg")
    filled(a, {key: [10.0, 20.0, 30.0], other: [1.0, 2.0, 3.0]}, identity={"seed": 0})
    filled(b, {key: [11.0, 22.0, 36.0], ("resnet101", "imagenet", "ig", "neg"): [1.0]}, identity={"seed": 1})
    assert main(["report", "--compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    (row,) = csv.DictReader(io.StringIO((a / "compare-b.csv").read_text(encoding="utf-8")))
    assert (row["method"], float(row["first"]), float(row["second"]), float(row["difference"])) == ("gc", 20, 23, 3)
    assert (row["shared_images"], float(row["largest_image_difference"])) == ("3", 6)
    assert float(row["p"]) == pytest.approx(0.25)  # three differences of one sign: 2 / 2^3
    assert row["differs"] == "seed: stored 0, wanted 1"
    assert "1 cells are only in a, 1 only in b" in out
    assert "differs in 1 cells: seed: a 0, b 1" in out


def test_without_a_folder_it_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 1
    assert "name a results folder, or two with --compare" in capsys.readouterr().err


def test_table_1_without_data_is_one_clear_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DIX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["tables", "table1", "table3"]) == 1
    out = capsys.readouterr().out
    for words in (
        "ILSVRC2012_img_val.tar",
        "dix data check imagenet",
        "Needed for table1.",
        "gtsegs_ijcv.mat",
        "dix data check voc",
        "dix data check coco",
        "resnet101, convnext_base, densenet201",
        "model.weights=PATH",
    ):
        assert words in out
    assert out.count("Source:") == 4
    assert not list(tmp_path.iterdir())


def test_an_unknown_table_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "table9"]) == 1
    assert "no table called 'table9'; there are table1, table2, table3, table4, table5" in capsys.readouterr().err


def miniature(folder: Path) -> Path:
    """A tree of synset folders with three images, as ImageNet's validation set lies."""
    random = np.random.default_rng(0)
    for number, synset in enumerate(("n01440764", "n02123045", "n02123045")):
        path = folder / "imagenet" / synset / f"ILSVRC2012_val_{number:08d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
        smooth.save(path)
    return folder


@pytest.mark.slow
def test_table_1_of_a_miniature_tree_is_complete_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thesis's three networks at 64 pixels with random weights, all methods and metrics, one of three images."""
    monkeypatch.setenv("DIX_DATA", str(miniature(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    settings = ["model.weights=random", "++model.input_size=64", "run.workers=0", "run.threads=1"]
    assert main(["tables", "--limit", "1", "table1", *settings]) == 0
    out = capsys.readouterr().out
    assert "imagenet, 1 of 3 images" in out
    assert "missing" not in out
    cells = read_csv(tmp_path / "results" / "table1" / "table.csv")
    layout = paper.layout(1)
    assert len(cells) == 3 * (len(layout.methods) + 2) * len(layout.metrics)  # two of a second reading of DIX
    assert {cell["status"] for cell in cells} == {"measured"}
    assert {cell["reason"] for cell in cells if cell["printed"]} == {"random weights"}
    for cell in cells:
        key = (cell["model"], "imagenet", cell["method"], cell["metric"])
        assert (float(cell["printed"]) if cell["printed"] else None) == paper.lookup().get(key)
        if cell["value"] and cell["printed"]:
            difference = float(cell["value"]) - float(cell["printed"])
            assert float(cell["difference"]) == pytest.approx(difference, abs=1e-6)
    text = (tmp_path / "results" / "table1" / "table.md").read_text(encoding="utf-8")
    assert "not comparable with the thesis's value: random weights" in text
    assert "images: subset random:1" in text
    assert main(["tables", "--limit", "1", "table1", *settings]) == 0
    assert capsys.readouterr().out.count("everything is stored already") == 3


def test_two_protocols_are_paired_and_the_difference_in_name_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    values = {("resnet101", "imagenet", m, "neg"): [10.0 + k, 20.0, 30.0] for k, m in enumerate(("gc", "dix3"))}
    filled(a, values)
    filled(b, {key: [v + 1 for v in number] for key, number in values.items()}, protocol="corrected")
    assert main(["report", "--compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "2 cells differ in the protocol alone (a: thesis, b: corrected), 0 of them equal" in out
    assert "0 cells are only in a, 0 only in b" in out
    rows = list(csv.DictReader(io.StringIO((a / "compare-b.csv").read_text(encoding="utf-8"))))
    assert [(r["protocol"], r["protocol_second"], r["method"]) for r in rows] == [
        ("thesis", "corrected", "gc"),
        ("thesis", "corrected", "dix3"),
    ]
    assert [float(r["difference"]) for r in rows] == pytest.approx([1, 1])
    assert [float(r["p"]) for r in rows] == pytest.approx([0.25, 0.25])  # three differences of one size: 2 / 2^3


def identity(protocol: str, **changes: object) -> dict[str, object]:
    """What a cell's identity holds, as far as comparing looks at it."""
    shared = {"name": protocol, "target": "predicted", "seed": 0} | changes
    return {"method": {"class": "GradCam", "version": 1}, "metric": {"class": "Neg", "version": 1}, "protocol": shared}


def test_scores_are_paired_only_where_they_mean_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More images than the exact test goes through; b has another seed and name, c explains other classes."""
    folders = {name: tmp_path / name for name in "abc"}
    key, worse, better = ("resnet101", "imagenet", "gc", "neg"), [50.0 + i % 7 for i in range(40)], [60.0] * 40
    records = [record("own", "resnet101", "imagenet", device=f"machine {name}") for name in "abc"]
    for folder, values, said, one in zip(
        folders.values(),
        (worse, better, better),
        (identity("thesis"), identity("thesis", seed=1), identity("thesis", target="label")),
        records,
        strict=True,
    ):
        filled(folder, {key: values}, [one], identity=said)
    assert main(["report", "--compare", *map(str, folders.values())]) == 0
    out = capsys.readouterr().out
    assert "| machine | machine a | machine b | machine c |" in out
    assert (
        "1 cells stand side by side and are not paired, since their scores mean something else: protocol.target" in out
    )
    [paired], [apart] = (read_csv(folders["a"] / f"compare-{name}.csv") for name in "bc")
    assert (paired["verdict"], paired["not_paired"], paired["shared_images"]) == ("better", "", "40")
    assert float(paired["p"]) <= float(paired["p_corrected"]) < 0.05
    assert (apart["verdict"], apart["not_paired"], apart["p"]) == ("not paired", "protocol.target", "")
    assert (apart["first"], apart["second"]) == (paired["first"], paired["second"])


def test_images_of_one_name_and_other_content_are_not_common(tmp_path: Path) -> None:
    cell = StoredCell("lenet5", "folder", "gc", "neg", "thesis", {"method": "gc", "metric": "neg"})
    for name, changed in (("a", ""), ("b", "1")):
        store = ResultStore(tmp_path / name)
        store.open([cell])
        rows = [Row(cell.digest, i, 10.0 + len(changed), [], [], content=f"{i}{changed * (i == '3')}") for i in "0123"]
        store.append(cell.group, rows)
    assert main(["report", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    [row] = read_csv(tmp_path / "a" / "compare-b.csv")
    assert (row["n_first"], row["shared_images"]) == ("4", "3")


def test_a_comparison_needs_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, {("lenet5", "mnist", "gc", "neg"): [1.0, 2.0]})
    assert main(["report", "--compare", str(tmp_path)]) == 1
    assert "--compare: name two results folders or more" in capsys.readouterr().err


def test_sets_that_share_nothing_are_not_paired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    filled(a, {("resnet101", "imagenet", "gc", "neg"): [1.0, 2.0]})
    filled(b, {("vit_base", "imagenet", "t_attr", "neg"): [1.0, 2.0]})
    assert main(["report", "--compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "0 cells are in both" in out
    assert "1 cells are only in a, 1 only in b" in out
