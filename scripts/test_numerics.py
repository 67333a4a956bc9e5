"""Run the tests marked `numeric` under every numeric back end that this machine offers: `make test-numerics`.

A back end is the instruction set that oneDNN may use (with SSE4.1 also the oldest kernels of MKL), the one that the
kernels of PyTorch itself use, and a number of threads. They sum in different orders, as other processors do. Prints a
line for each; one that this processor does not have is named as absent. Exits with 1 if any test failed anywhere.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: How oneDNN calls, when it is asked, what ONEDNN_MAX_CPU_ISA allows.
ONEDNN = {"SSE41": "SSE4.1", "AVX2": "AVX2", "AVX512_CORE": "AVX-512"}
#: How PyTorch calls, when it is asked, what ATEN_CPU_CAPABILITY allows.
ATEN = {"default": ("DEFAULT", "NO AVX"), "avx2": ("AVX2",)}
THREADS = (1, 2)
PROBE = (
    "import torch; print('aten:' + torch.backends.cpu.get_cpu_capability());"
    "torch.nn.functional.conv2d(torch.ones(16, 8, 8, 8), torch.ones(8, 8, 3, 3))"
)


@dataclass(frozen=True)
class BackEnd:
    """One way to compute. onednn, aten: keys of ONEDNN and ATEN."""

    onednn: str
    aten: str
    threads: int

    def __str__(self) -> str:
        many = "thread" if self.threads == 1 else "threads"
        return f"ONEDNN_MAX_CPU_ISA={self.onednn} ATEN_CPU_CAPABILITY={self.aten} {self.threads} {many}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a process that computes so."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        mkl = {"MKL_CBWR": "COMPATIBLE"} if self.onednn == "SSE41" else {}
        chosen = {"ONEDNN_MAX_CPU_ISA": self.onednn, "ATEN_CPU_CAPABILITY": self.aten}
        return {**os.environ, **threads, **mkl, **chosen}

    def absent(self) -> str:
        """What this processor lacks for it, or "": asked of the libraries themselves in a process of its own."""
        environment = {**self.environment, "ONEDNN_VERBOSE": "1"}
        command = [sys.executable, "-c", PROBE]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        used = next((line.split("isa:")[1] for line in said.splitlines() if "isa:" in line), "nothing")
        aten = next(line.split(":")[1] for line in said.splitlines() if line.startswith("aten:"))
        if ONEDNN[self.onednn] not in used:
            return f"oneDNN uses {used} instead"
        return "" if aten in ATEN[self.aten] else f"PyTorch uses {aten} instead"


def back_ends() -> Iterator[BackEnd]:
    """All of them, whether this machine has them or not."""
    for onednn, aten, threads in itertools.product(ONEDNN, ATEN, THREADS):
        yield BackEnd(onednn, aten, threads)


def outcome(back_end: BackEnd, cores: int, options: list[str]) -> tuple[bool, str]:
    """Whether the numeric tests pass under one back end, and pytest's last line, or all that it wrote if they do not.

    As many processes as the threads leave cores for.
    """
    processes = max(1, cores // back_end.threads)
    command = [sys.executable, "-m", "pytest", "-m", "numeric", "--tb=short", f"--numprocesses={processes}", *options]
    ran = subprocess.run(command, env=back_end.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = ran.stdout.rstrip().splitlines() or ["no output"]
    return ran.returncode == 0, lines[-1] if ran.returncode == 0 else "\n" + ran.stdout


def main() -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1, help="times to run the tests under each back end")
    parser.add_argument("--cores", type=int, default=2, help="cores to share among test processes")
    parser.add_argument("--only", default="", help="only back ends with this in their name, say 'SSE41'")
    arguments, options = parser.parse_known_args()
    failures = 0
    for back_end in (each for each in back_ends() if arguments.only in str(each)):
        if missing := back_end.absent():
            print(f"absent  {back_end}: {missing}", flush=True)
            continue
        for _ in range(arguments.repeat):
            start = time.monotonic()
            passed, said = outcome(back_end, arguments.cores, options)
            failures += not passed
            seconds = time.monotonic() - start
            print(f"{'passed' if passed else 'FAILED'}  {back_end}: {seconds:.0f} s, {said}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
