"""Device, precision, threads and determinism: set here and nowhere else."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pyarrow", "pillow", "hydra-core", "omegaconf",
    "grad-cam", "captum", "saliency", "zennit", "lxt", "pycocotools",
)  # fmt: skip
#: Those among them that a training runs through: what it computes with, and what its pictures are decoded by.
TRAINING = ("torch", "torchvision", "timm", "numpy", "pillow")
#: Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
#: Bytes of weights from which a network is large: ResNet-50, DenseNet-201 and ViT-S are.
LARGE_NETWORK = 75 * 10**6
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device called "cpu", "cuda", "cuda:1" or "mps"; "auto" takes the best there is.

    Raises ValueError where it is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"run.device: {name!r} is not available here; use auto or cpu") from error
    return torch.device(name)


def choose_dtype(name: str) -> torch.dtype:
    """The precision of the network and of everything it is shown."""
    if name not in DTYPES:
        raise ValueError(f"protocol.dtype: expected one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor instead of returning it to the system.

    Large tensors come and go in every chunk; fetching their pages anew each time costs a tenth of the run and more.
    Does nothing where the C library has no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_large(network: nn.Module) -> bool:
    """Whether eight rows of a pass are as fast as more on a CPU, and more would take gigabytes to record."""
    return sum(weight.nbytes for weight in network.parameters()) >= LARGE_NETWORK


def configure(threads: int, tf32: bool, deterministic: bool) -> None:
    """Set threads (0: torch's own choice), TF32 matrix products, and deterministic algorithms for this process."""
    keep_freed_memory()
    if threads > 0:
        torch.set_num_threads(threads)
    precision = "tf32" if tf32 else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same as `torch.use_deterministic_algorithms`, which imports a compiler first: a second of every start-up.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.deterministic = deterministic


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Installed versions of the packages that can move a score, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine(device: torch.device) -> str:
    """One line about the hardware, without a host's name."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.system()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@lru_cache(maxsize=1)
def git_commit() -> str:
    """The commit of the code that runs, "+" where it is changed, or "unknown" outside a repository."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
