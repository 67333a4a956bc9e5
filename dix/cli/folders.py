"""Where results are."""

from __future__ import annotations

from pathlib import Path


def results_folder(name: str) -> Path:
    """The folder with that path or name. Raises ValueError where it holds no results."""
    for folder in (Path(name), Path("results") / name):
        if (folder / "store").is_dir():
            return folder
    known = sorted(path.parent.name for path in Path("results").glob("*/store"))
    raise ValueError(f"no results in {name!r}; results/ holds: {', '.join(known) or 'none yet; `dix run` makes some'}")
