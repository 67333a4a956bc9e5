"""Rows that contradict each other: which one counts depends on no score, and everybody says that they are there."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import store_writers as made

from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.doubts import doubts
from dix.bench.store.results import NO_NUMBER, ResultStore
from dix.bench.store.rows import SMALL_PARTS
from dix.bench.store.status import survey
from dix.cli import main

CELL = StoredCell("m", "d", "gc", "neg", "p", {"steps": 10})


def opened(folder: Path) -> ResultStore:
    store = ResultStore(folder)
    store.open([CELL])
    return store


def row(value: float, image: str = "a", **more: str) -> Row:
    return Row(CELL.digest, image, value, **more)  # type: ignore[arg-type]


def winner(folder: Path, rows: Sequence[Row]) -> float:
    """The value that counts, of rows of one image that are stored one after the other by different processes."""
    opened(folder)
    for one in rows:
        ResultStore(folder).append(CELL.group, [one])
    [value] = ResultStore(folder).rows()["value"]
    return float(value)


def test_lower_and_higher_values_win_equally_often(tmp_path: Path) -> None:
    """400 images with two values each: the number of lower ones that count is binomial, 200 with a deviation of 10."""
    store, chance = opened(tmp_path), random.Random(0)
    first = [row(chance.uniform(0, 100), f"{i}") for i in range(400)]
    second = [row(one.value - 5, one.image) for one in first]
    store.append(CELL.group, first)
    store.append(CELL.group, second)
    values = dict(zip(store.rows()["image"], store.rows()["value"], strict=True))
    assert abs(sum(values[one.image] == one.value for one in first) - 200) < 5 * 10
    assert store.conflicts().total == 400


def test_rows_of_one_origin_win_together(tmp_path: Path) -> None:
    """A mixture of two runs would belong to neither."""
    store = opened(tmp_path)
    for origin, shift in (("one", 0.0), ("another", 5.0)):
        store.append(CELL.group, [row(i + shift, f"{i:02d}", origin=origin) for i in range(30)])
    rows = store.rows()
    assert len(set(rows["origin"])) == 1
    shift = 0.0 if rows["origin"][0] == "one" else 5.0
    assert rows["value"].tolist() == [i + shift for i in range(30)]


@pytest.mark.parametrize("origin", [f"run {i}" for i in range(8)])
def test_rows_that_do_not_say_what_computed_them_lose(tmp_path: Path, origin: str) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [row(1.0, "a"), row(9.0, "b")])
    store.append(CELL.group, [row(2.0, "a", origin=origin), row(8.0, "b", origin=origin)])
    assert store.rows()["value"].tolist() == [2.0, 8.0]


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 1e300, -1e300])
def test_values_that_are_none_never_win(tmp_path: Path, bad: float) -> None:
    for i, rows in enumerate(itertools.permutations([row(bad), row(50.0)])):
        assert winner(tmp_path / f"{i}", rows) == 50.0
        assert ResultStore(tmp_path / f"{i}").conflicts().total == 1


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_value_that_is_none_is_excluded_with_a_reason(tmp_path: Path, bad: float) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [row(bad), row(float("nan"), "b", reason="no mask"), row(1.0, "c")])
    rows = store.rows()
    assert rows["reason"].tolist() == [NO_NUMBER, "no mask", ""]
    assert rows["value"].isna().tolist() == [True, True, False]
    assert store.table(CELL.group)["reason"].to_pylist() == [NO_NUMBER, "no mask", ""]


def test_the_same_row_counts_before_and_after_parts_are_put_together_and_merged(tmp_path: Path) -> None:
    from dix.bench.store.merge import merge

    store, chance = opened(tmp_path / "a"), random.Random(1)
    for i in range(SMALL_PARTS - 1):
        store.append(CELL.group, [row(chance.random() * 100, f"{j}") for j in range(i % 7 + 1)])
    before = store.rows()
    store.compact(CELL.group)
    assert len(store.parts.paths(CELL.group)) == 1
    assert store.rows().equals(before)
    merge([store], ResultStore(tmp_path / "b"))
    assert ResultStore(tmp_path / "b").rows().equals(before)


@pytest.mark.parametrize(
    ("other", "conflict"),
    [
        (Row(CELL.digest, "a", 50.0 + 1e-4, [1.0], [0.5]), False),  # the order of sums
        (Row(CELL.digest, "a", 50.0 + 1e-2, [1.0], [0.5]), True),
        (Row(CELL.digest, "a", 50.0, [1.1], [0.5]), True),
        (Row(CELL.digest, "a", 50.0, [1.0], [0.6]), True),
        (Row(CELL.digest, "a", 50.0, [1.0, 2.0], [0.5]), True),
        (Row(CELL.digest, "a", float("nan"), [1.0], [0.5], reason="no mask"), True),
        (Row(CELL.digest, "a", 50.0, [1.0], [0.5], content="x" * 32), False),  # one of the two does not say it
        (Row(CELL.digest, "a", 50.0, [1.0], [0.5], origin="o"), False),
        (Row(CELL.digest, "a", 50.0, [1.0], [0.5], note="constant map"), False),
    ],
)
def test_what_is_a_conflict(tmp_path: Path, other: Row, conflict: bool) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [Row(CELL.digest, "a", 50.0, [1.0], [0.5])])
    store.append(CELL.group, [other, row(1.0, "b")])
    assert store.conflicts().total == int(conflict)
    assert survey(store).sound is not conflict


def test_rows_about_different_contents_of_an_image_are_a_conflict(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [row(50.0, content="x" * 32)])
    store.append(CELL.group, [row(50.0, content="y" * 32)])
    assert store.conflicts().total == 1
    assert store.contents(CELL.group) == {"a": "x" * 32}


def test_conflicts_are_counted_by_image_and_cell_and_described(tmp_path: Path) -> None:
    other = StoredCell("m", "d", "ig", "neg", "p", {"steps": 10})
    store = opened(tmp_path)
    store.open([other])
    for shift in (0.0, 5.0, 10.0):  # three rows of an image are one conflict
        rows = [row(50 + shift, image) for image in ("a", "b")]
        store.append(CELL.group, [*rows, Row(other.digest, "a", 1.0 + shift), Row(other.digest, "b", 1.0)])
    found = store.conflicts()
    assert found.count == {CELL.digest: 2, other.digest: 1}
    [line] = doubts(survey(store))
    assert line.startswith("conflict: 3 images of 2 cells are stored twice with different results")
    assert "2 in gc neg of m · d · p, 1 in ig neg of m · d · p" in line


def test_origins_are_counted_and_what_differs_between_them_is_said(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name, chunk in (("one", 8), ("two", 32)):
        store.write_json("origins", name, {"device": "cpu", "chunk": chunk})
    store.append(CELL.group, [row(1.0, "a", origin="one"), row(2.0, "b", origin="one"), row(3.0, "c", origin="two")])
    assert store.origins(CELL.group) == {CELL.digest: {"one": 2, "two": 1}}
    status = survey(store)
    assert status.mixtures == ("m · d · p: 1 cells with rows of 2 origins (chunk: 8, 32)",)
    assert status.sound  # a mixture within the tolerance is no fault


def test_status_report_and_verify_say_it_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.whole(tmp_path, 4)
    store = ResultStore(tmp_path)
    store.write_json("provenance", "job", made.provenance())
    group = store.groups()[0]
    assert main(["status", str(tmp_path)]) == 0
    [cell] = [cell for cell in store.cells() if (cell["method"], cell["metric"]) == ("random", "neg")]
    rows = store.table(group, cells={cell["cell"]}).to_pylist()
    store.append(group, [Row(r["cell"], r["image"], r["value"] - 5, r["parts"], r["curve"]) for r in rows])
    capsys.readouterr()
    said = "conflict: 4 images of 1 cells are stored twice with different results"
    assert main(["status", str(tmp_path)]) == 1
    assert said in capsys.readouterr().out
    assert main(["verify", str(tmp_path), "--sample", "0"]) == 1
    assert said in capsys.readouterr().out


def test_many_different_rows_are_settled_like_a_slow_second_implementation(tmp_path: Path) -> None:
    """For each place the row that is first by (unusable, nameless, hash of origin, hash of row) counts."""
    from dix.bench.store.columns import table_of
    from dix.bench.store.conflicts import fingerprints

    chance = random.Random(3)
    rows = [
        Row(CELL.digest, chance.choice("abcdef"), value, origin=chance.choice(["x", "y", ""]))
        for value in chance.choices([1.0, 2.0, float("inf")], k=60)
    ]
    store = opened(tmp_path)
    store.append(CELL.group, rows)
    table = store.parts.read(CELL.group, table_of(rows).column_names)
    prints = fingerprints(table).tolist()
    best: dict[str, tuple[bool, bool, int, int, float]] = {}
    for one, number in zip(table.to_pylist(), prints, strict=True):
        origin = one["origin"]
        rank = (one["value"] == float("inf"), not origin, made.hash_of(origin), number, one["value"])
        best[one["image"]] = min(best.get(one["image"], rank), rank)
    expected = {image: rank[4] for image, rank in best.items()}
    found = dict(zip(store.rows()["image"], store.rows()["value"].fillna(float("inf")), strict=True))
    assert found == expected
    assert statistics.mean(found.values()) < float("inf")
