"""Whatever bits flip in a store, the table is the same or the file is named; nothing raises or changes in silence."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import store_writers as made

from dix.bench.store import records as records_of_files
from dix.bench.store import rows as rows_of_parts
from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.doubts import doubts
from dix.bench.store.errors import StaleResults
from dix.bench.store.ledger import Ledger, Undertaking
from dix.bench.store.results import ResultStore
from dix.bench.store.shapes import SHAPES
from dix.bench.store.status import survey

FLIPS = 2200
CELLS = [
    StoredCell(model, "d", method, metric, "p", {"steps": [1, 2.5], "method": method})
    for model in ("m", "my--net")
    for method in ("gc", "ig")
    for metric in ("neg", "pos")
]

#: A row's value, parts, curve, reason and note, by cell digest and image.
Found = dict[tuple[str, str], tuple[float, tuple[float, ...], tuple[float, ...], str, str]]


class Written(NamedTuple):
    """A store, what each part holds, and every record by its file."""

    store: Path
    parts: dict[Path, Found]
    records: dict[Path, tuple[str, str]]
    cells: dict[Path, str]


def row(cell: StoredCell, image: str, chance: random.Random) -> Row:
    value, parts, curve = chance.uniform(0, 100), (chance.random(), chance.random()), (0.25, chance.randrange(8) / 8)
    return Row(cell.digest, image, value, parts, curve, note="constant map", content="c" * 32, origin="o")


def found(row: Row) -> tuple[float, tuple[float, ...], tuple[float, ...], str, str]:
    return (row.value, tuple(row.parts), tuple(row.curve), row.reason, row.note)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Two models, eight cells, 24 rows each in three parts, and a record of every kind."""
    chance, parts = random.Random(0), dict[Path, Found]()
    store = ResultStore(tmp_path)
    store.open(CELLS)
    for model in ("m", "my--net"):
        own = [cell for cell in CELLS if cell.model == model]
        for start in (0, 8, 16):
            before = set(store.folder.rglob("*.parquet"))
            rows = [row(cell, f"image{i:02d}", chance) for cell in own for i in range(start, start + 8)]
            ResultStore(tmp_path).append(own[0].group, rows)
            [new] = set(store.folder.rglob("*.parquet")) - before
            parts[new] = {(r.cell, r.image): found(r) for r in rows}
        digests = [cell.digest for cell in own]
        with Ledger(store, Undertaking("", model, model, "d", "p", [0, 1], 24, digests, 3, 24), 1.0):
            pass
    names = CELLS[0].group._asdict()
    store.write_json("failures", "one", {**names, "job": "m", "method": "lc", "images": ["image00"], "message": "no"})
    store.write_json("skips", "one", {**names, "method": "t_attr", "reason": "no attention"})
    store.write_json("unread", "one", {**names, "dataset": "other", "images": {"image99": "truncated"}})
    store.write_json("clean", "one", {"job": "m", "model": "m", "dataset": "d", "right": {"image00": True}})
    store.write_json("provenance", "one", made.provenance())
    store.write_json("origins", "o", {"device": "cpu", "threads": 1})
    judged = {"method": "gc", "weights": "random", "images": 24, "machine": "one", "seconds": 1.5}
    store.write_json("validations", "one", {**names, **judged})
    store.write_json("sweeps", "last", {"jobs": 2, "words": ["method=gc,ig"]})
    store.write_json("orders", "d 0", {"dataset": "d", "seed": 0, "images": ["image01", "image00"]})
    rule = {"order": "d 0", "compare": "pairs", "alpha": 0.05, "least": 25, "batch_size": 8}
    compared = {"comparisons": [["neg", "gc", "ig"]], "bounds": {"neg": [0.0, 90.0], "sic": None}}
    store.write_json("sequences", "one", {**names, **rule, **compared})
    records = {store.records.path(kind, name): (kind, name) for kind in SHAPES for name in store.names(kind)}
    cells = {store.records.path("cells", cell.key): cell.digest for cell in CELLS}
    return Written(tmp_path, parts, records, cells)


def table(store: ResultStore) -> Found:
    """What the store gives."""
    rows: Found = {}
    for group in store.groups():
        for r in store.table(group).to_pylist():
            rows[r["cell"], r["image"]] = (r["value"], tuple(r["parts"]), tuple(r["curve"]), r["reason"], r["note"])
    return rows


def expected(written: Written, damaged: Path | None) -> Found:
    """What was written, without a part or a cell."""
    rows = {key: value for part, own in written.parts.items() if part != damaged for key, value in own.items()}
    lost = written.cells.get(damaged) if damaged else None
    return {key: value for key, value in rows.items() if key[0] != lost}


