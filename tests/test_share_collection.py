"""A collection of packs: what is taken, what may be said of it, and the leaderboard that shows it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import browser, engine_jobs
from support.packs import METHODS, forged, look, made_pack, made_store, packed

from dix.bench.run.evaluate import evaluate
from dix.bench.share.collection import Collection, Entry, examined, objections, place, read_collection, submit
from dix.bench.share.container import read
from dix.bench.share.leaderboard import board, board_csv
from dix.bench.share.pack import looked_into
from dix.bench.share.page import render
from dix.bench.share.printed import of_thesis, read_printed
from dix.bench.share.verification import Row, missed, percent, row_sums, write_record
from dix.bench.store.cells import Group
from dix.bench.store.results import ResultStore
from dix.bench.tables import paper
from dix.bench.tables.samples import Block
from dix.cli import main
from dix.cli.report import THESIS_METRICS, metrics_of
from dix.cli.submit import version_of
from dix.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = {"tested": 1}.get
GROUP = Group("halves", "made", "tested")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of two runs with other seeds and batch sizes; the second is verified."""
    folder = tmp_path_factory.mktemp("two")
    made_pack(folder, "first")
    made_pack(folder, "second", seed=1, batch_size=5)
    for name in ("first", "second"):
        submit(folder / f"{name}.pack", folder / "all", look, VERSIONS)
    vouch(next((folder / "all").rglob("second-*.pack")), 12)
    return folder


def vouch(path: Path, count: int, **changes: Any) -> Path:
    """A record that so many rows came out alike."""
    with looked_into(path) as (pack, store):
        rows = store.rows().head(count).to_dict("records")
        alike = [
            Row({**{k: str(v) for k, v in row.items() if isinstance(v, str)}}, row["value"], row["value"], "")
            for row in rows
        ]
        target = write_record(
            dataclasses.replace(pack, path=path), store, alike, 7, "AMD EPYC, 2 cores", {"torch": "2"}
        )
    record = json.loads(target.read_text()) | changes
    target.write_text(json.dumps(record))
    return target


def collection(folder: Path) -> Collection:
    return read_collection(folder, look, VERSIONS)


def test_packs_lie_where_their_names_say(two: Path) -> None:
    places = sorted(path.relative_to(two / "all").as_posix() for path in (two / "all").rglob("*.pack"))
    digests = [read(two / f"{name}.pack").digest[:12] for name in ("first", "second")]
    assert places == [f"halves/made/tested/{n}-{d}.pack" for n, d in zip(("first", "second"), digests, strict=True)]
    index = json.loads((two / "all" / "index.json").read_text())
    assert [one["path"] for one in index["packs"]] == places
    assert {one["rows"] for one in index["packs"]} == {96}


def test_names_become_folders_inside_the_collection_alone() -> None:
    hostile = ["..", ".git", "printed", "PRINTED", "a b", "con<script>", "\u202e", "x" * 200, "ä"]
    for name in hostile:
        path = place(Group(name, name, name), "run", "0" * 64)
        assert len(path.parts) == 4
        assert all(re.fullmatch(r"[A-Za-z0-9_][\w.+=-]*", part) for part in path.parts)
        assert path.parts[0].lower() != "printed"
    assert len({place(Group(name, "d", "p"), "run", "0").parts[0] for name in hostile}) == len(hostile)


def test_two_runs_stand_side_by_side_with_their_badges(two: Path) -> None:
    found = collection(two / "all")
    assert [(e.name, e.badge) for e in found.entries] == [("first", "consistent"), ("second", "verified")]
    assert found.refused == {}
    [sheet] = board(found).sheets
    assert sheet.block == Block("tested", "made", "halves")
    assert [(run.name, run.badge) for run in sheet.runs] == [("second", "verified"), ("first", "consistent")]
    rows = list(csv.DictReader(io.StringIO(board_csv(board(found)))))
    for name in ("first", "second"):
        stored = ResultStore(two / f"{name}-store").rows()
        means = stored.groupby(["method", "metric"])["value"].mean()
        told = {
            (r["method"], r["metric"]): float(r["score"]) for r in rows if r["run"] == name and r["metric"] != "srg"
        }
        assert told == pytest.approx(means.to_dict())
        assert len(told) == 12
    gc = next(r for r in rows if r["method"] == "gc")
    assert float(gc["seconds_an_image"]) == 0.5  # 4 seconds for 8 images, says its record


def test_the_page_says_what_a_sample_could_have_missed(two: Path) -> None:
    page = render(board(collection(two / "all")))
    assert "12 of 96 rows recomputed alike on AMD EPYC, 2 cores" in page
    assert "had 22.1 % of all rows been altered, 95 % of such samples would have shown one" in page


