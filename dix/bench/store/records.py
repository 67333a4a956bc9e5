"""JSON records of a store: a file each, with a checksum of its content, read by one reader that trusts nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dix.bench.store.cells import NAMES, file_name
from dix.bench.store.errors import StaleResults
from dix.bench.store.quarantine import Quarantine
from dix.bench.store.shapes import misfit
from dix.files import write_atomic

#: Bytes of the largest file that is read.
LARGEST = 64 * 2**20


class Records:
    """The records of a store by kind and name.

    A file holds {"kind", "name", "record", "checksum"}; its own name is made from the record's. One whose checksum,
    name or shape is wrong is set aside.
    """

    def __init__(self, folder: Path, quarantine: Quarantine) -> None:
        self.folder = folder
        self.quarantine = quarantine

    def path(self, kind: str, name: str) -> Path:
        """Where a record is kept."""
        return self.folder / kind / f"{file_name(name)}.json"

    def write(self, kind: str, name: str, record: Mapping[str, Any]) -> None:
        """Put a record in place, replacing an older one. Raises ValueError where it lacks what its kind needs."""
        content = json.loads(json.dumps(record, default=str))
        wrong = misfit(kind, content)
        if wrong:
            raise ValueError(f"{kind} {name}: {wrong}")
        whole = {"kind": kind, "name": name, "record": content, "checksum": _checksum(kind, name, content)}
        with naming_the_setting():
            write_atomic(self.path(kind, name), json.dumps(whole, indent=1, sort_keys=True) + "\n")

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every record of a kind by its name, in the order of their files.

        Raises StaleResults where the folder was written before records had checksums.
        """
        self._refuse_older()
        found = (self._load(path, kind) for path in sorted((self.folder / kind).glob("*.json")))
        return {whole["name"]: whole["record"] for whole in found if whole is not None}

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One record, or None where there is none."""
        whole = self._load(self.path(kind, name), kind)
        return None if whole is None else whole["record"]

    def forget(self, kind: str, name: str) -> None:
        """Remove a record, if it is there."""
        self.path(kind, name).unlink(missing_ok=True)

    def _refuse_older(self) -> None:
        for path in (self.folder / "cells").glob("*.json"):
            if not re.search(r"-[0-9a-f]{10}$", path.stem) and _older(path):
                raise StaleResults(
                    f"{path} was written by an earlier version of this program; nothing stored was touched; "
                    "use another folder (run.name=NAME or run.results=PATH), or remove it"
                )

    def _load(self, path: Path, kind: str) -> dict[str, Any] | None:
        """A whole file, or None where it is gone or wrong."""
        try:
            if path in self.quarantine:
                return None
            if path.stat().st_size > LARGEST:
                raise ValueError(f"{path} is larger than {LARGEST} bytes")
            return checked(json.loads(path.read_bytes()), kind, path.stem)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            self.quarantine.set_aside(path)
            return None


def checked(whole: Any, kind: str, stem: str) -> dict[str, Any]:
    """The content of a file, if it is what the file's place says. Raises ValueError otherwise."""
    if not isinstance(whole, dict) or whole.keys() != {"kind", "name", "record", "checksum"}:
        raise ValueError("not a record")
    name = whole["name"]
    if whole["kind"] != kind or not isinstance(name, str) or file_name(name) != stem:
        raise ValueError("a record of another kind or name")
    if whole["checksum"] != _checksum(kind, name, whole["record"]):
        raise ValueError("the checksum is wrong")
    wrong = misfit(kind, whole["record"])
    if wrong:
        raise ValueError(wrong)
    return whole


def _older(path: Path) -> bool:
    """Whether a file is a cell's record as it was kept before records had checksums."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and {*NAMES, "cell", "identity"} <= record.keys()


def _checksum(kind: str, name: str, record: Any) -> str:
    content = json.dumps([kind, name, record], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@contextmanager
def naming_the_setting() -> Iterator[None]:
    """Say which setting leads to a folder that cannot be written."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"run.results: {error}; name another folder or make room") from error
