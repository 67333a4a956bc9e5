"""Find files that installed packages carry, without importing the packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dix.datasets.api import MissingData

_REMEDY = "`dix data prepare embedded` installs the pinned version"


def package_file(package: str, *parts: str) -> Path:
    """Path of a file inside an installed package. Raises MissingData that names the package and the remedy."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise MissingData(f"the package {package!r} is not installed; it carries {'/'.join(parts)}: {_REMEDY}")
    path = Path(spec.origin).parent.joinpath(*parts)
    if not path.is_file():
        raise MissingData(f"the package {package!r} lacks {'/'.join(parts)}: {_REMEDY}")
    return path
