"""What may be taken from a results folder that somebody else made: plain files of known kinds and sizes, inside it.

Nothing in such a folder becomes a path: names inside records only choose a file name through a hash. Parts and records
are read by the readers that check every part and record.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

#: Bytes of the largest file that is copied, by suffix.
PICTURES = {".png": 2**25, ".json": 2**20, ".npz": 2**28}
#: Pixels of the largest picture, and bytes that an archive of arrays may unpack to.
PIXELS, UNPACKED = 2**26, 2**30
#: Refusals that are listed.
LISTED = 10


def check_foreign(folder: Path) -> None:
    """Raise ValueError that names every file of a results folder which must not be read or copied."""
    refused = [f"{path}: {why}" for path in _entries(folder) if (why := _objection(path, folder))]
    if refused:
        more = [f"and {len(refused) - LISTED:,} more"] if len(refused) > LISTED else []
        raise ValueError("\n  ".join(["nothing was merged, because of", *refused[:LISTED], *more]))


def pictures(folder: Path) -> Iterator[Path]:
    """The files below `images/`, as paths relative to the folder."""
    for path in _entries(folder / "images"):
        if path.is_file():
            yield path.relative_to(folder)


def _entries(folder: Path) -> Iterator[Path]:
    """Everything in a results folder that merging looks at, without following links to folders."""
    rooms = [folder] if folder.name == "images" else [folder / "store", folder / "images"]
    for room in rooms:
        if room.is_symlink():
            yield room
        for here, folders, files in os.walk(room, followlinks=False):
            yield from (Path(here, name) for name in sorted([*folders, *files]))


def _objection(path: Path, folder: Path) -> str:
    """Why an entry is refused, or ""."""
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
        mode, size = path.stat().st_mode, path.stat().st_size
    except (OSError, RuntimeError) as error:
        return f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
    if not inside:
        return "a link that leads out of the folder"
    if stat.S_ISDIR(mode):
        return "a link to a folder" if path.is_symlink() else ""
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder"
    return _picture_objection(path, size) if "images" in path.relative_to(folder).parts[:1] else ""


def _picture_objection(path: Path, size: int) -> str:
    if path.suffix not in PICTURES:
        return f"expected one of {', '.join(PICTURES)}"
    if size > PICTURES[path.suffix]:
        return f"{size:,} bytes, expected at most {PICTURES[path.suffix]:,}"
    if path.suffix == ".png":
        return _png_objection(path)
    return _npz_objection(path) if path.suffix == ".npz" else ""


def _png_objection(path: Path) -> str:
    """PNG's first chunk says the width and height, as big-endian numbers of four bytes (PNG specification, 11.2.2)."""
    with path.open("rb") as file:
        start = file.read(24)
    if start[:8] != b"\x89PNG\r\n\x1a\n" or len(start) < 24:
        return "not a PNG picture"
    width, height = (int.from_bytes(start[i : i + 4], "big") for i in (16, 20))
    return f"{width} x {height} pixels, expected at most {PIXELS:,}" if width * height > PIXELS else ""


def _npz_objection(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return f"not an archive of arrays ({error})"
    return f"unpacks to {size:,} bytes, expected at most {UNPACKED:,}" if size > UNPACKED else ""
