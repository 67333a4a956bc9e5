"""What five kinds of users do, as the documents tell them, in an empty folder: nothing here repeats a command.

The first, who has a notebook and a network, is in test_notebooks.py.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from support.environments import build
from support.following import ROOT, Step, follow, steps

from dix.bench.store.results import ResultStore

GUIDES = ROOT / "docs" / "guides"
#: Guides that need nothing but an empty folder; one process follows them all.
PLAIN = ("own-method", "own-network", "own-metric", "own-data", "comparing", "rehearsal")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Step]]]:
    """By guide, the folder in which it was followed, and what was done."""
    folders = {guide: tmp_path_factory.mktemp(guide) for guide in PLAIN}
    done = follow({folder: steps(GUIDES / f"{guide}.md") for guide, folder in folders.items()})
    return {guide: (folder, done[folder]) for guide, folder in folders.items()}


def well(done: list[Step], guide: str) -> list[Step]:
    """The same steps, if all of the guide were done, and each went well."""
    assert [(step.what, step.said[-2000:]) for step in done if step.code] == []
    assert len(done) == len(steps(GUIDES / f"{guide}.md"))
    return done


def table(folder: Path, name: str) -> str:
    return (folder / "results" / name / "table.md").read_text(encoding="utf-8")


def test_author_of_a_method(followed: dict[str, tuple[Path, list[Step]]]) -> None:
    folder, done = followed["own-method"]
    said = {step.what.split(" ")[1]: step.said for step in well(done, "own-method") if step.what.startswith("dix ")}
    assert "FAILS" not in said["check"]
    assert "120 new rows" in said["run"], "20 images, 3 methods, 2 metrics"
    assert "Consensus" in table(folder, "consensus")


@pytest.mark.parametrize(
    ("guide", "name", "shown"),
    [
        ("own-network", "shapes", "shapes\\_net"),
        ("own-metric", "half", "half left"),
        ("own-data", "squares", "mIoU"),
        ("comparing", "seeds", "lenet5\\_1"),
    ],
)
def test_author_of_another_part(
    guide: str, name: str, shown: str, followed: dict[str, tuple[Path, list[Step]]]
) -> None:
    folder, done = followed[guide]
    assert not [step for step in well(done, guide) if "FAILS" in step.said]
    assert shown in table(folder, name)


def test_cluster_user_rehearses(followed: dict[str, tuple[Path, list[Step]]]) -> None:
    """The jobs themselves go through a real SLURM in test_slurm_sweep.py."""
    folder, done = followed["rehearsal"]
    well(done, "rehearsal")
    stores = [ResultStore(folder / "results" / name) for name in ("rehearsal", "all")]
    whole, joined = (store.rows().drop(columns="origin") for store in stores)  # which process computed a row differs
    assert len(whole) == 40 * 2 * 2
    pd.testing.assert_frame_equal(whole, joined, check_exact=True)


def test_package_with_plugins(tmp_path: Path) -> None:
    """Its files are built into a wheel and installed beside this environment; commands run in another folder."""
    guide = steps(GUIDES / "plugin.md")
    files = dict(step[1] for step in guide if step[0] == "file")
    for path, text in files.items():
        (tmp_path / "package" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "package" / path).write_text(text, encoding="utf-8")
    with zipfile.ZipFile(build(tmp_path / "package", "wheel", tmp_path / "dist")) as wheel:
        wheel.extractall(tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir()
    commands = [step for step in guide if step[0] == "command"]
    done = follow({work: commands}, installed=tmp_path / "site")[work]
    assert [(step.what, step.said[-2000:]) for step in done if step.code] == []
    assert len(done) == len(commands)
    assert "Brightness: bright pixels count" in done[0].said
    assert "Brightness" in table(work, "bright")


def test_reader_who_checks_a_published_table(tmp_path: Path) -> None:
    kept = ROOT / "results" / "embedded"
    if not (kept / "store").is_dir():
        pytest.skip("results/embedded is kept without its rows")
    shutil.copytree(kept, tmp_path / "results" / "embedded")
    done = follow({tmp_path: steps(GUIDES / "checking.md")})[tmp_path]
    [verified] = [step for step in done if step.what.startswith("dix verify")]
    assert [step.said[-2000:] for step in done if step.code and step is not verified] == []
    # Another processor rounds in another way, which may move a share of tied pixels or masked classes by a whole step.
    assert any(f"{same} of 5 rows are the same" in verified.said for same in (3, 4, 5)), verified.said[-2000:]
    assert "stored" not in verified.said or "method." not in verified.said  # and what they are has not changed
