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


def fingerprint(name: str, ids: Sequence[str], labels: Sequence[int | None], *settings: str) -> str:
    """Hash of what a data set is asked for, equal on every machine; what its files hold is `content`'s matter.

    ids, labels: one entry per image. settings: parameters that change what is read (a mask rule, a category).
    """
    rows = (f"{i}\t{label}" for i, label in zip(ids, labels, strict=True))
    return hash_lines([name, *settings, *rows])
