"""What every reader's index needs: unique ids, and one hash that names the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def unique(ids: Sequence[str], source: str) -> Sequence[str]:
    """The ids again. Raises ValueError that names the first repeated id and the source that repeats it."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise ValueError(f"{source}: the image id {name!r} appears more than once; expected every id once")
        seen.add(name)
    return ids


def hash_lines(lines: Iterable[str]) -> str:
    """SHA-256 over lines, as hexadecimal digits."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def fingerprint(name: str, ids: Sequence[str], labels: Sequence[int | None], sizes: Sequence[int], *extra: str) -> str:
    """Hash of what defines a data set, equal on every machine.

    ids, labels, sizes: one entry per image; sizes are those of the source files in bytes. extra: parameters that change
    what is read (a mask rule, a category).
    """
    rows = (f"{i}\t{label}\t{size}" for i, label, size in zip(ids, labels, sizes, strict=True))
    return hash_lines([name, *extra, *rows])
