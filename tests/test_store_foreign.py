"""Folders from strangers: what leads out of them, hangs, or unpacks to gigabytes is refused by name."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support import store_writers as made

from dix.bench.store import foreign
from dix.bench.store.cells import NAMES, Group, StoredCell, checked_name, file_name
from dix.bench.store.columns import Row
from dix.bench.store.merge import merge
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey
from dix.cli import main

CELL = StoredCell("m", "d", "gc", "neg", "p", {"steps": 10})


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A results folder with a row, a record and a picture, in a folder of its own."""
    folder = tmp_path / "stranger"
    store = ResultStore(folder)
    store.open([CELL])
    store.append(CELL.group, [Row(CELL.digest, "a", 1.0)])
    store.write_json("provenance", "job", made.provenance())
    picture = folder / "images" / CELL.group.folder / "00000"
    picture.mkdir(parents=True)
    (picture / "photo.png").write_bytes(png(8, 8))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file.png").write_bytes(png(8, 8))
    return folder


def png(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels (ISO/IEC 15948)."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_honest_folder_is_merged_with_its_pictures(stranger: Path, tmp_path: Path) -> None:
    merge([ResultStore(stranger)], ResultStore(tmp_path / "mine"))
    assert ResultStore(tmp_path / "mine").rows()["value"].tolist() == [1.0]
    assert (tmp_path / "mine" / "images" / CELL.group.folder / "00000" / "photo.png").read_bytes() == png(8, 8)


def _link_out(folder: Path) -> Path:
    path = folder / "images" / "more.png"
    path.symlink_to(folder.parent / "secret" / "file.png")
    return path


def _linked_folder(folder: Path) -> Path:
    path = folder / "images" / "more"
    path.symlink_to(folder.parent / "secret", target_is_directory=True)
    return path


def _linked_room(folder: Path) -> Path:
    path = folder / "store" / "jobs"
    path.symlink_to(folder.parent / "secret", target_is_directory=True)
    return path


def _linked_record(folder: Path) -> Path:
    path = folder / "store" / "provenance" / "x.json"
    path.symlink_to("/etc/hostname")
    return path


def _linked_nowhere(folder: Path) -> Path:
    path = folder / "store" / "provenance" / "x.json"
    path.symlink_to(folder / "not there")
    return path


def _circle(folder: Path) -> Path:
    path = folder / "images" / "round.png"
    path.symlink_to(path)
    return path


def _pipe(folder: Path) -> Path:
    """Whoever opens it to read waits for ever."""
    path = folder / "store" / "rows" / CELL.group.folder / "part-x.parquet"
    os.mkfifo(path)
    return path


def _program(folder: Path) -> Path:
    path = folder / "images" / "run.sh"
    path.write_text("#!/bin/sh\n")
    return path


def _large_picture(folder: Path) -> Path:
    path = folder / "images" / "large.png"
    path.write_bytes(png(100_000, 100_000))
    return path


def _no_picture(folder: Path) -> Path:
    path = folder / "images" / "large.png"
    path.write_bytes(b"<svg/>")
    return path


def _large_text(folder: Path) -> Path:
    path = folder / "images" / "about.json"
    with path.open("wb") as file:
        file.truncate(2**20 + 1)  # takes no room on the disk
    return path


def _large_archive(folder: Path) -> Path:
    path = folder / "images" / "strips.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("maps.npy", "w") as file:
        for _ in range(65):
            file.write(bytes(2**20))
    return path


def _no_archive(folder: Path) -> Path:
    path = folder / "images" / "strips.npz"
    path.write_bytes(b"PK")
    return path


@pytest.mark.parametrize(
    "plant",
    [
        _link_out, _linked_folder, _linked_room, _linked_record, _linked_nowhere, _circle, _pipe, _program,
        _large_picture, _no_picture, _large_text, _large_archive, _no_archive,
    ],
)  # fmt: skip
def test_what_must_not_be_taken_is_named_and_nothing_is_merged(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path], Path]
) -> None:
    monkeypatch.setattr(foreign, "UNPACKED", 2**26)
    planted, before = plant(stranger), content(stranger)
    with pytest.raises(ValueError, match="nothing was merged") as error:
        merge([ResultStore(stranger)], ResultStore(tmp_path / "mine"))
    assert str(planted) in str(error.value)
    assert not (tmp_path / "mine").exists()
    assert content(stranger) == before


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "..",
    "a/b",
    "a\\b",
    "",
    "x" * 201,
    "two\nlines",
    "\x1b[31mred",
    " x",
    "x ",
    "x\x00y",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", NAMES)
def test_a_cell_with_a_hostile_name_is_set_aside(stranger: Path, tmp_path: Path, field: str, name: str) -> None:
    record = {**CELL.record(), field: name}
    made.forge(stranger, "cells", "anything", record)
    merge([ResultStore(stranger)], ResultStore(tmp_path / "mine"))
    assert len(ResultStore(stranger).damaged()) == 1
    assert len(ResultStore(tmp_path / "mine").cells()) == 1
    with pytest.raises(ValueError, match=r"key: expected 1 to 200 printable"):
        checked_name(name, "key")


@pytest.mark.parametrize("name", ["../../../outside", "/tmp/outside", "a/../../b", "x" * 5000, "..", "\x1b[2J"])
def test_names_of_records_lead_nowhere(stranger: Path, tmp_path: Path, name: str) -> None:
    """A record may have any name: its file is called by what is left of it and a hash."""
    made.forge(stranger, "provenance", name, made.provenance(device="x"))
    before = {path for path in tmp_path.rglob("*") if tmp_path / "mine" not in path.parents}
    merge([ResultStore(stranger)], ResultStore(tmp_path / "mine"))
    assert {path for path in tmp_path.rglob("*") if tmp_path / "mine" not in path.parents} - {
        tmp_path / "mine"
    } == before
    [path] = [p for p in (tmp_path / "mine" / "store" / "provenance").iterdir() if not p.name.startswith("job")]
    assert len(path.name) < 120
    assert ResultStore(tmp_path / "mine").json("provenance", name) == made.provenance(device="x")


def test_file_names_differ_where_names_do(tmp_path: Path) -> None:
    names = [
        ("a", "b--c"),
        ("a--b", "c"),
        ("a b", "c"),
        ("a_b", "c"),
        ("a/b", "c"),
        ("a", "b", "c"),
        ("é", "c"),
        ("è", "c"),
    ]
    assert len({file_name(*words) for words in names}) == len(names)
    assert all("/" not in file_name(*words) and not file_name(*words).startswith(".") for words in names)


def test_the_command_names_damage_in_what_it_merged_and_fails(
    stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(stranger), str(tmp_path / "mine")]) == 0
    part = next(stranger.rglob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    assert main(["merge", str(stranger), str(tmp_path / "other")]) == 1
    assert part.name in capsys.readouterr().out


def test_a_name_with_dashes_is_a_name_like_others(tmp_path: Path) -> None:
    """Two cells whose joined names are the same text stay two."""
    cells = [
        StoredCell("my--net", "d", "gc", "neg", "p", {}),
        StoredCell("my", "net--d", "gc", "neg", "p", {}),
    ]
    store = ResultStore(tmp_path)
    store.open(cells)
    for i, cell in enumerate(cells):
        store.append(cell.group, [Row(cell.digest, "a", float(i))])
    assert store.groups() == [Group("my", "net--d", "p"), Group("my--net", "d", "p")]
    rows = store.rows().sort_values("value")
    assert rows[["model", "dataset"]].values.tolist() == [["my--net", "d"], ["my", "net--d"]]
    assert [cell.done for cell in survey(store).cells] == [1, 1]
