"""What five kinds of users do, as the documents tell them, in an empty folder: nothing here repeats a command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.following import ROOT, Step, follow, steps

from dix.bench.store.results import ResultStore

GUIDES = ROOT / "docs" / "guides"


def followed(document: Path, folder: Path) -> list[Step]:
    """All steps of a document, each of which must go well."""
    return well(follow(steps(document), folder), len(steps(document)))


def well(done: list[Step], count: int) -> list[Step]:
    """The same steps, if there are so many and each went well."""
    assert [(step.what, step.said[-2000:]) for step in done if step.code] == []
    assert len(done) == count
    return done


def test_author_of_a_method(tmp_path: Path) -> None:
    done = followed(GUIDES / "own-method.md", tmp_path)
    said = {step.what.split(" ")[1]: step.said for step in done if step.what.startswith("dix ")}
    assert "FAILS" not in said["check"]
    assert "Consensus" in (tmp_path / "results" / "consensus" / "table.md").read_text(encoding="utf-8")
    # 20 images x 3 methods x 2 metrics
    assert "120 new rows" in said["run"]


@pytest.mark.parametrize(
    ("guide", "table", "shown"),
    [
        ("own-network", "shapes", "shapes\\_net"),
        ("own-metric", "half", "half left"),
        ("own-data", "squares", "mIoU"),
        ("comparing", "seeds", "lenet5\\_1"),
    ],
)
def test_author_of_another_part(guide: str, table: str, shown: str, tmp_path: Path) -> None:
    done = followed(GUIDES / f"{guide}.md", tmp_path)
    assert not [step for step in done if "FAILS" in step.said]
    assert shown in (tmp_path / "results" / table / "table.md").read_text(encoding="utf-8")


def test_cluster_user_rehearses(tmp_path: Path) -> None:
    """The jobs themselves go through a real SLURM in test_slurm_sweep.py."""
    document = GUIDES / "rehearsal.md"
    followed(document, tmp_path)
    whole, joined = (ResultStore(tmp_path / "results" / name).rows() for name in ("rehearsal", "all"))
    assert len(whole) == 40 * 2 * 2
    pd.testing.assert_frame_equal(whole, joined, check_exact=True)
    [again] = follow(steps(document)[:1], tmp_path)
    assert "0 new rows" in again.said


def test_reader_who_checks_a_published_table(tmp_path: Path) -> None:
    kept = ROOT / "results" / "embedded"
    if not (kept / "store").is_dir():
        pytest.skip("results/embedded is kept without its rows")
    shutil.copytree(kept, tmp_path / "results" / "embedded")
    done = followed(GUIDES / "checking.md", tmp_path)
    [verified] = [step.said for step in done if step.what.startswith("dix verify")]
    assert "5 of 5 rows are the same" in verified
    written = (tmp_path / "results" / "embedded" / "table.csv").read_bytes()
    assert written == (kept / "table.csv").read_bytes(), "the same store gives the same bytes"
