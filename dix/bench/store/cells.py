"""What rows belong to: a cell of a table by its five names and its identity, and the group that it shares images with.

Names are never joined to one text and taken apart again: records keep them field by field, and the name of a file is
only for eyes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NAMES = ("model", "dataset", "method", "metric", "protocol")
#: Most characters of a name, and of the readable part of a file's name.
LONGEST, READABLE = 200, 90


class Group(NamedTuple):
    """Rows of one model, data set and protocol: they are about the same images and lie in one folder."""

    model: str
    dataset: str
    protocol: str

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return file_name(*self)

    @property
    def title(self) -> str:
        """Its three names for people."""
        return " \u00b7 ".join(self)


@dataclass(frozen=True)
class StoredCell:
    """One cell of a table: five names, and everything that defines its scores.

    identity: nested plain values; equal identities give equal scores.
    printed: how tables show the cell: the method's "label", "role" and, where it was given one, "colour", and the
    metric's "metric_label" and which is "better".

    Raises ValueError for a name that `checked_name` refuses.
    """

    model: str
    dataset: str
    method: str
    metric: str
    protocol: str
    identity: Mapping[str, Any]
    printed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the five names."""
        for key in NAMES:
            checked_name(getattr(self, key), f"{key}.name")

    @property
    def names(self) -> tuple[str, ...]:
        """The five names."""
        return tuple(getattr(self, name) for name in NAMES)

    @property
    def key(self) -> str:
        """The name of its record, by its five names alone."""
        return json.dumps(self.names)

    @property
    def title(self) -> str:
        """Its names for people."""
        return " \u00b7 ".join(self.names)

    @property
    def group(self) -> Group:
        """The group of its rows."""
        return Group(self.model, self.dataset, self.protocol)

    @property
    def digest(self) -> str:
        """A hash of names and identity, which rows carry."""
        content = json.dumps([self.names, self.identity], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """Everything as plain values."""
        names = {name: getattr(self, name) for name in NAMES}
        return {**names, "cell": self.digest, "identity": self.identity, "printed": dict(self.printed)}


def cell_of(record: Mapping[str, Any]) -> StoredCell:
    """A cell from its record. Raises ValueError where its digest is not that of its names and identity."""
    cell = StoredCell(**{key: record[key] for key in (*NAMES, "identity", "printed")})
    if cell.digest != record["cell"]:
        raise ValueError(f"{cell.title}: expected the digest {cell.digest}, got {record['cell']}")
    return cell


def group_of(record: Mapping[str, Any]) -> Group:
    """The group that a record names in its fields."""
    return Group(*(str(record[name]) for name in Group._fields))


def checked_name(name: str, key: str) -> str:
    """A name that can stand in a table and in a message; returns it.

    Raises ValueError that names `key` for one that is empty or long, has characters that do not print or slashes, or
    begins or ends with a space or a dot.
    """
    if not 0 < len(name) <= LONGEST or not name.isprintable() or re.search(r"[/\\]|^[. ]|[. ]$", name):
        raise ValueError(
            f"{key}: expected 1 to {LONGEST} printable characters without slashes, and no space or dot at either end, "
            f"got {name!r}"
        )
    return name


def file_name(*words: str) -> str:
    """A name for a file that belongs to these words: readable, and different for different words."""
    readable = "--".join(re.sub(r"[^A-Za-z0-9_.+=-]+", "_", word) for word in words).strip("._-")[:READABLE]
    digest = hashlib.blake2b(json.dumps(words).encode(), digest_size=5).hexdigest()
    return f"{readable}-{digest}"
