"""A result in one file: what comes out is what went in, and nothing else does."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from support.packs import QUICK, forged, listed, look, made_pack, made_store, members_of, packed, sealed

from dix.bench.share import container
from dix.bench.share.container import BadPack, fits, read
from dix.bench.share.pack import looked_into, unpack
from dix.bench.share.shape import misfit
from dix.bench.share.summaries import summaries_of
from dix.bench.store.columns import SCHEMA
from dix.bench.store.results import ResultStore
from dix.bench.tables.build import scores
from dix.cli import main


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack."""
    return made_pack(tmp_path_factory.mktemp("packs"))


def test_what_comes_out_is_what_went_in(whole: Path, tmp_path: Path) -> None:
    unpack(whole, tmp_path / "out")
    before, after = (ResultStore(folder) for folder in (whole.parent / "made-store", tmp_path / "out"))
    pd.testing.assert_frame_equal(before.rows(), after.rows())
    assert before.cells() == after.cells()
    for kind in ("jobs", "origins", "clean"):
        assert before.read_json(kind) == after.read_json(kind)
    assert after.damaged() == []


def test_scores_alone_are_those_of_the_whole_table(tmp_path: Path) -> None:
    """A pack's summaries are made without the tests, ranks and claims of a report."""
    found = look(made_store(tmp_path / "made"))
    [plan] = found.plans.values()
    names = ("model", "dataset", "protocol", "method", "metric")
    alone, together = (
        sorted(summaries_of(cells), key=lambda one: tuple(one[name] for name in names))
        for cells in (scores(found.evidence, plan, QUICK), found.table.cells.values())
    )
    assert len(alone) == 12
    assert alone == together


def test_equal_stores_give_equal_bytes(whole: Path, tmp_path: Path) -> None:
    again = packed(ResultStore(whole.parent / "made-store"), tmp_path / "again.pack")
    assert again.read_bytes() == whole.read_bytes()
    unpack(whole, tmp_path / "out")
    assert packed(ResultStore(tmp_path / "out"), tmp_path / "third.pack").read_bytes() == whole.read_bytes()


def test_paths_of_the_machine_stay_behind(whole: Path) -> None:
    assert not any(b"/somewhere/private" in content for content in members_of(whole).values())
    with looked_into(whole) as (_, store):
        [record] = store.read_json("provenance")
    assert record["config"]["dataset"] == {"name": "made", "root": "~"}