@pytest.mark.parametrize("count", [1, 2, 10, 100, 5000])
def test_the_missed_share_is_where_one_sample_in_twenty_sees_nothing(count: int) -> None:
    assert (1 - missed(count)) ** count == pytest.approx(0.05)
    assert float(percent(missed(count)).rstrip(" %")) >= 100 * missed(count)


def test_the_missed_share_in_a_simulation() -> None:
    """A share of altered rows, drawn 4,000 times: 5 % of the samples see none of them, within 4 standard errors."""
    generator = np.random.default_rng(0)
    altered = generator.random((4000, 10)) < missed(10)
    seen_none = (~altered.any(axis=1)).mean()
    assert abs(seen_none - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)


def test_a_second_time_the_same_rows_are_refused(two: Path, tmp_path: Path) -> None:
    again = packed(ResultStore(two / "first-store"), tmp_path / "again.pack", "another-name")
    with pytest.raises(ValueError, match=r"its rows are there already, in first-[0-9a-f]{12}\.pack"):
        submit(again, two / "all", look, VERSIONS)


def otherwise(entry: Entry, **changes: Any) -> Entry:
    """An entry whose manifest says something else of its rows."""
    manifest = {**entry.pack.manifest, "groups": [{**entry.about, "digest": "0" * 64, **changes}]}
    return dataclasses.replace(entry, pack=dataclasses.replace(entry.pack, manifest=manifest))


def test_what_cannot_stand_beside_others_is_named(two: Path) -> None:
    first, second = collection(two / "all").entries
    assert objections(second, [first], VERSIONS) == []  # another seed is the same thing measured again
    lacking = otherwise(first, methods=["gc", "broken"])
    assert objections(lacking, [], VERSIONS) == ["it lacks random, which every run must have (method=[...,random])"]
    assert objections(dataclasses.replace(lacking, skipped=("random",)), [], VERSIONS) == []
    [older] = objections(otherwise(first, protocol_version=0), [], VERSIONS)
    assert older.startswith("protocol tested is version 0 in it and 1 here")
    cells = [{**c, "identity": {**c["identity"], "method": {"class": "Other"}}} for c in first.table.identities]
    clash = dataclasses.replace(otherwise(first), table=dataclasses.replace(first.table, identities=cells))
    [line] = objections(clash, [first], VERSIONS)
    assert line.startswith("broken deletion is something else in first-")
    assert "method.class: stored 'NotFinite', this one 'Other'" in line


def test_methods_that_the_network_cannot_have_are_read_from_the_run(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two / "first-store", tmp_path / "store")
    store = ResultStore(tmp_path / "store")
    store.write_json("skips", "x", {**GROUP._asdict(), "method": "t_attr", "reason": "no attention"})
    assert examined(packed(store, tmp_path / "x.pack"), look).skipped == ("t_attr",)


def test_a_folder_of_several_runs_becomes_several_files(tmp_path: Path) -> None:
    store = made_store(tmp_path / "store", limit=3)
    evaluate(engine_jobs.job(METHODS, model=engine_jobs.classifier("thirds"), limit=3), store)
    record = store.read_json("provenance")[0]
    store.write_json("provenance", "thirds", {**record, "model": "thirds", "job": "thirds"})
    path = packed(store, tmp_path / "both.pack", "both")
    paths = submit(path, tmp_path / "all", look, VERSIONS)
    assert sorted(path.parent.parent.parent.name for path in paths) == ["halves", "thirds"]
    assert [entry.badge for entry in collection(tmp_path / "all").entries] == ["consistent"] * 2


def altered(manifest: dict[str, Any]) -> None:
    """Add a point to a score."""
    manifest["summaries"][3]["score"] += 1.0


def test_altered_summaries_with_right_checksums_are_not_consistent(two: Path, tmp_path: Path) -> None:
    path = forged(two / "first.pack", tmp_path / "better.pack", altered)
    entry = examined(path, look)
    [fault] = entry.faults
    assert re.search(r"score: told [\d.]+, its rows give [\d.]+", fault)
    assert entry.badge == "reported"
    with pytest.raises(ValueError, match="its rows do not give what it says"):
        submit(path, tmp_path / "all", look, VERSIONS)
    assert not (tmp_path / "all").exists()
    target = tmp_path / "all" / place(GROUP, "first", entry.pack.digest)  # put there by hand
    target.parent.mkdir(parents=True)
    shutil.copy(path, target)
    assert "does not follow from the rows: halves" in render(board(collection(tmp_path / "all")))
    assert main(["leaderboard", str(tmp_path / "all")]) == 1
    assert "told" in (tmp_path / "all" / "page" / "index.html").read_text(encoding="utf-8")


