"""Results of several protocols in one folder: columns side by side in every format; and those of an older version."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
from support import engine_jobs as parts
from test_cli_report import filled, read_csv, record

from dix.bench.run.evaluate import evaluate
from dix.bench.store.errors import StaleResults
from dix.bench.store.results import ResultStore
from dix.cli import main

VALUES = {
    "thesis": {"gc": [40.0, 42.0, 44.0], "dix3": [50.0, 55.0, 60.0]},
    "bee": {"gc": [70.5] * 3, "dix3": [20.25] * 3},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for protocol, scores in VALUES.items():
        about = record("mine", "resnet50", "photos", job=f"resnet50--photos--{protocol}", protocol=protocol)
        about["config"]["protocol"]["name"] = protocol
        cells = {("resnet50", "photos", method, "neg"): numbers for method, numbers in scores.items()}
        filled(tmp_path, cells, [about], protocol=protocol)
    return tmp_path


def test_every_format_has_a_column_for_each_protocol(folder: Path) -> None:
    assert main(["report", str(folder)]) == 0
    lines = {line["method"]: line for line in read_csv(folder / "protocols.csv")}
    means = {m: {p: sum(VALUES[p][m]) / 3 for p in VALUES} for m in ("gc", "dix3")}
    assert {m: {p: float(lines[m][p]) for p in VALUES} for m in lines} == {
        m: pytest.approx(v) for m, v in means.items()
    }
    text = (folder / "table.md").read_text(encoding="utf-8")
    section = text[text.index("## Protocols side by side") : text.index("## What the protocol decides")]
    rows = list(csv.reader(section.splitlines(), delimiter="|"))
    [header] = [[cell.strip() for cell in row] for row in rows if "Method" in "".join(row)]
    assert header[1:-1] == ["Metric", "Method", "bee", "thesis"]
    assert any("**70.50**" in row[3] and "42.00" in row[4] for row in rows if len(row) > 4)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert '<section id="protocols">' in page
    assert "a column for each protocol" in (folder / "table.tex").read_text(encoding="utf-8")


def test_one_protocol_has_no_such_section(tmp_path: Path) -> None:
    filled(tmp_path, {("resnet50", "photos", "gc", "neg"): [1.0, 2.0]}, [record("mine", "resnet50", "photos")])
    assert main(["report", str(tmp_path)]) == 0
    assert "Protocols side by side" not in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert not (tmp_path / "protocols.csv").exists()


def test_results_of_an_older_version_are_refused_by_name_and_can_still_be_reported(tmp_path: Path) -> None:
    old = parts.job()
    evaluate(old, ResultStore(tmp_path))
    new = dataclasses.replace(old, protocol=dataclasses.replace(old.protocol, version=2))
    with pytest.raises(StaleResults, match=r"protocol\.version: stored 1, wanted 2"):
        evaluate(new, ResultStore(tmp_path))
    assert main(["report", str(tmp_path)]) == 0
    assert len(read_csv(tmp_path / "table.csv")) >= 12
