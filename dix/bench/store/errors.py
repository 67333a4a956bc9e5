"""What can go wrong for a user beyond a wrong value."""

from __future__ import annotations

from collections.abc import Mapping


class StaleResults(ValueError):
    """A results folder holds rows of the same names under another identity; the message lists what differs."""


def differing(stored: object, wanted: object, path: str = "") -> list[str]:
    """Where two nested values differ: ``key: stored A, wanted B`` a line."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        keys = dict.fromkeys([*stored, *wanted])
        return [
            line for key in keys for line in differing(stored.get(key), wanted.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if stored == wanted else [f"{path}: stored {stored!r}, wanted {wanted!r}"]
