"""The command line as a user meets it: real commands, their messages and exit codes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dix.cli import main
from dix.cli.config import files
from dix.cli.listing import about, facts

DIX = [sys.executable, "-m", "dix.cli"]
SMALL = ["model=efficientnet_lite0", "method=[gc,random]", "metric=[neg,pos]", "run.limit=2", "run.workers=0"]


def dix(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DIX, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the results `small` in it."""
    folder = tmp_path_factory.mktemp("work")
    result = dix("run", *SMALL, "run.name=small", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_a_second_run_says_that_everything_is_stored(folder: Path) -> None:
    result = dix("run", *SMALL, "run.name=small", folder=folder)
    assert result.returncode == 0
    assert "everything is stored already" in result.stdout


def test_a_run_ends_with_its_scores_and_the_next_command(folder: Path) -> None:
    """NEG and POS are means of the images' values, which an export tells."""
    told = dix("run", *SMALL, "run.name=small", folder=folder).stdout.splitlines()
    rows = pd.read_csv(io.StringIO(dix("export", "small", "--output", "-", folder=folder).stdout))
    means = rows.groupby(["method", "metric"])["value"].mean()
    for method in ("gc", "random"):
        [line] = [line.split() for line in told if line.split()[:1] == [method]]
        assert line[1:] == [f"{means[method, metric]:.2f}" for metric in ("neg", "pos")]
    assert "2 images:" in "\n".join(told)
    assert told[-1].endswith("dix report small")


def test_nothing_but_results_is_written(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["results"]
    assert sorted(path.name for path in (folder / "results" / "small").iterdir())[:2] == ["images", "store"]


def test_report_writes_every_document_twice_with_the_same_bytes(folder: Path) -> None:
    names = ("table.csv", "table.md", "table.tex", "index.html", "claims.csv")
    contents = []
    for _ in range(2):
        result = dix("report", "small", folder=folder)
        assert result.returncode == 0, result.stderr
        contents.append([(folder / "results" / "small" / name).read_bytes() for name in names])
    assert contents[0] == contents[1]
    assert b"GC" in contents[0][1]


def test_another_identity_in_the_same_folder_is_refused(folder: Path) -> None:
    result = dix("run", *SMALL, "run.name=small", "protocol.seed=1", folder=folder)
    assert result.returncode == 1
    assert "seed: stored 0, wanted 1" in result.stderr
    assert "nothing stored was touched" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "model=resnt101"], "did you mean 'resnet101'"),
        (["run", "run.batch_size=0"], "run.batch_size: expected an integer of at least 1, got 0"),
        (["run", "run.device=cuda:99"], "run.device"),
        (["run", "model=resnet101", "model.weights=missing.pth"], "model.weights: no file missing.pth"),
        (["report", "nothing"], "no results in 'nothing'"),
        (["list", "methods"], "no group called 'methods'"),
    ],
)
def test_mistakes_get_one_clear_message(words: list[str], message: str, tmp_path: Path) -> None:
    result = dix(*words, folder=tmp_path)
    assert result.returncode not in (0, None)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_truncated_weights_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 truncated")
    result = dix("run", "model=resnet50", "model.weights=weights.pth", folder=tmp_path)
    assert result.returncode == 1
    assert "weights.pth cannot be read" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = dix("--debug", "run", "model=resnet50", "model.weights=missing.pth", folder=tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_a_results_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    result = dix("run", *SMALL, folder=tmp_path)
    assert result.returncode == 1
    assert "results" in result.stderr
    assert "Traceback" not in result.stderr


def test_list_names_every_group() -> None:
    result = subprocess.run([*DIX, "list"], capture_output=True, text=True, check=True)
    for word in ("efficientnet_lite0", "dix3", "photos", "neg", "thesis", "demo"):
        assert word in result.stdout


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from dix.cli import main
from dix.cli.config import files
from dix.cli.listing import about, facts
try:
    main(["--help"])
except SystemExit:
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_sweep_goes_on_past_a_failing_job_and_says_so(tmp_path: Path) -> None:
    words = ["run", "-m", *SMALL[1:], "model=resnet50,efficientnet_lite0", "run.name=sweep", "++model.weights=package"]
    result = dix(*words, folder=tmp_path)
    assert result.returncode == 1
    assert "resnet50" in result.stderr
    assert "run.only=failed" in result.stderr
    assert "efficientnet_lite0--photos--thesis: 2 images" in result.stdout


def test_the_list_says_where_every_method_and_metric_is_from_and_what_it_is_held_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A paper with its year, the thesis, what it is equal to, or that it is a control."""
    own = {"contrast", "gig_alone"}  # of this suite's, and a way to compute another
    known = r"\b(19|20)\d\d\b|thesis|Control|Ablation|docs/|equal to"
    for group, most in (("method", 40), ("metric", 20)):
        assert main(["list", group]) == 0
        about = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
        assert len(about) > most
        assert [name for name, text in about.items() if not re.search(known, text) and name not in own] == []


@pytest.mark.parametrize("group", ["method", "metric"])
def test_of_every_method_and_metric_it_is_known_what_it_was_verified_against_and_how_it_deviates(group: str) -> None:
    """A paper with its year, or that there is none; for known deviations as well, so that nobody forgets to ask."""
    for name, path in files(group).items():
        said = facts(path)
        assert set(said) == {"paper", "verified", "deviates"}, name
        assert re.search(r"\b(19|20)\d\d\b|thesis|^none: ", said["paper"]), name
        year = re.search(r"\(.*\b((?:19|20)\d\d)[):;]", about(path))
        assert year is None or "the release" in said["paper"] or year[1] in said["paper"], name


def test_the_list_tells_all_that_is_known_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "method", "gc", "ig"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.startswith("gc: Grad-CAM (Selvaraju et al., ICCV 2017)")
    for fact in (
        "paper             Selvaraju",
        "verified against  pytorch-grad-cam",
        "known deviations  the paper is about",
    ):
        assert fact in first
    assert "  steps=25" in second.splitlines()
    assert main(["list", "method", "grad-cam"]) == 1
    assert "no method called 'grad-cam'; did you mean 'gc'?" in capsys.readouterr().err
    assert main(["list", "metods"]) == 1
    assert "did you mean 'method'?" in capsys.readouterr().err
