"""Prove on a machine with a GPU what can only be proven there; writes one page and its numbers into results/gpu.

    python scripts/gpu_check.py                 # everything, on the machine's GPU: some ten minutes
    python scripts/gpu_check.py --device cpu --images 1 --methods gc,dix1 --networks efficientnet_lite0 --batch 1
                                                # the same steps where there is none: tells only that they run

Steps: the test suite's device part; every method and metric on the device against the processor; two runs on the
device, row by row, and their memory; passes a second in every way that the device offers, beside its measured peak; and
what Table 1 would cost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path

import pandas as pd
import torch

import dix
from dix.bench.run import runtime
from dix.bench.run.rates import HEADER, rates
from dix.bench.run.speed import seconds
from dix.cli.config import composed, options
from dix.cli.session import open_job

#: Left out of the agreement for their cost: thousands of passes a map.
SLOW = {"rise", "score_cam", "gig_pair", "ig_pair", "big_pair"}
METRICS = ["neg", "pos", "ins", "deletion", "adp", "pic", "sic", "aic", "pa", "map", "miou", "mf1"]
NETWORKS = ["resnet101", "convnext_base", "densenet201", "vit_base", "vit_small", "efficientnet_lite0"]
MODELS = ["efficientnet_lite0", "vit_small_embedded"]
ROW = ["protocol", "dataset", "model", "method", "metric", "image"]


def main(words: Sequence[str]) -> int:
    """Run every step, print as it goes, and write the page; 1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=5, help="photos of the agreement (default 5)")
    parser.add_argument("--batch", type=int, default=32, help="images of the passes that are timed (default 32)")
    parser.add_argument("--methods", help="only these in the agreement, separated by commas")
    parser.add_argument("--models", default=",".join(MODELS), help="of the agreement")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="that are timed")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"only these: {', '.join(STEPS)}")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    given = parser.parse_args(words)
    unknown = [name for name in given.steps.split(",") if name not in STEPS]
    if unknown:
        parser.error(f"--steps: expected some of {', '.join(STEPS)}, got {', '.join(unknown)}")
    device = runtime.choose_device(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    page = [f"# Checked on {runtime.machine(device)}", "", f"Commit {runtime.git_commit()}, torch {torch.__version__}."]
    fine = True
    for name in given.steps.split(","):
        title, step = STEPS[name]
        print(f"== {title}", flush=True)
        lines, held = step(given, device)
        fine &= held
        page += ["", f"## {title}", "", *lines]
        (given.out / "gpu.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"{given.out / 'gpu.md'}: {'all steps held' if fine else 'NOT all steps held'}")
    return 0 if fine else 1


def tests(given: argparse.Namespace, device: torch.device) -> tuple[list[str], bool]:
    """The part of the test suite that takes a device."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_device.py"]
    done = subprocess.run(
        command, env={**os.environ, "DIX_TEST_DEVICE": str(device)}, capture_output=True, text=True, check=False
    )
    last = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:]
    print(*last)
    return [f"`{' '.join(command[1:])}` on {device}: {' '.join(last)}"], done.returncode == 0


def agreement(given: argparse.Namespace, device: torch.device) -> tuple[list[str], bool]:
    """The same job on the processor and twice on the device: largest differences of rows, in points."""
    lines, fine = [], True
    for model in given.models.split(","):
        cpu, first, again = (_rows(given, model, name) for name in ("cpu", str(device), str(device)))
        fine &= len(cpu) > 0 and first.equals(again)
        lines += [f"{model}: {len(cpu):,} rows; two runs on {device} are {'' if first.equals(again) else 'NOT '}equal."]
        lines += ["", *_differences(cpu, first), ""]
        if device.type == "cuda":
            lines += [f"Most memory that tensors took: {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB.", ""]
    print("\n".join(lines))
    return lines, fine


def _rows(given: argparse.Namespace, model: str, device: str) -> pd.Series:
    methods = given.methods.split(",") if given.methods else sorted(set(options("method")) - SLOW)
    with tempfile.TemporaryDirectory() as folder:
        results = dix.benchmark(
            model, methods, METRICS, "photos", out=folder, device=device, limit=given.images, progress=False
        )
        return results.frame().set_index(ROW)["value"].sort_index()


def _differences(cpu: pd.Series, there: pd.Series) -> list[str]:
    """A table of the largest differences by method and metric; inf where only one of both has a number."""
    cpu, there = cpu.align(there)
    rows = (cpu - there).abs().mask(cpu.isna() != there.isna(), float("inf"))
    apart = rows.groupby(level=["method", "metric"]).max().unstack("metric")
    head = ["| method | " + " | ".join(apart.columns) + " |", "| --- |" + " --: |" * len(apart.columns)]
    return head + [
        f"| {name} | " + " | ".join("-" if isnan(v) else f"{v:.4f}" for v in row) + " |"
        for name, row in zip(apart.index, apart.to_numpy(), strict=True)
    ]


def speed(given: argparse.Namespace, device: torch.device) -> tuple[list[str], bool]:
    """Passes a second in every way, beside the device's measured peak of matrix products."""
    lines = ["```", f"peak of matrix products: {peak(device):.2f} TFLOP/s (float32)", HEADER]
    for name in given.networks.split(","):
        words = [f"model={name}", "model.weights=random", "method=[]", "metric=[]", f"run.device={device}"]
        for rate in rates(open_job(composed(words)).classifier, given.batch):
            print(rate, flush=True)
            lines.append(str(rate))
    return [*lines, "```"], True


def peak(device: torch.device, side: int = 4096) -> float:
    """TFLOP/s of one large product in float32, the fastest of five."""
    side = side if device.type == "cuda" else 1024
    a = torch.rand(side, side, device=device)
    return 2 * side**3 / seconds(lambda: a @ a, device, 5) / 1e12


def table1(given: argparse.Namespace, device: torch.device) -> tuple[list[str], bool]:
    """What `dix estimate` foresees for Table 1's networks, with random weights and photos in ImageNet's place."""
    command = [
        *(sys.executable, "-m", "dix.cli", "estimate", "experiment=table1", "dataset=photos", "model.weights=random"),
        *("--images", "50000", f"run.device={device}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr[-500:] if done.returncode else "")
    return ["```", *(done.stdout or done.stderr).strip().splitlines(), "```"], done.returncode == 0


Step = Callable[[argparse.Namespace, torch.device], tuple[list[str], bool]]
STEPS: dict[str, tuple[str, Step]] = {
    "tests": ("Tests", tests),
    "agreement": ("Agreement and determinism", agreement),
    "speed": ("Passes a second", speed),
    "table1": ("Table 1", table1),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
