"""`dix bench`: rows as they come, in a file, and two files compared only where they measure the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.small_networks import VIT_SIDE, pixels, small_vit

from dix.baselines.ablation import AblationCam
from dix.baselines.fullgrad import FullGrad
from dix.cli import main
from dix.cli.bench_files import COLUMNS, compared, read, written
from dix.cli.bench_libraries import library_seconds

ROW = {
    "kind": "methods",
    "model": "net",
    "batch": "8",
    "row": "gc",
    "machine": "a processor, 2 cores",
    "torch": "2.13",
    "seconds": "0.5",
}


def test_a_bench_prints_its_rows_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.csv"
    words = ["model=lenet5", "method=[gc,ig,dix1]", "dataset=photos", "run.device=cpu"]
    assert main(["bench", "methods", *words, "--batch", "1", "--no-libraries", "--csv", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["method", "gc", "ig", "dix1"]
    assert "from 4 and 8 steps" in lines[3]
    rows = {row["row"]: row for row in read(file)}
    assert list(rows) == ["gc", "ig", "dix1"]
    assert rows["gc"]["kind"] == "methods"
    assert float(rows["dix1"]["literal"]) > 0
    assert rows["gc"]["literal"] == "nan"
    assert main(["bench", "methods", "--compare", str(file), str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[3] == "1.00"


def test_a_library_gets_a_copy_and_says_what_it_cannot() -> None:
    """grad-cam replaces the layer that it ablates, and its FullGrad knows two kinds of layers only."""
    model = small_vit()
    before = [(name, type(module)) for name, module in model.network.named_modules()]
    seconds, note = library_seconds(model, "ac", AblationCam(), pixels(1, VIT_SIDE))
    assert seconds > 0
    assert note.startswith("grad-cam")
    assert [(name, type(module)) for name, module in model.network.named_modules()] == before
    missing, reason = library_seconds(model, "fg", FullGrad(), pixels(1, VIT_SIDE))
    assert math.isnan(missing)
    assert "leaves out the biases of" in reason


def test_files_are_compared_row_by_row(tmp_path: Path) -> None:
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    written(one, [ROW, {**ROW, "row": "ig"}])
    written(other, [{**ROW, "seconds": "0.25", "machine": "another"}])
    lines = list(compared(one, other))
    assert lines[:2] == [f"{one}: a processor, 2 cores, 2.13", f"{other}: another, 2.13"]
    assert lines[3].split() == ["gc", "0.5000", "0.2500", "2.00"]
    assert lines[4:] == [f"only in {one}: ig"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "networks"}, "measure gc in different ways .kind 'methods' and 'networks'.; run both with the same"),
        ({"batch": "4"}, "batch '8' and '4'"),
        ({"row": "ig"}, "no row in common: gc and ig"),
        ({"seconds": "soon"}, "expected a time above 0 in the column seconds, got 'soon'"),
        ({"seconds": "inf"}, "got 'inf'"),
    ],
)
def test_what_is_not_alike_is_not_compared(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    written(one, [ROW])
    written(other, [{**ROW, **changed}])
    with pytest.raises(ValueError, match=message):
        list(compared(one, other))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", ",".join(COLUMNS).encode() + b"\n1,2\n", b"\xff\xfe"])
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.csv"):
        read(file)
    with pytest.raises(ValueError, match="no file"):
        read(tmp_path / "none.csv")
