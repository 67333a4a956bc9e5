"""A user's own method and metric, from their files in the current folder to the last table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dix.bench.store.results import ResultStore
from dix.cli import COMMANDS, main

CODE = '''
from dataclasses import dataclass
from functools import partial
from typing import ClassVar


@dataclass(frozen=True)
class MeanMap:
    label: ClassVar[str] = "MEANMAP"
    higher_is_better: ClassVar[bool] = True
    extra: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = False
    probe: ClassVar[None] = None

    def score(self, case, trace):
        from dix.metrics.api import Scores
        return Scores.of(case.maps.mean(dim=(1, 2)))

    def summary(self, value, parts, curve):
        from dix.metrics.api import mean_summary
        return partial(mean_summary, value)


@dataclass(frozen=True)
class Pooled(MeanMap):
    """A metric whose score is no mean of values."""

    label: ClassVar[str] = "POOLED"

    def score(self, case, trace):
        from dix.metrics.api import Scores
        mean = case.maps.mean(dim=(1, 2))
        return Scores.of(mean, parts=mean[:, None])


@dataclass(frozen=True)
class Mine:
    label: str = "My method"
    extra: bool = True

    def unsupported(self, classifier):
        return ""

    def explain(self, passes):
        return passes.activation("last").mean(dim=1)
'''
#: Lies beside the configurations, not in the current folder.
BESIDE = """
from dix.datasets.mnist import Mnist
from dix.datasets.subset import select


def few():
    return select(Mnist(part="train"), "random:20")
