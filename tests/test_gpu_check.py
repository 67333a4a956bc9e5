"""The page about a machine with a GPU: its steps run on any machine, which is all that can be told without one."""

from __future__ import annotations

from pathlib import Path

import gpu_check
import pandas as pd
import pytest

from dix.bench.run import rates


def test_its_steps_run_on_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs are equal, there is a difference for each method and metric, and each way has a line."""
    monkeypatch.setattr(rates, "WAYS", {name: way for name, way in rates.WAYS.items() if name != "compiled"})
    monkeypatch.setattr(gpu_check, "METRICS", ["neg", "adp"])
    small = ["--models", "lenet5", "--networks", "lenet5", "--methods", "gc,dix1", "--images", "1", "--batch", "2"]
    words = ["--device", "cpu", *small, "--steps", "agreement,speed", "--out", str(tmp_path)]
    assert gpu_check.main(words) == 0
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "lenet5: 4 rows; two runs on cpu are equal." in page
    assert "| dix1 | 0.0000 | 0.0000 |" in page
    assert all(way in page for way in rates.WAYS)
    assert "all steps held" in capsys.readouterr().out


def test_a_number_that_only_one_of_both_has_is_no_agreement() -> None:
    """NEG: 0.5 apart at most. POS: the second image's is missing there. INS: no number on either side."""
    names = ["method", "metric", "image"]
    keys = [("gc", metric, image) for metric in ("neg", "pos", "ins") for image in ("a", "b")]
    nan = float("nan")
    cpu = pd.Series([1.0, 2.0, 3.0, 4.0, nan, nan], pd.MultiIndex.from_tuples(keys, names=names))
    there = pd.Series([1.0, 2.5, 3.0, nan, nan, nan], cpu.index)
    assert gpu_check._differences(cpu, there)[2:] == ["| gc | - | 0.5000 | inf |"]
    assert gpu_check._differences(cpu, there.drop(keys[3]))[2:] == ["| gc | - | 0.5000 | inf |"]
