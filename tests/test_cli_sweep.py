"""Sweeps: launchers' settings, what each process takes of the machine, and jobs that die."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey
from dix.cli.config import CONF, composed
from dix.cli.run import check_launcher
from dix.cli.session import device_of, threads_of
from dix.cli.task import key_of

LAUNCHERS = sorted(path.stem for path in (CONF / "hydra" / "launcher").glob("*.yaml"))


@pytest.mark.parametrize("launcher", [*LAUNCHERS, "joblib"])
def test_every_launcher_composes_and_its_settings_fit_together(launcher: str) -> None:
    config = composed([f"hydra/launcher={launcher}"])
    assert "_target_" in config.hydra.launcher
    check_launcher(config.hydra.launcher)
    assert config.hydra.sweeper.max_batch_size <= 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["timeout_min=2", "signal_delay_s=120"], r"at least signal_delay_s \+ 90 seconds, got timeout_min=2"),
        (["timeout_min=1", "signal_delay_s=0"], "timeout_min=1 and signal_delay_s=0.*after 0 s"),
        (["max_num_timeout=0"], "max_num_timeout: expected at least 1, got 0"),
    ],
)
def test_slurm_settings_that_would_end_a_job_at_once_are_refused(settings: list[str], message: str) -> None:
    config = composed(["hydra/launcher=slurm", *(f"hydra.launcher.{each}" for each in settings)])
    with pytest.raises(ValueError, match=message):
        check_launcher(config.hydra.launcher)


def test_the_shortest_limit_that_leaves_half_a_minute_of_work_is_accepted() -> None:
    config = composed(["hydra/launcher=slurm", "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30"])
    check_launcher(config.hydra.launcher)


def test_jobs_have_names_of_their_own_that_do_not_depend_on_the_machine() -> None:
    keys = {
        key_of(composed(words))
        for words in (
            ["method=[gc]"],
            ["method=[dix1]"],
            ["method=[gc]", "run.shard=[0,2]"],
            ["method=[gc]", "run.shard=[1,2]"],
            ["method=[gc]", "metric=[neg]"],
        )
    }
    assert len(keys) == 5
    same = ["run.batch_size=1", "run.device=cpu", "run.only=failed", "run.limit=3", "run.workers=0"]
    assert key_of(composed(["method=[gc]", *same])) == key_of(composed(["method=[gc]"]))


def test_threads_are_those_of_the_slurm_task_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert (threads_of(0), threads_of(3)) == (0, 3)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert (threads_of(0), threads_of(3)) == (8, 3)


def test_joblib_processes_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto") == "auto"  # not a joblib process
    found = []
    for number in (1, 2, 3):
        monkeypatch.setattr(multiprocessing.current_process(), "name", f"LokyProcess-{number}", raising=False)
        found.append(device_of("auto"))
    assert found == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of("cpu") == "cpu"


def dix(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "dix.cli", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


SMALL = ["metric=[neg]", "run.limit=2", "run.workers=0", "run.threads=1", "run.gallery=0", "run.name=sweep"]


def test_only_failed_runs_a_job_again_that_failed_as_a_whole_and_no_other(tmp_path: Path) -> None:
    """A file of weights is missing at first."""
    sweep = ["run", "-m", *SMALL, "model=efficientnet_lite0"]
    broken = dix(tmp_path, *sweep, "method=random,center", "model.weights=weights.pth")
    assert broken.returncode == 1
    assert broken.stderr.count("dix: failed: ") == 2
    assert "Again, only these: dix run -m" in broken.stderr
    status = dix(tmp_path, "status", "sweep")
    assert status.returncode == 1
    assert status.stdout.count("failed: efficientnet_lite0--") == 2
    mended = dix(tmp_path, *sweep, "method=random,ones", "run.only=failed")
    assert mended.returncode == 1  # the other failed job was not asked for
    assert [line.split(": ")[1].split(" in ")[0] for line in mended.stdout.splitlines()] == [
        "2 images, 2 new rows",
        "nothing had failed",
    ]
    assert mended.stderr.count("dix: failed: ") == 1


@pytest.mark.slow
def test_a_joblib_process_that_is_killed_cancels_nobody_and_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "method"
    folder.mkdir(parents=True)
    (folder / "deadly.yaml").write_text("deadly:\n  _target_: support.slurm_node.Deadly\n  label: deadly\n")
    launcher = ["hydra/launcher=joblib_local", "hydra.launcher.n_jobs=2", "method=deadly,random,center,ones"]
    result = dix(tmp_path, "run", "-m", *SMALL, *launcher, "--config-dir=mine")
    assert result.returncode == 1
    [line] = [line for line in result.stderr.splitlines() if line.startswith("dix: failed: ")]
    assert "its process ended without an error message 3 times" in line
    cells = {cell.method: cell.done for cell in survey(ResultStore(tmp_path / "results" / "sweep")).cells}
    assert cells == {"deadly": 0, "random": 2, "center": 2, "ones": 2}


def test_merge_and_status_by_name(tmp_path: Path) -> None:
    cell = StoredCell("m", "d", "gc", "neg", "p", {"steps": 10})
    for name, image in (("laptop", "a"), ("cluster", "b")):
        store = ResultStore(tmp_path / "results" / name)
        store.open([cell])
        store.append(cell.group, [Row(cell.digest, image, 1.0)])
    merged = dix(tmp_path, "merge", "laptop", "cluster", "all")
    assert (merged.returncode, merged.stdout) == (0, "results/all: 2 rows added, 0 were there already\n")
    status = dix(tmp_path, "status", "all")
    assert status.returncode == 0
    assert "all: 2 of 2 rows (100.0 %), complete" in status.stdout
    assert json.loads(dix(tmp_path, "status", "all", "--json").stdout)["missing"] == 0
    other = ResultStore(tmp_path / "results" / "older")
    other.open([StoredCell("m", "d", "gc", "neg", "p", {"steps": 25})])
    refused = dix(tmp_path, "merge", "older", "all")
    assert refused.returncode == 1
    assert "steps: stored 10, wanted 25" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_handing_jobs_over_loads_no_torch() -> None:
    code = "import sys, dix.cli.run as r; r.composed(['model=resnet101']); import dix.bench.store.status; "
    subprocess.run([sys.executable, "-c", f"{code}assert 'torch' not in sys.modules"], check=True, timeout=120)