"""
WORDS = ["model=lenet5", "dataset=mnist", "method=[gc,mine]", "run.limit=4", "run.workers=0"]
OWN = ["--config-dir", "my_conf"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def script(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The console script, which has no folder of its own on the import path."""
    path = Path(sys.executable).with_name("dix")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([path, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


@contextmanager
def as_script(folder: Path) -> Iterator[None]:
    """In the folder, as a console script is: nothing of it can be imported before a command sees to that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(folder))])
        for name in ("own_parts", "beside_conf"):
            patch.delitem(sys.modules, name, raising=False)
        yield


def dix(*words: str, folder: Path) -> Done:
    """A command as the console script runs it, but in this process: one start takes longer than most commands."""
    said, complaints = StringIO(), StringIO()
    with as_script(folder), redirect_stdout(said), redirect_stderr(complaints):
        code = main(list(words))
    return Done(code, said.getvalue(), complaints.getvalue())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own parts, their configurations and the results `own`."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "own_parts.py").write_text(CODE, encoding="utf-8")
    for group, name, kind in (
        ("method", "mine", "Mine"),
        ("metric", "meanmap", "MeanMap"),
        ("metric", "pooled", "Pooled"),
    ):
        (folder / "my_conf" / group).mkdir(parents=True, exist_ok=True)
        (folder / "my_conf" / group / f"{name}.yaml").write_text(f"{name}:\n  _target_: own_parts.{kind}\n")
    (folder / "my_conf" / "beside_conf.py").write_text(BESIDE, encoding="utf-8")
    (folder / "my_conf" / "dataset").mkdir()
    (folder / "my_conf" / "dataset" / "few.yaml").write_text("_target_: beside_conf.few\n")
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(folder / "picture.png")
    for start, more in ((script, ["run.name=own"]), (dix, ["run.name=protocols", "protocol=[thesis,corrected]"])):
        done = start("run", *WORDS, "metric=[ins,meanmap]", *more, *OWN, folder=folder)
        assert done.returncode == 0, done.stderr
    return folder


def means(folder: Path, method: str, metric: str) -> float:
    """The mean of a cell's stored values, by pandas alone."""
    rows = ResultStore(folder / "results" / "own").rows()
    return float(rows[(rows["method"] == method) & (rows["metric"] == metric)]["value"].mean())


@pytest.mark.parametrize("own", [OWN, []], ids=["with its folder", "from the rows alone"])
def test_the_table_prints_own_parts_by_their_labels_and_means(work: Path, own: list[str]) -> None:
    done = dix("report", "own", *own, folder=work)
    assert done.returncode == 0, done.stderr
    table = (work / "results" / "own" / "table.md").read_text(encoding="utf-8")
    heads = [line for line in table.splitlines() if "My method" in line and line.startswith("|")]
    lines = [line for line in table.splitlines() if "MEANMAP" in line and line.startswith("|")]
    assert heads
    assert lines
    assert " mine " not in heads[0]
    csv = pd.read_csv(work / "results" / "own" / "table.csv", comment="#")
    for method in ("gc", "mine"):
        [row] = csv[(csv["method"] == method) & (csv["metric"] == "meanmap")].to_dict("records")
        np.testing.assert_allclose(row["value"], means(work, method, "meanmap"), rtol=1e-6)
    assert ("shown as the mean of the stored values: meanmap" in done.stdout) is (not own)


def test_a_metric_whose_score_is_no_mean_says_what_it_needs(work: Path) -> None:
    words = ["run.results=results/pooled", "metric=[pooled]"]
    assert dix("run", *WORDS, *words, *OWN, folder=work).returncode == 0
    without = dix("report", "pooled", folder=work)
    assert without.returncode == 1
    assert "'pooled' is not one of this installation's" in without.stderr
    assert "--config-dir" in without.stderr
    assert dix("report", "pooled", *OWN, folder=work).returncode == 0


#: For each command: its words, what it prints, and whether it builds the parts (others only read what is stored).
COMMANDS_WITH_OWN = [
    (["run", *WORDS, "metric=[meanmap]", "run.name=again"], "8 new rows", True),
    (["list", "method"], "mine", False),
    (["estimate", *WORDS, "metric=[meanmap]", "--images", "4"], "4 images", True),
    (["check", "model=lenet5", "dataset=mnist", "metric=[meanmap]"], "metric meanmap on lenet5", True),
    (["check", "model=lenet5", "dataset=mnist", "method=[mine]"], "method mine on lenet5", True),
    (["explain", "picture.png", "--model", "lenet5", "--method", "mine"], "overview.png", True),
    (["figures", "figure1", *WORDS, "dataset.subset=null", "run.results=drawn"], "figure1.pdf", True),
    (["sanity", "parameters", *WORDS, "run.results=randomised", "sanity.repeats=1"], "sanity.md", True),
    (["sanity", "report", "randomised"], "sanity.md", False),
    (["train", "model=lenet5", "dataset=few", "train.epochs=1", "train.out=few.safetensors"], "1 epochs", True),
    (["bench", "methods", "model=lenet5", "dataset=mnist", "method=[mine]", "--batch", "2"], "lenet5", True),
    (["verify", "own", "--sample", "4"], "4 of 4 rows are the same", True),
    (["status", "own"], "complete", False),
    (["report", "own"], "index.html", True),
    (["report", "--compare", "own", "own"], "MEANMAP", True),
    (["decide", "own"], "decisions.md", True),
    (["sensitivity", "protocols"], "sensitivity.md", True),
    (["merge", "own", "merged"], "rows added", False),
    (["export", "own", "--output", "-"], "mine,meanmap", False),
    (["pack", "own", "--output", "own.pack"], "own.pack", False),
    (["clean", "own", "--method", "mine", "--dry-run"], "2 cells with 8 rows would be removed", False),
    (["rename", "merged", "renamed"], "renamed now", False),
]


@pytest.fixture
def here(work: Path) -> Iterator[None]:
    """In the folder with own parts."""
    with as_script(work):
        yield


@pytest.mark.parametrize(("words", "said", "builds"), COMMANDS_WITH_OWN, ids=lambda given: str(given)[:40])
@pytest.mark.usefixtures("here")
def test_every_command_finds_own_parts(
    words: list[str], said: str, builds: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, *OWN])
    told = capsys.readouterr()
    assert code == 0, told.out + told.err
    assert said in told.out + told.err
    assert (str(Path.cwd() / "my_conf") in sys.path) >= builds


def test_every_command_that_takes_configurations_is_tried() -> None:
    """`tables` has a test of its own, for want of the thesis's data."""
    builds = {
        "run",
        "check",
        "estimate",
        "explain",
        "figures",
        "sanity",
        "train",
        "bench",
        "verify",
        "report",
        "decide",
    }
    reads = {"list", "status", "sensitivity", "merge", "export", "clean", "rename", "pack"}
    assert {words[0] for words, _, _ in COMMANDS_WITH_OWN} == builds | reads <= {*COMMANDS}


@pytest.mark.usefixtures("here")
def test_the_thesis_tables_take_own_parts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIX_DATA", str(Path.cwd() / "nothing"))
    assert main(["tables", "table1", "method=[mine]", *OWN]) == 1
    assert "imagenet" in capsys.readouterr().out


def test_verify_needs_the_folder_or_trust(work: Path) -> None:
    without = dix("verify", "own", "--sample", "8", folder=work)
    assert without.returncode == 1
    assert "own_parts." in without.stderr
    assert dix("verify", "own", "--sample", "8", "--trust", folder=work).returncode == 0


def test_the_reason_of_a_missing_module_is_kept(work: Path) -> None:
    (work / "my_conf" / "method" / "gone.yaml").write_text("gone:\n  _target_: my_package.Gone\n")
    done = dix("run", "method=[gone]", *OWN, folder=work)
    assert done.returncode == 1
    assert "method.gone: my_package.Gone: No module named 'my_package'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("start", [["dix"], [sys.executable, "-m", "dix.cli"]], ids=["script", "module"])
def test_folders_of_any_name_beside_the_user_break_nothing(start: list[str], tmp_path: Path) -> None:
    names = ("conf", "datasets", "metrics", "baselines", "hydra_plugins", "torch", "hydra", "numpy", "json", "PIL")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the {name} of the current folder')\n")
    first = str(Path(sys.executable).with_name(start[0])) if start[0] == "dix" else start[0]
    words = ["run", "model=lenet5", "dataset=mnist", "method=[gc]", "metric=[ins]", "run.limit=2", "run.workers=2"]
    more = [["verify", "run", "--sample", "2"], ["list"]] if start[0] != "dix" else []
    for line in (words, ["report", "run"], *more):
        done = subprocess.run([first, *start[1:], *line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
