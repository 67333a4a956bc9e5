"""What a sweep costs beside its jobs: the smoke experiment for each of many methods, singly and through joblib.

    python scripts/bench_sweep.py [IMAGES]

A joblib process starts anew once, so that longer jobs (more images) come nearer to twice the speed. Prints wall and
processor seconds of both, with one thread a job. On a machine with other work the wall times tell little; twice the
processor seconds of the first over those of the second is what two free cores would give.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS = ("gc", "gcpp", "xgc", "lc", "lift", "dix1", "dix2", "dix3", "random", "center", "edges", "ac")
SETTINGS = ["experiment=smoke", "run.threads=1", "run.workers=0", "run.gallery=0", f"method={','.join(METHODS)}"]


def main() -> None:
    """Run both sweeps in folders that are removed afterwards."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    with tempfile.TemporaryDirectory() as folder:
        single = sweep(Path(folder), images, "local")
        double = sweep(Path(folder), images, "joblib_local")
    jobs = len(METHODS)
    print(f"{jobs} jobs one after another: {single[0]:6.1f} s wall, {single[1]:6.1f} s processor")
    print(f"{jobs} jobs, two at a time:    {double[0]:6.1f} s wall, {double[1]:6.1f} s processor")
    print(f"faster by {single[0] / double[0]:.2f} here, by {2 * single[1] / double[1]:.2f} on two free cores")


def sweep(folder: Path, images: int, launcher: str) -> tuple[float, float]:
    """Wall and processor seconds of one sweep."""
    command = [sys.executable, "-m", "dix.cli", "run", "-m", f"hydra/launcher={launcher}", f"run.limit={images}"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, *SETTINGS, f"run.name={launcher}"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor


if __name__ == "__main__":
    main()
