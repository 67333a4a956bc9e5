"""Weight files that installed packages carry inside themselves."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

_REMEDY = "`dix data prepare embedded` installs it"


@dataclass(frozen=True)
class CarriedFile:
    """A file inside an installed package, known by its hash and found without importing the package.

    distribution: the name under which the package is installed.
    package: its import name.
    path: where the file lies inside the package.
    sha256: hexadecimal digest of the whole file.
    """

    distribution: str
    package: str
    path: str
    sha256: str

    def read(self) -> bytes:
        """The file's bytes. Raises ValueError (package, file and remedy named) where it is missing or differs."""
        file = self.locate()
        if not file.is_file():
            raise ValueError(f"expected {file} in the package {self.distribution}, got no such file; {_REMEDY}")
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ValueError(
                f"expected {file} of the package {self.distribution} with sha256 {self.sha256}, got {digest} "
                f"({len(content)} bytes: truncated, corrupt or of another version); {_REMEDY}"
            )
        return content

    def locate(self) -> Path:
        """Where the file should be. Raises ValueError where the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"expected the package {self.distribution} (it carries {self.path}), got none installed; {_REMEDY}"
            )
        return Path(next(iter(spec.submodule_search_locations))) / self.path
