"""The digest that says whether an image is still the one whose scores are stored."""

from __future__ import annotations

import hashlib

#: What a digest is made of: bytes as read, text, a number, or nothing (which differs from no bytes).
Part = bytes | str | int | None


def digest(*parts: Part) -> str:
    """BLAKE2b of 128 bits over some parts, as hexadecimal digits.

    Every part is preceded by its kind and length, so that bytes that move from one part to the next are noticed.
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = _encoded(part)
        state.update(f"{type(part).__name__} {len(data)}\n".encode())
        state.update(data)
    return state.hexdigest()


def _encoded(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    return b"" if part is None else str(part).encode("utf-8", "surrogateescape")
