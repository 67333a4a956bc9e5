"""Where a data set's files are expected, and what to say when they are not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dix.datasets.api import MissingData

ROOT_VARIABLE = "DIX_DATA"  #: the folder that holds one folder for each data set


@dataclass(frozen=True)
class Layout:
    """A data set as its owners publish it.

    name: as in configuration files. source: who publishes it and as which files. tree: the expected folders, drawn.
    expected: what a complete copy counts, by what is counted.
    """

    name: str
    source: str
    tree: str
    expected: Mapping[str, int] = field(default_factory=dict)

    def root(self, root: str | Path | None) -> Path:
        """The data set's folder: the argument, else $DIX_DATA/<name>. Raises MissingData where it is not there."""
        base = os.environ.get(ROOT_VARIABLE)
        if root is None and not base:
            raise self.missing(f"neither dataset.root nor the environment variable {ROOT_VARIABLE} is set")
        found = Path(root) if root is not None else Path(str(base)) / self.name
        if not found.is_dir():
            raise self.missing(f"the folder {found} does not exist")
        return found

    def missing(self, what: str) -> MissingData:
        """The error that says what is missing, the layout, the official source and what to run."""
        tree = "\n".join("    " + line for line in self.tree.strip("\n").splitlines())
        return MissingData(
            f"{self.name}: {what}.\n  Expected in dataset.root (or ${ROOT_VARIABLE}/{self.name}):\n{tree}\n"
            f"  Source: {self.source}\n  Then run `dix data check {self.name}`."
        )
