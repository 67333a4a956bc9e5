"""The store: atomic, resumable, never counting a row twice, never touching what it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.errors import StaleResults, differing
from dix.bench.store.results import ResultStore

CELL = StoredCell("m", "d", "gc", "neg", "p", {"weights": "abc", "steps": 10})


def rows(*images: str, value: float = 1.0) -> list[Row]:
    return [Row(CELL.digest, image, value, parts=[1.0, 2.0], curve=[0.5]) for image in images]


def opened(folder: Path) -> ResultStore:
    store = ResultStore(folder)
    store.open([CELL])
    return store


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [Row(CELL.digest, "b", 0.1 + 0.2, [1 / 3], [0.25, 0.5], "", "constant map")])
    store.append(CELL.group, [Row(CELL.digest, "a", float("nan"), reason="no mask")])
    frame = store.rows()
    assert frame["image"].tolist() == ["a", "b"]
    assert frame["value"].iloc[1] == 0.1 + 0.2
    assert frame["parts"].iloc[1].tolist() == [1 / 3]
    assert frame["curve"].iloc[1].tolist() == [0.25, 0.5]
    assert frame["reason"].tolist() == ["no mask", ""]
    assert frame["note"].tolist() == ["", "constant map"]
    assert frame[["model", "dataset", "method", "metric", "protocol"]].drop_duplicates().values.tolist() == [
        ["m", "d", "gc", "neg", "p"]
    ]


def test_a_row_stored_twice_counts_once(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for _ in range(2):
        store.append(CELL.group, rows("a", "b"))
    assert store.rows()["image"].tolist() == ["a", "b"]
    assert store.done(CELL.group) == {CELL.digest: {"a", "b"}}


@pytest.mark.parametrize("damage", [b"", b"PAR1 and then nothing", None])
def test_a_damaged_part_is_set_aside_and_its_rows_are_missing(tmp_path: Path, damage: bytes | None) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, rows("a"))
    first = next((store.folder / "rows").rglob("*.parquet"))
    content = first.read_bytes()
    store.append(CELL.group, rows("b"))
    first.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert store.done(CELL.group) == {CELL.digest: {"b"}}
    assert store.damaged() == [first.name]
    assert (store.folder / "damaged" / first.name).read_bytes() == (
        content[: len(content) // 2] if damage is None else damage
    )


def test_half_written_files_are_never_seen(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, rows("a"))
    (store.folder / "rows" / CELL.group.folder / ".part-x.parquet.tmp").write_bytes(b"half")
    assert store.done(CELL.group) == {CELL.digest: {"a"}}
    assert not store.damaged()


def test_other_identity_by_the_same_names_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, rows("a"))
    other = StoredCell("m", "d", "gc", "neg", "p", {"weights": "abc", "steps": 25})
    with pytest.raises(StaleResults, match=r"steps: stored 10, wanted 25"):
        store.open([other])
    assert store.rows()["image"].tolist() == ["a"]


def test_rows_of_an_unknown_identity_are_not_reported(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [Row("0" * 16, "a", 1.0)])
    assert store.rows().empty


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match=r"run\.results: cannot write .*results"):
        ResultStore(tmp_path / "results").open([CELL])


def test_differing_names_nested_keys() -> None:
    assert differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c: stored 2, wanted 3",
        "d: stored None, wanted 4",
    ]


def test_json_records_are_replaced_and_forgotten(tmp_path: Path) -> None:
    store = opened(tmp_path)
    one = {**CELL.group._asdict(), "job": "job", "method": "gc", "images": ["a"], "message": "one"}
    store.write_json("failures", "job", one)
    store.write_json("failures", "job", one | {"message": "two"})
    assert store.read_json("failures") == [one | {"message": "two"}]
    (store.folder / "failures" / "bad.json").write_text("{")
    assert store.read_json("failures") == [one | {"message": "two"}]
    assert store.damaged() == ["bad.json"]
    store.forget("failures", "job")
    store.forget("failures", "job")
    assert store.read_json("failures") == []
    assert [cell["cell"] for cell in store.cells()] == [CELL.digest]
