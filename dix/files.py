"""The one way to write a file: complete or not at all, whatever interrupts, and on disk before anybody relies on it."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

#: How the names of half-written files end; they begin with a dot, so that no listing of results takes them for one.
HALF_WRITTEN = ".tmp"
#: What a file system says that cannot bring a folder's list of names to disk on request.
_UNSYNCED = (errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` when the block ends well; `path` is untouched otherwise.

    The folder is made where it is missing. The temporary name is unique among all machines that share the folder.
    durable: wait until the content and the name are on disk; without it, a loss of power may undo the writing.

    Raises ValueError that names `path` where it cannot be written, for instance on a full disk.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}{HALF_WRITTEN}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _to_disk(temporary)
        os.replace(temporary, path)
        if durable:
            _names_to_disk(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            raise ValueError(f"cannot write {path} ({error.strerror or error}); nothing there was changed") from error
        raise


def write_atomic(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Write a whole file, text as UTF-8; see `atomic`."""
    data = content.encode() if isinstance(content, str) else content
    with atomic(path, durable) as temporary:
        temporary.write_bytes(data)


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names_to_disk(folder: Path) -> None:
    try:
        _to_disk(folder)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise
