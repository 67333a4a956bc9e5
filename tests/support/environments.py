"""Wheels made here, and empty environments outside the checkout to install them into."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
#: What a build needs of the checkout, links included.
SOURCES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "dix", "metrics", "datasets", "baselines", "conf")


def copy_sources(folder: Path) -> Path:
    """The parts of the checkout that are built, so that no build writes into the checkout itself."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def build(sources: Path, kind: str, into: Path) -> Path:
    """A "wheel" or "sdist" of a source tree, by the installed setuptools."""
    into.mkdir(parents=True, exist_ok=True)
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(into)!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=sources, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return into / result.stdout.split()[-1]


def stand_in(folder: Path, name: str, content: str) -> Path:
    """A wheel of a package that consists of one `__init__.py`."""
    files = {
        f"{name}/__init__.py": content,
        f"{name}-9.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n",
        f"{name}-9.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-9.dist-info/RECORD"
    lines = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    path = folder / f"{name}-9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, record: "\n".join([*lines, f"{record},,"])}.items():
            archive.writestr(member, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def needs(requirements: Iterable[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of the installed distributions that requirements lead to, through those of their own."""
    found: set[str] = set()
    waiting = [(Requirement(text), extras) for text in requirements]
    while waiting:
        requirement, wanted = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in ("", *wanted)):
            continue
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.extras:
            continue
        found.add(name)
        chosen = frozenset(requirement.extras)
        waiting += [(Requirement(text), chosen) for text in _requires(name)]
    return found


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


@dataclass(frozen=True)
class Environment:
    """A virtual environment with pip and nothing else, at a folder of its own."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        return cls(folder)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def packages(self) -> Path:
        [found] = self.folder.glob("lib/python*/site-packages")
        return found

    def link(self, names: Iterable[str]) -> None:
        """Let distributions of this process's environment count as installed, without copying gigabytes."""
        for name in names:
            for source in _parts(name):
                target = self.packages / source.name
                if not target.exists():
                    target.symlink_to(source)

    def run(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A command of Python with no trace of the checkout in its environment."""
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "OMP_NUM_THREADS": "1", "PIP_NO_COMPILE": "1"}
        return subprocess.run(
            [self.python, *words], cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=600
        )

    def pip(self, *words: str) -> None:
        result = self.run("-m", "pip", "--disable-pip-version-check", *words, cwd=self.folder)
        assert result.returncode == 0, result.stdout + result.stderr


def _parts(name: str) -> Iterator[Path]:
    """The entries of site-packages that a distribution consists of."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    tops = {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}
    for top in sorted(tops):
        yield Path(str(distribution.locate_file(top)))
