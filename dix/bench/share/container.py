"""The file that a result travels in: an ordinary zip archive whose last bytes are the checksum of all bytes before.

Nothing in it is compressed, so that it unpacks to no more than its own size. Whoever changes a byte must change the
checksum, too: it finds damage and careless editing, not forgery, for which rows are recomputed.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dix.bench.share.shape import misfit, schema
from dix.files import atomic

MANIFEST = "manifest.json"
FORMAT, VERSION = "dix-pack", 1
#: Bytes of the largest pack and of its largest manifest; files in a pack.
LARGEST, LARGEST_MANIFEST, MOST_FILES = 2**32 - 2**16, 2**26, 100_000
#: Where a file of a pack may lie: records, rows and pictures, as a results folder has them.
PLACES = re.compile(
    r"(store/(cells|jobs|skips|failures|unread|clean|provenance|origins|orders|sequences)/[\w.+=-]{1,120}\.json"
    r"|store/rows/[\w.+=-]{1,120}/part-[0-9a-f]{40}\.parquet"
    r"|images/[\w.+=-]{1,120}/[\w.+=-]{1,120}/[^/\\\x00-\x1f\x7f]{1,200}\.(png|json|npz))",
    re.ASCII,
)
_WORDS = b"dix-pack sha256 "
_SUM = re.compile(rb"dix-pack sha256 ([0-9a-f]{64})")
_AT_ONCE = 2**20


class BadPack(ValueError):
    """A file that is no pack, was changed, or asks for what no pack may."""


@dataclass(frozen=True)
class Pack:
    """A pack whose every byte was checked.

    digest: SHA-256 of it. manifest: what pack.schema.json describes.
    """

    path: Path
    digest: str
    manifest: Mapping[str, Any]


def write(path: Path, files: Mapping[str, Path], manifest: Mapping[str, Any]) -> Pack:
    """Write a pack of files by their names in it; equal content gives equal bytes.

    Raises ValueError where the manifest or a name is not what readers accept, or all is too large.
    """
    listed: dict[str, dict[str, Any]] = {
        name: {"bytes": file.stat().st_size, "sha256": _sum_of(file)} for name, file in sorted(files.items())
    }
    whole = {"format": FORMAT, "version": VERSION, **manifest, "files": listed}
    content = json.dumps(whole, indent=1, sort_keys=True, allow_nan=False).encode()
    wrong = misfit(whole, schema("pack")) or next((f"{n!r} has no place" for n in files if not fits(n)), "")
    if wrong or len(content) > LARGEST_MANIFEST or sum(file["bytes"] for file in listed.values()) > LARGEST // 2:
        raise ValueError(f"{path}: cannot be packed: {wrong or 'it is too large'}")
    with atomic(path) as half:
        with zipfile.ZipFile(half, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_entry(MANIFEST), content)
            for name in listed:
                with archive.open(_entry(name), "w") as target, files[name].open("rb") as source:
                    for part in iter(lambda: source.read(_AT_ONCE), b""):
                        target.write(part)
            archive.comment = _WORDS + b"0" * 64
        digest = _sum_of(half, half.stat().st_size - 64)
        with half.open("r+b") as stream:
            stream.seek(-64, 2)
            stream.write(digest.encode())
    return Pack(path, digest, whole)


def fits(name: str) -> bool:
    """Whether a file of a pack may have this name."""
    return bool(PLACES.fullmatch(name)) and not any(part.startswith(".") for part in name.split("/"))


def read(path: Path) -> Pack:
    """Check a pack's every byte and its manifest. Raises BadPack that says what is wrong."""
    try:
        digest = _checked_sum(path)
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive)
            _check_files(archive, manifest["files"])
    except FileNotFoundError:
        raise BadPack(f"no file {path}") from None
    except BadPack as error:
        raise BadPack(f"{path}: {error}") from None
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError, NotImplementedError, EOFError) as error:
        raise BadPack(f"{path} is no pack: {error}") from error
    return Pack(path, digest, manifest)


def _checked_sum(path: Path) -> str:
    size = path.stat().st_size
    if size > LARGEST:
        raise BadPack(f"{size:,} bytes, expected at most {LARGEST:,}")
    with path.open("rb") as stream:
        stream.seek(max(0, size - 64 - len(_WORDS)))
        found = _SUM.fullmatch(stream.read())
    if found is None:
        raise BadPack("not a pack, or cut off: it does not end with its checksum")
    if _sum_of(path, size - 64) != found[1].decode():
        raise BadPack("its checksum is wrong: it was changed or damaged after it was packed")
    return found[1].decode()


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(set(names)) < len(names) or len(names) > MOST_FILES or names[:1] != [MANIFEST]:
        raise BadPack("its files are not those of a pack")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise BadPack(f"{info.filename[:80]!r} is compressed or encrypted")
    if infos[0].file_size > LARGEST_MANIFEST:
        raise BadPack("its manifest is too large")
    found = json.loads(archive.read(MANIFEST))
    _check_version(found)
    wrong = misfit(found, schema("pack"))
    if wrong:
        raise BadPack(f"its manifest: {wrong}")
    return dict(found)


def _check_version(found: Any) -> None:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadPack("its manifest is not one of a pack")
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        raise BadPack(
            f"written by a newer version of this program (pack format {version}; this one reads up to {VERSION}): "
            "install a newer dix-bench"
        )


def _check_files(archive: zipfile.ZipFile, listed: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise BadPack unless the archive's files are the listed ones, in places that packs have."""
    names = {info.filename for info in archive.infolist()} - {MANIFEST}
    if names != listed.keys():
        raise BadPack(f"its files are not those that its manifest lists: {sorted(names ^ listed.keys())[:3]}")
    for info in archive.infolist()[1:]:
        if not fits(info.filename):
            raise BadPack(f"a file {info.filename[:80]!r} has no place in a results folder")
        if (
            info.file_size != listed[info.filename]["bytes"]
            or _sum_in(archive, info) != listed[info.filename]["sha256"]
        ):
            raise BadPack(f"{info.filename}: its checksum is wrong")


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr, info.create_system = 0o644 << 16, 3
    return info


def _sum_in(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    digest = hashlib.sha256()
    with archive.open(info) as stream:
        for part in iter(lambda: stream.read(_AT_ONCE), b""):
            digest.update(part)
    return digest.hexdigest()


def _sum_of(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first bytes."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as stream:
        while left > 0 and (part := stream.read(min(_AT_ONCE, left))):
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()
