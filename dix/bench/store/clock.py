"""Time by the clock of the machine that keeps a folder, which all times of its files are by."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path

from dix.files import HALF_WRITTEN

#: Seconds after which a half-written file belongs to nobody any more.
ABANDONED = 3600.0


def now(folder: Path) -> float:
    """The folder's own time, in seconds as `time.time` counts them; this machine's where the folder cannot be asked."""
    probe = folder / f".clock-{uuid.uuid4().hex}{HALF_WRITTEN}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def touch(path: Path) -> None:
    """Say that a file's owner is alive: sets its time by the folder's clock. Never fails."""
    with contextlib.suppress(OSError):
        os.utime(path)


def age(path: Path, folder: Path) -> float:
    """Seconds since a file of a folder was written or touched; infinite where it is gone."""
    try:
        return max(0.0, now(folder) - path.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


def sweep_up(folder: Path) -> None:
    """Remove half-written files that killed processes left behind long ago."""
    halves = [path for level in ("*", "rows/*") for path in folder.glob(f"{level}/.*{HALF_WRITTEN}")]
    moment = now(folder) if halves else 0.0
    for path in halves:
        with contextlib.suppress(OSError):
            if moment - path.stat().st_mtime > ABANDONED:
                path.unlink()
