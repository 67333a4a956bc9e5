"""The page about a machine with a GPU: its steps run on any machine, which is all that can be told without one."""

from __future__ import annotations

from pathlib import Path

import gpu_check
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
