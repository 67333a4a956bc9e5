"""Unpack archives that a user downloaded: resumable, atomic, and never outside the target folder."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from dix.files import atomic

#: From a member's name to its place below the target folder, or None to leave it out.
Place = Callable[[str], str | None]


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

    Each is written beside its place and then renamed; one that is there with the right size is kept, so a second call
    goes on where the first ended. Raises ValueError for a member that would leave the folder, and for a truncated or
    unknown archive, which it names; what was unpacked before stays.
    """
    written = kept = 0
    last = "the start"
    try:
        with _members(archive) as members:
            for member in members:
                name = place(_safe(member.name, archive))
                if name is None:
                    continue
                path = target / _safe(name, archive)
                if path.is_file() and path.stat().st_size == member.size:
                    kept += 1
                else:
                    _write(member, path, archive)
                    written += 1
                last = member.name
    except (tarfile.ReadError, zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full disk or a missing right, not the archive's fault
        done = f"{written + kept} files are unpacked, the last is {last}"
        raise ValueError(f"{archive.name}: truncated or not such an archive ({done}): {error}") from error
    return Unpacked(written, kept)


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


def _write(member: _Member, path: Path, archive: Path) -> None:
    source = member.open()
    if source is None:
        raise ValueError(f"{archive.name}: the member {member.name} has no bytes")
    with source, atomic(path, durable=False) as half, half.open("wb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
        if stream.tell() != member.size:
            raise EOFError(f"{member.name} has {stream.tell()} of {member.size} bytes")


def copy_file(source: Path, path: Path) -> Unpacked:
    """Copy one file, unless it is there with the same size; a ".gz" source for a path without it is unzipped."""
    unzip = source.suffix == ".gz" and path.suffix != ".gz"
    if path.is_file() and not unzip and path.stat().st_size == source.stat().st_size:
        return Unpacked(kept=1)
    opened: Callable[..., IO[bytes]] = gzip.open if unzip else open  # type: ignore[assignment]
    try:
        with opened(source, "rb") as stream, atomic(path, durable=False) as half, half.open("wb") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{source.name}: truncated: {error}") from error
    return Unpacked(written=1)