def widest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The summary with the widest interval of a method whose images all count."""
    own = [one for one in manifest["summaries"] if one["method"] == "gc"]
    found: dict[str, Any] = max(own, key=lambda one: (one["high"] or 0) - (one["low"] or 0))
    return found


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("gone", lambda m: m["summaries"].pop(0), "its rows give a score that is not told"),
        ("more", lambda m: m["summaries"].append({**m["summaries"][0], "method": "best"}), "no row gives it"),
        ("count", lambda m: widest(m).update(n=9), "n: told 9, its rows give 8"),
        ("none", lambda m: widest(m).update(score=None), "score: told None"),
        ("sure", lambda m: widest(m).update(low=widest(m)["high"]), "low: told"),
    ],
)
def test_whatever_is_said_is_computed_again(two: Path, tmp_path: Path, name: str, change: Any, said: str) -> None:
    entry = examined(forged(two / "first.pack", tmp_path / f"{name}.pack", change), look)
    assert any(said in fault for fault in entry.faults), entry.faults


def test_a_changed_file_is_not_shown_and_named(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two / "all", tmp_path / "all")
    path = next((tmp_path / "all").rglob("first-*.pack"))
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    stray = path.with_name("second-000000000000.pack")
    shutil.copy(next((tmp_path / "all").rglob("second-*.pack")), stray)
    found = collection(tmp_path / "all")
    assert [entry.name for entry in found.entries] == ["second"]
    told = {Path(name).name.split("-")[0]: why for name, why in found.refused.items()}
    assert "its checksum is wrong" in told["first"]
    assert "expected in halves/made/tested/second-" in told["second"]
    assert "Not shown: halves/made/tested/first-" in render(board(found))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pack": "0" * 64}, "it is about other bytes"),
        ({"same": False}, "0 of 5 rows came out differently"),
        ({"version": 2}, "written by a newer version"),
        ({"missed": 2}, "missed: 2 is out of range"),
        ({"rows": []}, "rows: a list of 0"),
        ({"machine": "x" * 600}, "machine: a text of 600"),
    ],
)
def test_a_record_that_does_not_hold_verifies_nothing(
    two: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = shutil.copy(two / "first.pack", tmp_path / "first.pack")
    vouch(Path(path), 5, **changes)
    entry = examined(Path(path), look)
    assert entry.badge == "consistent"
    assert said in entry.disputed[0]


def test_a_record_about_other_rows_verifies_nothing(two: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(two / "first.pack", tmp_path / "first.pack"))
    record = vouch(path, 5)
    whole = json.loads(record.read_text())
    whole["rows"][2]["sum"] = "0" * 16
    record.write_text(json.dumps(whole))
    assert "the pack has no such row" in examined(path, look).disputed[0]


def test_fingerprints_of_rows_are_their_own(two: Path) -> None:
    sums = row_sums(ResultStore(two / "first-store"))
    assert len(sums) == 96
    assert len(set(sums.values())) > 40  # two methods have the same maps


def test_the_thesiss_values_are_those_of_the_package() -> None:
    path = ROOT / "collection" / "printed" / "thesis.json"
    found = read_printed(path)
    told = {
        (block.model, block.dataset, method, metric): value
        for block, own in found.values.items()
        for method, scores in own.items()
        for metric, value in scores.items()
    }
    wanted = {(*key[:3], THESIS_METRICS.get(key[3], key[3])): value for key, value in paper.lookup().items()}
    assert told == wanted
    assert {block.protocol for block in found.values} == {"thesis"}
    metrics = metrics_of({name for own in wanted for name in [own[3]]}, "thesis", {}, {})
    assert json.loads(path.read_text(encoding="utf-8")) == of_thesis(metrics, THESIS_METRICS)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": "dix-printed", "version": 9}', b"[" * 100_000])
def test_other_printed_files_are_named(two: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copytree(two / "all", tmp_path / "all")
    (tmp_path / "all" / "printed").mkdir()
    (tmp_path / "all" / "printed" / "x.json").write_bytes(content)
    assert list(collection(tmp_path / "all").refused) == ["printed/x.json"]


def test_versions_of_protocols_come_from_their_configuration() -> None:
    found = version_of([])
    assert found("nobody's") is None
    assert found("thesis_auc") == found("thesis") >= 2


def test_the_commands(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "collection" / "printed", tmp_path / "all" / "printed")
    assert main(["pack", str(two / "first-store"), "--output", str(tmp_path / "first.pack")]) == 0
    capsys.readouterr()
    assert main(["submit", str(tmp_path / "first.pack"), str(tmp_path / "all")]) == 0
    assert "first-" in capsys.readouterr().out
    assert main(["leaderboard", str(tmp_path / "all"), "--output", str(tmp_path / "page")]) == 0
    assert "consistent halves" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"index.html", "leaderboard.csv"}
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "57.13" in page  # DIX3 on NEG, ResNet-101, as the thesis prints it
    assert main(["leaderboard", str(tmp_path / "nothing")]) == 1
    assert "no collection" in capsys.readouterr().err


needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None or browser.DRIVER is None, reason="needs chromium and chromedriver on the PATH"
)
HOSTILE = """<script>alert('x')</script>"><img src=x onerror=alert(1)>{{7*7}}"""


