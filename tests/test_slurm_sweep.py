"""A sweep through a real SLURM, with jobs that are cancelled, requeued and out of time."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support import store_writers as made

from dix.bench.store.ledger import jobs
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "slurm_single_node.sh"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
IMAGES = 12
SLOW = ("slow_cancelled", "slow_killed", "slow_requeued", "slow_late")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that reaches a SLURM of one node, which is ended afterwards."""
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("slurm")
    environment = {**os.environ, "PATH": PATH, "SLURM_TEST_PORT": str(free_ports()), "SLURM_TEST_CPUS": "4"}
    up = subprocess.run([SCRIPT, "up", folder], env=environment, capture_output=True, text=True, check=False)
    try:
        assert up.returncode == 0, up.stderr
        yield {**environment, "SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(Path(__file__).parent)}
    finally:
        subprocess.run([SCRIPT, "down", folder], env=environment, check=False)


def free_ports() -> int:
    """The first of four ports in a row that nobody listens on."""
    for first in range(16900, 17900, 4):
        try:
            for port in range(first, first + 4):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise RuntimeError("no four free ports in a row")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of the slow methods, where commands run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "mine" / "method").mkdir(parents=True)
    for name in SLOW:
        text = f"{name}:\n  _target_: support.slurm_node.Slow\n  label: {name}\n"
        (folder / "mine" / "method" / f"{name}.yaml").write_text(text)
    return folder


def command(name: str, *words: str) -> list[str]:
    settings = [f"run.limit={IMAGES}", "run.batch_size=1", "run.threads=1", "run.workers=0", "run.gallery=0"]
    settings += ["run.flush_seconds=0", "metric=[neg]", f"run.name={name}", "--config-dir=mine"]
    return [sys.executable, "-m", "dix.cli", "run", *words, *settings]


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.5)


def done(folder: Path, method: str) -> int:
    if not (folder / "store").is_dir():
        return 0
    return sum(cell.done for cell in survey(ResultStore(folder)).cells if cell.method == method)


def begun(folder: Path, method: str) -> bool:
    return done(folder, method) >= 1


def listed(environment: dict[str, str]) -> list[str]:
    """The jobs that wait, run or are ending."""
    words = ["squeue", "--noheader", "--array", "--format=%i"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()


def slurm_id(environment: dict[str, str], method: str, order: list[str]) -> str:
    """SLURM's id of the array's task that computes a method."""
    return next(job for job in listed(environment) if job.endswith(f"_{order.index(method)}"))


def test_jobs_that_are_cancelled_requeued_and_late_end_with_the_bits_of_one_process(
    slurm: dict[str, str], work: Path
) -> None:
    methods = ["gc", *SLOW]
    launcher = [
        "-m",
        "hydra/launcher=slurm",
        "hydra.launcher.gpus_per_node=null",
        "hydra.launcher.mem_gb=null",
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.timeout_min=2",
        "hydra.launcher.signal_delay_s=30",
        f"method={','.join(methods)}",
    ]
    environment = {**slurm, "SLOW_SECONDS": "8"}
    sweep = subprocess.Popen(
        command("slurm", *launcher),
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = work / "results" / "slurm"
    for method, order in (
        ("slow_requeued", ["scontrol", "requeue"]),
        ("slow_cancelled", ["scancel"]),
        ("slow_killed", ["scancel"]),
    ):
        wait_for(f"rows of {method}", partial(begun, folder, method))
        job = slurm_id(slurm, method, methods)
        subprocess.run([*order, job], env=slurm, check=True)
    assert 1 <= done(folder, "slow_killed") < IMAGES
    wait_for("the end of a cancelled job", lambda: job not in listed(slurm))
    subprocess.run(["scontrol", "requeue", job], env=slurm, check=True)
    _, said = sweep.communicate(timeout=900)
    wait_for("the requeued job", lambda: not listed(slurm))

    assert sweep.returncode == 1, said
    assert "ended before it was finished" in said
    assert "run.only=failed" in said
    assert 1 <= done(folder, "slow_cancelled") < IMAGES
    assert [done(folder, method) for method in ("gc", "slow_killed", "slow_requeued", "slow_late")] == [IMAGES] * 4
    logs = "".join(path.read_text() for path in (folder / ".submitit").glob("*/*.out"))
    assert "timed-out" in logs
    attempts = {record["attempts"] for record in jobs(ResultStore(folder)).values()}
    assert max(attempts) >= 1

    again = command("slurm", *launcher, "run.only=failed")
    result = subprocess.run(again, cwd=work, env=slurm, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr
    whole = command("whole", f"method=[{','.join(methods)}]")
    subprocess.run(whole, cwd=work, env=slurm, check=True, capture_output=True, timeout=600)
    assert made.content(folder) == made.content(work / "results" / "whole")
    assert len(ResultStore(folder).rows()) == IMAGES * len(methods)
    assert table(work, slurm, "slurm") == table(work, slurm, "whole")


def table(work: Path, environment: dict[str, str], name: str) -> str:
    """The numbers of a report, without the lines that say on what and when they were measured."""
    words = [sys.executable, "-m", "dix.cli", "report", name, "--title", "same"]
    subprocess.run(words, cwd=work, env=environment, check=True, capture_output=True, timeout=300)
    lines = (work / "results" / name / "table.csv").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def test_a_job_that_dies_fails_alone_and_is_named(slurm: dict[str, str], work: Path) -> None:
    """A missing file of weights fails one job of a sweep over models; SLURM itself calls it completed."""
    words = ["-m", "hydra/launcher=slurm_cpu", "hydra.launcher.mem_gb=null", "hydra.launcher.cpus_per_task=1"]
    words += ["model=resnet50,efficientnet_lite0", "++model.weights=package", "method=[random]"]
    environment = {key: value for key, value in slurm.items() if key != "SLOW_SECONDS"}
    result = subprocess.run(
        command("two", *words), cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 1
    assert "failed: resnet50--" in result.stderr
    assert done(work / "results" / "two", "random") == IMAGES
