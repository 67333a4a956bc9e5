"""Unpack archives that a user downloaded: resumable, atomic, and never outside the target folder."""

from __future__ import annotations

import filecmp
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from dix.files import atomic

#: From a member's name to its place below the target folder, or None to leave it out.
Place = Callable[[str], str | None]
LARGEST = 1 << 28  #: bytes of one unpacked file; COCO's annotations, the largest, have 20 million
MOST = 1 << 36  #: bytes of all unpacked files of an archive; ImageNet's validation images have 6.7 thousand million
#: What the standard library raises for damaged, encrypted or unknown archives.
_BROKEN = (tarfile.ReadError, zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Unpacked:
    """written: members written now. kept: members that were there already, byte by byte."""

    written: int = 0
    kept: int = 0


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, target: Path, place: Place) -> Unpacked:
    """Write an archive's chosen members below a folder.

    Sizes are limited (LARGEST, MOST), so that a small archive cannot fill a disk. Each member is written beside its
    place and then renamed; one that is there with the same bytes is kept, so a second call goes on where the first
    ended. Raises ValueError for a member that would leave the folder, and for a truncated, unknown or huge archive,
    which it names; what was unpacked before stays.
    """
    progress = _Progress(archive)
    with progress.blaming(), _members(archive) as members:
        for member in members:
            name = place(_safe(member.name, archive))
            if name is not None:
                progress.add(member, target / _safe(name, archive))
    return Unpacked(progress.written, progress.kept)


@dataclass
class _Progress:
    """What an archive has filled so far."""

    archive: Path
    paths: set[Path] = field(default_factory=set)
    size: int = 0
    written: int = 0
    kept: int = 0
    last: str = "the start"

    def add(self, member: _Member, path: Path) -> None:
        """Write a member, unless it is there. Raises ValueError where it, or all with it, are more than a data set."""
        self._limit(member, path)
        if _is_there(member, path):
            self.kept += 1
        else:
            _write(member, path, self.archive)
            self.written += 1
        self.last = member.name

    def _limit(self, member: _Member, path: Path) -> None:
        self.size += member.size
        if member.size > LARGEST or self.size > MOST:
            raise ValueError(
                f"{self.archive.name}: the member {member.name!r} has {member.size} bytes, {self.size} with those"
                f" before it; at most {LARGEST} and {MOST} are unpacked"
            )
        if path in self.paths:
            raise ValueError(f"{self.archive.name}: two members would be {path.name}; nothing more is unpacked")
        self.paths.add(path)

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Turn what readers of archives raise into one message; a full disk or a missing right is passed on."""
        try:
            yield
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            done = f"{self.written + self.kept} files are unpacked, the last is {self.last}"
            raise ValueError(f"{self.archive.name}: truncated or not such an archive ({done}): {error}") from error


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield (
                _Member(info.filename, info.file_size, lambda info=info: packed.open(info))  # type: ignore[misc]
                for info in packed.infolist()
                if not info.is_dir()
            )
        return
    with tarfile.open(archive, "r:*") as tar:
        yield (
            _Member(info.name, info.size, lambda info=info: tar.extractfile(info))  # type: ignore[misc]
            for info in tar
            if info.isfile()
        )


def _safe(name: str, archive: Path) -> str:
    """The name again, without a leading "./". Raises ValueError where it would lead out of the target folder."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or (pure.parts and pure.parts[0].endswith(":")):
        raise ValueError(f"{archive.name}: the member {name!r} leads out of the folder; nothing more is unpacked")
    return str(pure)


def _is_there(member: _Member, path: Path) -> bool:
    """Whether a file has the member's bytes already; its size alone would not say."""
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    source = member.open()
    if source is None:
        return False
    with source, path.open("rb") as stream:
        return all(data == stream.read(len(data)) for data in iter(lambda: source.read(1 << 20), b""))


def _write(member: _Member, path: Path, archive: Path) -> None:
    source = member.open()
    if source is None:
        raise ValueError(f"{archive.name}: the member {member.name} has no bytes")
    with source, atomic(path, durable=False) as half, half.open("wb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
        if stream.tell() != member.size:
            raise EOFError(f"{member.name} has {stream.tell()} of {member.size} bytes")


def copy_file(source: Path, path: Path) -> Unpacked:
    """Copy one file, unless it is there with the same bytes."""
    if path.is_file() and filecmp.cmp(source, path, shallow=False):
        return Unpacked(kept=1)
    with source.open("rb") as stream, atomic(path, durable=False) as half, half.open("wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)
    return Unpacked(written=1)