def test_pictures_stay_behind_unless_asked_for(tmp_path: Path) -> None:
    store = made_store(tmp_path / "made", gallery=1)
    assert list((tmp_path / "made" / "images").rglob("*.png"))
    main(["pack", str(tmp_path / "made"), "--output", str(tmp_path / "bare.pack")])
    main(["pack", str(tmp_path / "made"), "--output", str(tmp_path / "rich.pack"), "--pictures"])
    assert not any(name.startswith("images") for name in members_of(tmp_path / "bare.pack"))
    shown = {name for name in members_of(tmp_path / "rich.pack") if name.startswith("images")}
    kept = {path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made" / "images").rglob("*.*")}
    assert shown == kept
    assert store.damaged() == []


def test_a_pack_with_any_byte_changed_is_refused(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    path = tmp_path / "changed.pack"
    path.write_bytes(content)
    places = {*range(0, len(content), 7), *range(400), *range(len(content) - 400, len(content))}
    with path.open("r+b", buffering=0) as stream:
        for place in sorted(places):
            for bit in (1, 128):
                stream.seek(place)
                stream.write(bytes([content[place] ^ bit]))
                with pytest.raises(BadPack):
                    read(path)
            stream.seek(place)
            stream.write(content[place : place + 1])
    assert read(path).manifest == read(whole).manifest


@pytest.mark.parametrize("length", [0, 1, 21, 79, 80, 500, -1, -64, -65, -80, -81])
def test_a_pack_cut_off_or_continued_is_refused(whole: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "other.pack"
    path.write_bytes(whole.read_bytes()[:length])
    with pytest.raises(BadPack, match="cut off"):
        unpack(path, tmp_path / "out")
    path.write_bytes(whole.read_bytes() + b"x" * max(1, abs(length)))
    with pytest.raises(BadPack):
        unpack(path, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_newer_version_says_so(whole: Path, tmp_path: Path) -> None:
    newer = forged(whole, tmp_path / "newer.pack", lambda manifest: manifest.update(version=2, other={}))
    with pytest.raises(BadPack, match=r"newer version .*pack format 2; this one reads up to 1.*newer dix-bench"):
        read(newer)


#: Names that would lead out of a folder, act on a terminal, or become something that is read as code.
NAMES = [
    "../outside", "/absolute", "store/cells/../../../outside.json", "store/cells/x/../y.json", "C:\\x.json",
    "store\\cells\\x.json", "store/rows/../part-" + "0" * 40 + ".parquet", ".hidden", "store/cells/.x.json",
    "images/.git/1/hooks.png", "store/cells/x.py", "store/jobs/x.json\n", "conf/method/x.yaml", "images/a/b/x.svg",
    "images/a/b/../x.png", "images/a/../../x.png", "store/sweeps/last.json", "store/damaged/x.json", "",
    "images/a/b/\x1b[2J.png", "store/cells/" + "x" * 300 + ".json", "pack.json", "manifest.json/x", "index.html",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_hostile_names_are_refused_before_anything_is_written(whole: Path, tmp_path: Path, name: str) -> None:
    assert not fits(name)
    room = tmp_path / "room"
    room.mkdir()
    path = forged(whole, tmp_path / "bad.pack", lambda _: None, **{name: b"{}"})
    with pytest.raises(BadPack):
        unpack(path, room / "out")
    assert list(room.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pack", "room"]


def test_names_that_every_store_writes_have_a_place(whole: Path) -> None:
    assert all(fits(name) for name in members_of(whole) if name != container.MANIFEST)


def bad_packs(whole: Path, folder: Path) -> dict[str, Path]:
    """Packs whose outer checksum is right, by what is to be said of them."""
    members = members_of(whole)
    manifest = members.pop(container.MANIFEST)
    files = [*members.items()]
    first = (container.MANIFEST, manifest)
    other = {**members, files[0][0]: b"changed"}
    twice = folder / "twice.pack"
    with pytest.warns(UserWarning, match="Duplicate name"):
        sealed(twice, [first, *files, files[0]])
    return {
        "compressed": sealed(folder / "a.pack", [first, *files], zipfile.ZIP_DEFLATED),
        "its files are not those of a pack": twice,
        "not those of a pack": sealed(folder / "b.pack", [*files, first]),
        "that its manifest lists": sealed(folder / "c.pack", [first, *files[1:]]),
        "its checksum is wrong": sealed(folder / "d.pack", [first, *other.items()]),
        "not one of a pack": sealed(folder / "e.pack", [(container.MANIFEST, b"[]"), *files]),
        "is no pack": sealed(folder / "f.pack", [(container.MANIFEST, b"[" * 100_000), *files]),
        "files is missing": sealed(folder / "g.pack", [(container.MANIFEST, _without(manifest, "files")), *files]),
    }


def _without(manifest: bytes, key: str) -> bytes:
    return json.dumps({name: value for name, value in json.loads(manifest).items() if name != key}).encode()


def test_what_is_no_pack_is_named(whole: Path, tmp_path: Path) -> None:
    for said, path in bad_packs(whole, tmp_path).items():
        with pytest.raises(BadPack, match=said):
            unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_by_its_size_alone(whole: Path, tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: only a compressed member can be larger than its archive."""
    part = "store/rows/x/part-" + "0" * 40 + ".parquet"
    bomb = sealed(tmp_path / "bomb.pack", [(container.MANIFEST, b"{}"), (part, bytes(2**26))], zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**18
    with pytest.raises(BadPack, match="compressed"):
        read(bomb)


def test_rows_that_are_not_those_of_the_manifest_are_refused(whole: Path, tmp_path: Path) -> None:
    """A forger who changes a row and mends every checksum of files forgets the one over all rows."""
    store = ResultStore(tmp_path / "made")
    with looked_into(whole) as (_, honest):
        [group] = honest.groups()
        for name, record in honest.records.all("cells").items():
            store.write_json("cells", name, record)
        records = honest.parts.read(group, SCHEMA.names).to_pylist()
    records[5]["value"] += 1.0
    store.append_table(group, pa.Table.from_pylist(records, schema=SCHEMA))
    files = {path.relative_to(tmp_path / "made").as_posix(): path for path in (tmp_path / "made").rglob("*.*")}
    members = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    manifest = json.loads(members_of(whole)[container.MANIFEST]) | {"files": listed(members)}
    path = sealed(tmp_path / "x.pack", [(container.MANIFEST, json.dumps(manifest).encode()), *members.items()])
    with pytest.raises(BadPack, match="its rows are not those that it says"):
        unpack(path, tmp_path / "out")


def test_a_folder_in_doubt_is_not_packed(tmp_path: Path) -> None:
    store = made_store(tmp_path / "made")
    [group] = store.groups()
    [part] = store.parts.paths(group)[:1]
    part.write_bytes(part.read_bytes()[:-9])
    assert main(["pack", str(tmp_path / "made"), "--output", str(tmp_path / "x.pack")]) == 1
    assert not (tmp_path / "x.pack").exists()


def test_the_commands_say_where_things_went(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pack", str(whole.parent / "made-store")]) == 0
    assert (tmp_path / "made-store.pack").is_file()
    assert "halves \u00b7 made \u00b7 tested: 3 methods, 4 metrics, 8 images, 96 rows" in capsys.readouterr().out
    assert main(["unpack", "made-store.pack"]) == 0
    assert ResultStore(tmp_path / "results" / "made-store").groups()
    assert main(["unpack", "made-store.pack"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["unpack", "made-store.pack", "--name", "../out"]) == 1
    assert main(["unpack", "nothing.pack"]) == 1
    assert "no file nothing.pack" in capsys.readouterr().err


SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "additionalProperties": False,
    "properties": {
        "a": {"type": "integer", "minimum": 0, "maximum": 9},
        "b": {"type": "array", "maxItems": 2, "items": {"type": ["number", "null"]}},
        "c": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
        "d": {"type": "object", "propertyNames": {"maxLength": 2}, "maxProperties": 1},
        "e": {"enum": ["x", "y"]},
    },
}


@pytest.mark.parametrize(
    "value",
    [{"a": 0}, {"a": 9, "b": [1.5, None]}, {"a": 1, "c": "abc", "d": {"xy": []}, "e": "y"}, {"a": 1, "b": []}],
)
def test_values_of_a_shape(value: Any) -> None:
    assert misfit(value, SHAPE) == ""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the whole: expected object, got list"),
        ({}, ".a is missing"),
        ({"a": True}, "a: expected integer, got bool"),
        ({"a": 1.0}, "a: expected integer, got float"),
        ({"a": -1}, "a: -1 is out of range"),
        ({"a": 10}, "a: 10 is out of range"),
        ({"a": 1, "b": [1, 2, 3]}, "b: a list of 3"),
        ({"a": 1, "b": ["x"]}, "b[0]: expected ['number', 'null'], got str"),
        ({"a": 1, "c": "A"}, "c: 'A' is not of the form ^[a-z]+$"),
        ({"a": 1, "c": "abcd"}, "c: a text of 4 characters"),
        ({"a": 1, "d": {"x": 1, "y": 2}}, "d: a mapping of 2"),
        ({"a": 1, "d": {"xyz": 1}}, "d: the name: a text of 3 characters"),
        ({"a": 1, "e": "z"}, "e: expected ['x', 'y'], got 'z'"),
        ({"a": 1, "f": 1}, ": 'f' is unknown"),
    ],
)
def test_values_of_another_shape(value: Any, said: str) -> None:
    assert misfit(value, SHAPE) == said
