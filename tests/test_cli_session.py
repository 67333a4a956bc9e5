"""The one way from a configuration to a job that runs, and what it takes of the machine."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dix.bench.run import runtime
from dix.cli.config import composed
from dix.cli.session import open_job

CLI = Path(__file__).resolve().parent.parent / "dix" / "cli"
#: What sets up a process for a job; a command that calls one of these itself has a copy of `open_job`.
SET_UP = {"configure", "choose_device", "choose_dtype", "set_num_threads", "job_of", "jobs_of"}
#: Timing of metrics has no job: it measures formulas on one thread. A single job is built as several are.
#: A verification names the machine in its record after the jobs that it opened have run.
EXCEPT = {("bench_metrics", "set_num_threads"), ("construct", "jobs_of"), ("verify", "choose_device")}
LENET = ["model=lenet5", "dataset=mnist", "method=[gc]", "metric=[neg]"]


def calls(path: Path) -> Iterator[str]:
    """Last names of everything that a file calls."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            function = node.func
            yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_only_the_session_sets_up_a_process() -> None:
    found = {(path.stem, name) for path in CLI.glob("*.py") for name in calls(path) if name in SET_UP}
    assert found - EXCEPT == {("session", name) for name in SET_UP - {"set_num_threads", "job_of"}}


@pytest.mark.parametrize(
    "command", ["task", "estimate", "explain", "verify", "figures", "sanity", "train", "check", "bench"]
)
def test_every_command_that_runs_a_network_opens_its_job_there(command: str) -> None:
    assert {"open_job", "open_jobs", "open_model"} & set(calls(CLI / f"{command}.py"))


@pytest.fixture
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    runtime.configure(threads, tf32=False, deterministic=False)


@pytest.mark.usefixtures("_threads")
def test_an_open_job_has_the_slurm_tasks_threads_and_the_wanted_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = 1 if torch.get_num_threads() > 1 else 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(wanted))
    job = open_job(composed([*LENET, "run.device=cpu", "protocol.dtype=float64"]), key="mine")
    assert torch.get_num_threads() == wanted
    assert (job.key, job.classifier.dtype, job.classifier.device.type) == ("mine", torch.float64, "cpu")


def test_a_command_besides_run_takes_the_slurm_tasks_threads(tmp_path: Path) -> None:
    code = "import sys, torch; from dix.cli import main; main(sys.argv[1:]); print('threads', torch.get_num_threads())"
    words = ["estimate", *LENET, "run.workers=0", "--images", "4", f"run.results={tmp_path}"]
    result = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "SLURM_CPUS_PER_TASK": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "threads 3"


@pytest.mark.parametrize(
    ("override", "message"),
    [("run.device=cuda:99", "run.device: 'cuda:99'"), ("protocol.dtype=float8", "protocol.dtype: expected one of")],
)
def test_what_is_not_to_be_had_is_said_before_anything_is_built(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_job(composed([*LENET, "model.weights=not_there.pth", override]))
