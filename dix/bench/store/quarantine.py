"""Where files go that cannot be trusted: out of the way, kept as they are, and named."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


class Quarantine:
    """The folder `damaged/` of a store. Where a file cannot be moved there, its name is only remembered."""

    def __init__(self, store: Path) -> None:
        self.folder = store / "damaged"
        self._left: set[Path] = set()

    def __contains__(self, path: Path) -> bool:
        """Whether a file could not be moved and must not be read again."""
        return path in self._left

    def set_aside(self, path: Path) -> None:
        """Move a file out of the way, unless somebody else did."""
        target = self.folder / path.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            taken = os.path.lexists(target)
            os.replace(path, self.folder / f"{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}" if taken else target)
        except FileNotFoundError:
            return
        except OSError:
            self._left.add(path)

    def holds(self, name: str) -> bool:
        """Whether a file of this name was set aside."""
        return os.path.lexists(self.folder / name)

    def names(self) -> list[str]:
        """The names of the files that were set aside, and of those that could not even be moved."""
        return sorted({path.name for path in self.folder.glob("*")} | {path.name for path in self._left})
