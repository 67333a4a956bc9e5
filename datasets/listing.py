"""List what a folder or a tar archive holds: once, then from a cache that nothing depends on."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dix.datasets.api import CorruptSample
from dix.datasets.images import is_image
from dix.datasets.index import hash_lines
from dix.files import write_atomic

CACHE_VARIABLE = "DIX_CACHE"  #: the folder of caches; empty: no cache

Rows = list[tuple[str, int, int]]  #: path relative to the root with "/", size in bytes, offset in an archive (or 0)


def list_images(root: Path, folders: Iterable[str]) -> Rows:
    """Image files directly inside the given folders of a root, sorted by path. Sizes are in bytes.

    The listing is cached until a folder's modification time changes; a file rewritten in place is not noticed.
    """
    names = sorted(folders)
    stamps = [f"{name}\t{(root / name).stat().st_mtime_ns}" for name in names]
    return _cached(["folders", str(root.resolve()), *stamps], lambda: sorted(_scan(root, names)))


def subfolders(root: Path) -> list[str]:
    """Names of the folders directly inside a root, sorted; hidden ones are left out."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def walk_images(root: Path) -> Rows:
    """Image files anywhere below a root, sorted by path."""
    folders = [Path(where).relative_to(root).as_posix() for where, _, _ in os.walk(root)]
    return list_images(root, [name for name in folders if not any(part.startswith(".") for part in _parts(name))])


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part != "."]


def _scan(root: Path, folders: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    for folder in folders:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if is_image(entry.name) and entry.is_file():
                    yield "/".join([*_parts(folder), entry.name]), entry.stat().st_size, 0


def list_tar(archive: Path) -> Rows:
    """Image members of an uncompressed tar archive, sorted by path, with the offset of their bytes.

    A truncated archive lists what its headers still say; its last member then fails when it is read.
    Raises ValueError where the file is no tar archive.
    """
    stat = archive.stat()
    key = ["tar", str(archive.resolve()), str(stat.st_size), str(stat.st_mtime_ns)]
    return _cached(key, lambda: sorted(_members(archive)))


def _members(archive: Path) -> Iterator[tuple[str, int, int]]:
    try:
        with tarfile.open(archive, "r:") as tar, contextlib.suppress(tarfile.ReadError):
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                if member.isfile() and is_image(member.name):
                    yield member.name.removeprefix("./"), member.size, member.offset_data
    except tarfile.ReadError as error:
        raise ValueError(f"{archive.name}: not an uncompressed tar archive: {error}") from error


@dataclass(frozen=True)
class TarMember:
    """Bytes inside an archive, read in place."""

    archive: Path
    name: str
    size: int
    offset: int

    def read(self) -> bytes:
        """The member's bytes. Raises CorruptSample where the archive ends before them."""
        handle = os.open(self.archive, os.O_RDONLY)
        try:
            data = os.pread(handle, self.size, self.offset)
        finally:
            os.close(handle)
        if len(data) < self.size:
            there = f"{len(data)} of {self.size} bytes are there"
            raise CorruptSample(f"{self.archive.name}: {self.name}: the archive is truncated, {there}")
        return data


def _cached(key: list[str], build: Callable[[], Rows]) -> Rows:
    """The stored listing of this key, else a new one, stored where the cache folder can be written."""
    folder = _cache_folder()
    if folder is None:
        return build()
    path = folder / f"listing-{hash_lines(key)[:24]}.json"
    with contextlib.suppress(OSError, ValueError):
        return [(str(name), int(size), int(offset)) for name, size, offset in json.loads(path.read_text("utf-8"))]
    rows = build()
    with contextlib.suppress(ValueError):
        write_atomic(path, json.dumps(rows), durable=False)
    return rows


def _cache_folder() -> Path | None:
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dix"
