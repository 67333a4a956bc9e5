"""List what a folder or a tar archive holds: afresh each time, since no time stamp says that nothing has changed.

Only names are asked for, not sizes, so 50,000 files in 1,000 folders take .1 to .2 s, less than a stored listing
took. What is not listed is named with the reason.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dix.datasets.api import CorruptSample, LeftOut
from dix.datasets.text import text_id

_BLOCK = 512  #: tar's unit
_FILE, _FOLDER, HIDDEN = "file", "folder", "hidden file or folder"
Row = tuple[str, int, int]  #: of an archive: path with "/", size in bytes, offset of the first byte


@dataclass(frozen=True)
class Listing:
    """files: sorted paths relative to the root, with "/". left_out: what else is there."""

    files: Sequence[str]
    left_out: Sequence[LeftOut]


def list_files(root: Path, folders: Iterable[str]) -> Listing:
    """Files directly inside the given folders of a root; hidden ones and folders in them are left out."""
    found = [(path, kind) for folder in folders for path, kind in _look(root, folder)]
    return _listing([(path, f"a {kind} inside {_of(path)}" if kind == _FOLDER else kind) for path, kind in found])


def _of(path: str) -> str:
    return text_id(path.rsplit("/", 1)[0]) if "/" in path else "the folder of images"


def subfolders(root: Path) -> list[str]:
    """Names of the folders directly inside a root, sorted; hidden ones are left out."""
    return sorted(path for path, kind in _look(root, ".") if kind == _FOLDER)


def walk_files(root: Path) -> Listing:
    """Files anywhere below a root. Links to files and folders are followed, but not back to a folder around them."""
    found: list[tuple[str, str]] = []
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(".", (_identity(root),))]
    while waiting:
        folder, around = waiting.pop()
        for path, kind in _look(root, folder):
            if kind != _FOLDER:
                found.append((path, kind))
            elif (inode := _identity(root / path)) in around:
                found.append((path, "link to a folder around it"))
            else:
                waiting.append((path, (*around, inode)))
    return _listing(found)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _listing(found: Iterable[tuple[str, str]]) -> Listing:
    files, others = [], []
    for path, kind in sorted(found):
        if kind == _FILE:
            files.append(path)
        else:
            others.append(LeftOut(text_id(path), kind))
    return Listing(files, others)


def _look(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    """Path relative to the root and kind of everything directly inside a folder: a file, a folder or a reason."""
    before = "" if folder == "." else f"{folder}/"
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                yield before + entry.name, _kind(entry)
    except OSError as error:
        yield folder, f"cannot be opened: {error.strerror or error}"


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.name.startswith("."):
        return HIDDEN
    try:
        if entry.is_file():
            return _FILE
        if entry.is_dir():
            return _FOLDER
    except OSError:  # a link that leads round in circles
        return "link that leads nowhere"
    return "link that leads nowhere" if entry.is_symlink() else "neither file nor folder"


@dataclass(frozen=True)
class TarListing:
    """rows: regular members, sorted by path. left_out: the other ones."""

    rows: Sequence[Row]
    left_out: Sequence[LeftOut]


def list_tar(archive: Path) -> TarListing:
    """Members of an uncompressed tar archive, with the offset of their bytes.

    A truncated archive lists what its headers still say; its last member then fails when it is read.
    Raises ValueError where the file is no tar archive.
    """
    rows = _plain_members(archive)
    found = _members(archive) if rows is None else [(row, "") for row in rows]
    named = [(row, reason or (HIDDEN if _hidden(row[0]) else "")) for row, reason in sorted(found)]
    left_out = [LeftOut(text_id(row[0]), reason) for row, reason in named if reason]
    return TarListing([row for row, reason in named if not reason], left_out)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _plain_members(archive: Path) -> list[Row] | None:
    """The members, where every header is the plain kind; several times as fast as tarfile, which reads all kinds.

    None where a header is anything else (long names, links, sparse files, damage): tarfile decides what it is.
    """
    rows = []
    position = 0
    with archive.open("rb", buffering=0) as stream:
        while len(header := stream.read(_BLOCK)) == _BLOCK and any(header):
            size = _plain_size(header)
            if size is None:
                return None
            name = header[:100].rstrip(b"\0").decode("utf-8", "surrogateescape")
            rows.append((name.removeprefix("./"), size, position + _BLOCK))
            position += _BLOCK * (1 + -(-size // _BLOCK))
            stream.seek(position)
    return rows if position else None


def _plain_size(header: bytes) -> int | None:
    """The size that the header of a regular file gives, or None for a header of any other kind."""
    plain = header[257:262] == b"ustar" and header[156:157] in (b"0", b"\0") and not any(header[345:500])
    try:
        size, checksum = (int(header[part].strip(b" \0"), 8) for part in (slice(124, 136), slice(148, 156)))
    except ValueError:
        return None
    summed = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    return size if plain and size >= 0 and checksum == summed else None


def _members(archive: Path) -> Iterator[tuple[Row, str]]:
    """Every member but folders, with the reason why it cannot be read in place, or ""."""
    try:
        with tarfile.open(archive, "r:", errors="surrogateescape") as tar, contextlib.suppress(tarfile.ReadError):
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                if not member.isdir():
                    plain = member.isreg() and not member.issparse()
                    row = (member.name.removeprefix("./"), member.size, member.offset_data)
                    yield row, "" if plain else "link or special member of the archive"
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
            there = max(min(self.size, os.fstat(handle).st_size - self.offset), 0)
            data = os.pread(handle, there, self.offset)
        finally:
            os.close(handle)
        if len(data) < self.size:
            there_of = f"{len(data)} of {self.size} bytes are there"
            where = f"{text_id(self.archive.name)}: {self.name}"
            raise CorruptSample(f"{where}: the archive is truncated, {there_of}")
        return data
