"""What `dix new` writes is whole: its test passes as it is, and its part runs to the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dix.cli import main
from dix.cli.new import KINDS

NAMES = {kind: f"my_{kind}" for kind in KINDS}


def test_every_part_begins_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, name in NAMES.items():
        assert main(["new", kind, name]) == 0
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    tests = [f"test_{name}.py" for name in NAMES.values()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "7 passed" in done.stdout or "8 passed" in done.stdout
    words = [f"{kind}={name}" if kind in ("model", "dataset") else f"{kind}=[{name}]" for kind, name in NAMES.items()]
    script = str(Path(sys.executable).with_name("dix"))
    for line in (["run", *words, "run.name=own", "run.workers=0", "run.limit=3"], ["report", "own"]):
        done = subprocess.run(
            [script, *line, "--config-dir", "my_conf"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    table = (tmp_path / "results" / "own" / "table.md").read_text(encoding="utf-8")
    assert "MyMethod" in table
    assert "MyMetric" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method", "gc"], "this suite has its own method 'gc'"),
        (["method", "torch"], "is the name of an installed package"),
        (["method", "json"], "is the name of an installed package"),
        (["metric", "My-Metric"], "expected small letters, digits and _, as in my_metric"),
        (["metric", "class"], "expected small letters"),
        (["model", "mine"], "mine.py is there already; nothing was written"),
    ],
)
def test_names_that_cannot_be(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    assert main(["new", *words]) == 1
    assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.py"}