@pytest.fixture(scope="module")
def page(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a collection with runs, printed values and hostile names."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(two / "all", folder / "all")
    shutil.copytree(ROOT / "collection" / "printed", folder / "all" / "printed")
    hostile = {**METHODS, HOSTILE.replace("/", "|"): engine_jobs.Brightness(label=HOSTILE)}
    model = HOSTILE.replace("/", "|")
    packed(made_store(folder / "bad", methods=hostile, model=model), folder / "bad.pack", "bad")
    submit(folder / "bad.pack", folder / "all", look, VERSIONS)
    found = board(collection(folder / "all"))
    write_atomic(folder / "index.html", render(found, HOSTILE))
    return folder / "index.html"


def test_the_page_loads_nothing_and_escapes_every_name(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert len(re.findall(r"<script", text)) == 1
    assert "<img" not in text
    assert "default-src 'none'" in text
    assert [link for link in re.findall(r'href="([^"]*)"', text) if link[0] != "#"] == ["data:,", "leaderboard.csv"]


SHOWN = "return [...document.querySelectorAll(arguments[0])].filter(part => part.offsetParent !== null).length"
SET = """const field = document.querySelector(arguments[0]); field.value = arguments[1];
field.dispatchEvent(new Event('input', {bubbles: true}))"""
ROWS = "#blocks tbody tr"


@needs_browser
def test_the_page_filters_sorts_and_switches_in_chromium(page: Path, tmp_path: Path) -> None:
    with browser.page(tmp_path / "profile") as opened:
        opened.open(page)
        assert opened.run("return document.querySelector('input[name=protocol]:checked').value") == "tested"
        assert opened.run(SHOWN, ROWS) == 10  # three methods twice, four of the hostile run
        opened.run(SET, "#model", "halves")
        assert opened.run(SHOWN, ROWS) == 6
        opened.run(SET, "#method", "broken")
        assert opened.run(SHOWN, ROWS) == 2
        opened.run("document.querySelector('input[name=badge][value=verified]').click()")
        assert opened.run(SHOWN, ROWS) == 1
        state = opened.run("return location.hash")
        opened.run("document.querySelector('button[type=reset]').click()")
        opened.run("location.hash = arguments[0]", state)
        opened.wait("return document.querySelector('#model').value === 'halves'")
        assert opened.run(SHOWN, ROWS) == 1  # a link keeps what was chosen
        opened.run("document.querySelector('button[type=reset]').click()")
        opened.wait("return document.querySelector('#model').value === '' && location.hash === ''")
        opened.run("document.querySelector('input[name=protocol][value=thesis]').click()")
        assert opened.run(SHOWN, ROWS) == sum(len(own) for own in _printed_blocks().values())
        heads = "return [...document.querySelectorAll('#overall .sheet:not(.off) th button')].map(b => b.textContent)"
        assert opened.run(heads) == ["Method", "mean rank", "groups", "blocks"]
        opened.run("document.querySelectorAll('#overall .sheet:not(.off) th button')[1].click()")
        column = "#overall .sheet:not(.off) tbody tr')].map(r => +r.cells[1].dataset.v)"
        values = opened.run(f"return [...document.querySelectorAll('{column}")
        assert values == sorted(values)
        opened.run(SET, "#metric", "neg")
        assert opened.run(SHOWN, "#blocks thead th[data-metric]:not([data-metric=neg])") == 0
        assert opened.console() == []


def _printed_blocks() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for model, dataset, method, _ in paper.lookup():
        found.setdefault((model, dataset), set()).add(method)
    return found


@needs_browser
def test_the_page_by_keyboard_on_a_phone_and_in_the_dark(page: Path, tmp_path: Path) -> None:
    with browser.page(tmp_path / "profile", 375, 812) as opened:
        opened.open(page)
        opened.keys("/broken")
        assert opened.run("return document.activeElement.id") == "method"
        assert opened.run(SHOWN, ROWS) == 3
        opened.keys("\ue00c")
        assert opened.run(SHOWN, ROWS) == 10
        focused = []
        for _ in range(6):
            opened.keys("\ue004")
            focused.append(opened.run("return document.activeElement.name || document.activeElement.id || 'link'"))
        assert "protocol" in focused or "dataset" in focused
        assert opened.run("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
        background = "return getComputedStyle(document.body).backgroundColor"
        light = sum(map(int, re.findall(r"\d+", opened.run(background))))
        opened.dark()
        assert sum(map(int, re.findall(r"\d+", opened.run(background)))) < 100 < 700 < light
        assert opened.console() == []
        assert opened.run("return performance.getEntriesByType('resource').map(e => e.name)") in ([], ["data:,"])
