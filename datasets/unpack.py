"""Unpack archives that a user downloaded: resumable, atomic, and never outside the target folder."""

from __future__ import annotations

import filecmp
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO

from dix.files import atomic

#: From a member's name to its place below the target folder, or None to leave it out.
Place = Callable[[str], str | None]
LARGEST = 1 << 28  #: bytes of one unpacked file; COCO's annotations, the largest, have 20 million
MOST = 1 << 36  #: bytes of all unpacked files of an archive; ImageNet's validation images have 6.7 thousand million


@dataclass(frozen=True)
class Unpacked:
    """written: members written now. kept: members that were there already, of the right size."""

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
    done = Unpacked()
    last = "the start"
    placed = _Placed(archive)
    try:
        with _members(archive) as members:
            for member in members:
                name = place(_safe(member.name, archive))
                if name is None:
                    continue
                path = target / _safe(name, archive)
                placed.add(member, path)
                done = _unpacked(member, path, archive, done)
                last = member.name
    except (
        tarfile.ReadError,
        zipfile.BadZipFile,
        EOFError,
        OSError,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full disk or a missing right, not the archive's fault
        said = f"{done.written + done.kept} files are unpacked, the last is {last}"
        raise ValueError(f"{archive.name}: truncated or not such an archive ({said}): {error}") from error
    return done


def _unpacked(member: _Member, path: Path, archive: Path, done: Unpacked) -> Unpacked:
    """What is done after this member."""
    if _is_there(member, path):
        return replace(done, kept=done.kept + 1)
    _write(member, path, archive)
    return replace(done, written=done.written + 1)


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


@dataclass
class _Placed:
    """What an archive has filled so far."""

    archive: Path
    paths: set[Path] = field(default_factory=set)
    size: int = 0

    def add(self, member: _Member, path: Path) -> None:
        """Raise ValueError for more bytes than a data set has, alone or in sum, or a second member for one path."""
        self.size += member.size
        if member.size > LARGEST or self.size > MOST:
            raise ValueError(
                f"{self.archive.name}: the member {member.name!r} has {member.size} bytes, {self.size} with those"
                f" before it; at most {LARGEST} and {MOST} are unpacked"
            )
        if path in self.paths:
            raise ValueError(f"{self.archive.name}: two members would be {path.name}; nothing more is unpacked")
        self.paths.add(path)


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