def records(store: ResultStore) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(kind, name): record for kind in SHAPES for name, record in store.records.all(kind).items()}


def check(written: Written, path: Path, whole: Mapping[tuple[str, str], Mapping[str, Any]]) -> bool:
    """Whether the damage of a file was named, after which exactly that file is missing; if not, nothing is."""
    store = ResultStore(written.store)
    rows, there, status = table(store), records(store), survey(store)
    named = bool(store.damaged())
    assert store.damaged() == ([path.name] if named else [])
    assert rows == expected(written, path if named else None)
    missing = {written.records[path]} if named and path in written.records else set()
    assert there == {key: record for key, record in whole.items() if key not in missing}
    if named:
        assert not status.sound
        assert any(path.name in line for line in doubts(status))
        lost = len(written.parts.get(path, ()))
        assert status.total("missing") == status.total("lost") == lost
        if path in written.cells:
            assert any("no record in cells/" in line or "without a record" in line for line in doubts(status))
    else:
        assert status.sound
    return named


def restore(written: Written, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    (written.store / "store" / "damaged" / path.name).unlink(missing_ok=True)


def test_the_store_is_what_was_written(written: Written) -> None:
    store = ResultStore(written.store)
    assert table(store) == expected(written, None)
    assert len(written.parts) == 6
    assert {kind for kind, _ in written.records.values()} == set(SHAPES)
    assert survey(store).sound
    assert survey(store).total("missing") == 0


def test_random_bit_flips_are_harmless_or_named(written: Written) -> None:
    chance = random.Random(1)
    whole = records(ResultStore(written.store))
    parts, texts = sorted(written.parts), sorted(written.records)
    contents = {path: path.read_bytes() for path in [*parts, *texts]}
    named = 0
    for turn in range(FLIPS):
        path = chance.choice(parts if turn % 2 else texts)
        content = bytearray(contents[path])
        first = max(0, len(content) - 300) if turn % 4 == 1 else 0  # every other part: in its footer
        content[chance.randrange(first, len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        named += check(written, path, whole)
        restore(written, path, contents[path])
    assert named > FLIPS * 0.9  # in JSON some bits change nothing that is said


@pytest.mark.parametrize("seed", range(4))
def test_cut_zeroed_and_doubled_stretches_are_harmless_or_named(written: Written, seed: int) -> None:
    chance = random.Random(seed)
    whole = records(ResultStore(written.store))
    for path in [chance.choice(sorted(written.parts)), chance.choice(sorted(written.records))]:
        content = path.read_bytes()
        place = chance.randrange(1, len(content) - 20)
        for other in (
            content[:place],
            content[:place] + bytes(16) + content[place + 16 :],
            content[:place] + content[place - 1 :],
            b"",
            content + b"more",
        ):
            path.write_bytes(other)
            check(written, path, whole)
            restore(written, path, content)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "null", "5", '"text"', "[" * 100_000, '{"cells": 5}', '{"state": "finished"}', "NaN"]
)
@pytest.mark.parametrize("kind", ["jobs", "cells", "failures", "unread"])
def test_json_of_the_wrong_shape_is_set_aside_and_named(written: Written, kind: str, content: str) -> None:
    path = next(path for path, (own, _) in sorted(written.records.items()) if own == kind)
    whole = records(ResultStore(written.store))
    path.write_text(content)
    assert check(written, path, whole)


@pytest.mark.parametrize(
    "change",
    [
        {"cells": "abc"},
        {"count": -1},
        {"count": 10**400},
        {"shard": [3, 2]},
        {"shard": [0]},
        {"state": "done"},
        {"seconds": "long"},
        {"seconds": float("nan")},
        {"attempts": True},
        {"batches": 1.5},
    ],
)
def test_a_record_with_a_right_checksum_and_a_wrong_shape_is_set_aside(
    written: Written, change: Mapping[str, Any]
) -> None:
    """Checksums find accidents; whoever makes a folder by hand can compute them."""
    path, (_, name) = next((p, key) for p, key in sorted(written.records.items()) if key[0] == "jobs")
    whole = records(ResultStore(written.store))
    made.forge(written.store, "jobs", name, {**whole["jobs", name], **change})
    assert check(written, path, whole)


def test_a_cell_whose_digest_is_not_its_own_is_set_aside(written: Written) -> None:
    """Another identity under an old digest would give old rows a new meaning."""
    path = sorted(written.cells)[0]
    whole = records(ResultStore(written.store))
    kind, name = written.records[path]
    record = {**whole[kind, name], "identity": {"steps": [1, 99], "method": "gc"}}
    made.forge(written.store, kind, name, record)
    store = ResultStore(written.store)
    assert table(store) == expected(written, path)
    assert store.damaged() == [path.name]


def test_a_record_under_anothers_name_is_set_aside(written: Written) -> None:
    first, second = sorted(written.cells)[:2]
    second.write_bytes(first.read_bytes())
    store = ResultStore(written.store)
    assert table(store) == expected(written, second)
    assert store.damaged() == [second.name]


def test_missing_cell_records_are_said(written: Written) -> None:
    for path in sorted(written.cells):
        path.unlink()
    status = survey(ResultStore(written.store))
    assert not status.sound
    text = "\n".join(doubts(status))
    assert text.count("no record in cells/ says whose rows these are") == 2
    assert text.count("4 of its 4 cells have no record in cells/") == 2


def test_a_missing_part_is_said_by_what_the_jobs_promised(written: Written) -> None:
    sorted(written.parts)[0].unlink()
    status = survey(ResultStore(written.store))
    assert (status.total("lost"), status.sound) == (32, False)
    assert doubts(status) == [
        "lost: 32 rows that finished jobs had stored are gone; run the same jobs again to restore them"
    ]


def test_rows_of_a_removed_cell_do_not_come_back(written: Written) -> None:
    """Whoever removes a cell's record wants its rows computed again."""
    cell = CELLS[0]
    store = ResultStore(written.store)
    store.records.path("cells", cell.key).unlink()
    store.open([cell])
    left = {key: value for key, value in expected(written, None).items() if key[0] != cell.digest}
    assert table(store) == left
    assert sorted(store.damaged()) == sorted(path.name for path in written.parts if path.parent.name[:3] == "m--")
    store.append(cell.group, [row(cell, "image00", random.Random(7))])
    assert len(table(ResultStore(written.store))) == len(left) + 1


def test_rows_of_a_cell_whose_record_was_damaged_are_kept(written: Written) -> None:
    """The rows carry the hash of the whole identity, so a run with the same one knows whose they are."""
    cell = CELLS[0]
    path = ResultStore(written.store).records.path("cells", cell.key)
    path.write_bytes(path.read_bytes()[:-30])
    store = ResultStore(written.store)
    assert table(store) == expected(written, path)
    store.open([cell])
    assert table(store) == expected(written, None)


def test_a_file_with_the_right_columns_under_another_name_is_set_aside(written: Written) -> None:
    part = sorted(written.parts)[0]
    copy = part.with_name("my-copy.parquet")
    copy.write_bytes(part.read_bytes())
    store = ResultStore(written.store)
    assert table(store) == expected(written, None)
    assert store.damaged() == ["my-copy.parquet"]


def test_a_part_that_unpacks_to_too_much_is_set_aside(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered, since making the real thing takes gigabytes too; its numbers shrink a thousandfold."""
    monkeypatch.setattr(rows_of_parts, "MOST_NUMBERS", 2**22)
    bomb = made.bomb(ResultStore(written.store), CELLS[0], 2**22 + 1)
    assert bomb.stat().st_size < 2**22 * 4 / 1000
    store = ResultStore(written.store)
    assert table(store) == expected(written, None)
    assert store.damaged() == [bomb.name]


@pytest.mark.parametrize("kind", ["cells", "jobs"])
def test_a_record_larger_than_any_is_set_aside_unread(
    written: Written, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = next(path for path, (own, _) in sorted(written.records.items()) if own == kind)
    monkeypatch.setattr(records_of_files, "LARGEST", path.stat().st_size - 1)
    read = Path.read_bytes

    def small(self: Path) -> bytes:
        assert self.stat().st_size < path.stat().st_size
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", small)
    store = ResultStore(written.store)
    store.read_json(kind)
    assert path.name in store.damaged()


def test_a_folder_of_an_earlier_version_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    cell = CELLS[0]
    names = {name: getattr(cell, name) for name in ("model", "dataset", "method", "metric", "protocol")}
    older: dict[str, Any] = {
        "cells/m--d--gc--neg--p.json": {**names, "cell": "0" * 16, "identity": {"steps": 10}, "printed": {}},
        "jobs/m--d--p.json": {"key": "m--d--p", "state": "finished"},
    }
    for place, record in older.items():
        path = tmp_path / "store" / place
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record))
    store = ResultStore(tmp_path)
    reads: Sequence[Any] = (store.cells, lambda: survey(store), lambda: store.open([cell]), store.rows)
    for read in reads:
        with pytest.raises(StaleResults, match=r"m--d--gc--neg--p\.json was written by an earlier version"):
            read()
    assert sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*.json")) == sorted(older)
