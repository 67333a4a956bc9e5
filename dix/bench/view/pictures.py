"""The kept pictures and maps of a group's images, made ready for a page when somebody asks for them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dix.bench.store.cells import Group
from dix.bench.store.foreign import PICTURES, UNPACKED
from dix.bench.view.fills import canvas
from dix.pictures import overlay, png_bytes, webp_bytes, without_peaks

Floats = NDArray[np.float64]

#: Most pixels of a picture; side of a thumbnail.
LARGEST, THUMB = 4096**2, 96


class Unshown(ValueError):
    """A picture that is damaged, too large, or a link."""


@dataclass(frozen=True)
class Kept:
    """One image's folder. about: what its note says. maps: methods that have a picture or a stored map."""

    folder: Path
    about: Mapping[str, Any]
    maps: tuple[str, ...]


def kept(results: Path, group: Group) -> dict[str, Kept]:
    """The images of a group that have pictures, by id; folders that are links are left out."""
    found: dict[str, Kept] = {}
    room = results / "images" / group.folder
    for note in sorted(room.glob("*/about.json")):
        if any(path.is_symlink() for path in (room.parent, room, note.parent, note)):
            continue
        try:
            about = json.loads(note.read_bytes()) if note.stat().st_size < PICTURES[".json"] else {}
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(about, dict) and isinstance(about.get("image"), str):
            names = {path.stem for path in note.parent.iterdir() if path.suffix in (".png", ".npz")} - {"photo"}
            found[about["image"]] = Kept(note.parent, about, tuple(sorted(names)))
    return found


def photo(one: Kept) -> bytes:
    """The photo, as WebP."""
    return webp_bytes(np.rint(255 * _pixels(one.folder / "photo.png")).astype(np.uint8))


def thumb(one: Kept) -> bytes:
    """The photo as small as lists need it."""
    pixels = np.rint(255 * _pixels(one.folder / "photo.png")).astype(np.uint8)
    small = Image.fromarray(pixels)
    small.thumbnail((THUMB, THUMB))
    return webp_bytes(np.asarray(small))


def masked(one: Kept, fill: str, mean: Sequence[float]) -> bytes:
    """What the photo's pixels become where they are masked, as PNG; raises `Unshown` where they are left out."""
    found = canvas(_pixels(one.folder / "photo.png"), fill, mean)
    if found is None:
        raise Unshown("masked pixels are left out")
    return png_bytes(np.rint(255 * found.clip(0, 1)).astype(np.uint8))


def heat(one: Kept, method: str) -> bytes:
    """A method's map over the photo, as WebP."""
    return webp_bytes(overlay(_pixels(one.folder / "photo.png"), without_peaks(_map(one, method))))


def order(one: Kept, method: str) -> bytes:
    """Where each pixel stands in a method's map, as a grey PNG: 0 is the most relevant 256th of them, 255 the least.

    Equal pixels are in the order of their places.
    """
    values = _map(one, method)
    places = np.empty(values.size, dtype=np.int64)
    places[np.argsort(-values.ravel(), kind="stable")] = np.arange(values.size)
    stream = io.BytesIO()
    Image.fromarray((256 * places // values.size).astype(np.uint8).reshape(values.shape)).save(stream, format="PNG")
    return stream.getvalue()


def _map(one: Kept, method: str) -> Floats:
    """A method's map [H, W]: the stored numbers where there are some, else the picture of it; never NaN."""
    path = one.folder / f"{method}.npz"
    if method not in one.maps:
        raise Unshown("no such map")
    values = _numbers(path) if path.is_file() else _pixels(one.folder / f"{method}.png")
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _numbers(path: Path) -> Floats:
    """A stored map [H, W]; see `dix.bench.run.gallery`."""
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > UNPACKED:
                raise Unshown("too large")
        with np.load(path, allow_pickle=False) as stored:
            values = np.asarray(stored["map"], dtype=float)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise Unshown(str(error)) from error
    if values.ndim != 2 or values.size > LARGEST:
        raise Unshown("not a map")
    return values


def _pixels(path: Path) -> Floats:
    """A picture in [0, 1]."""
    _check_file(path)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > LARGEST:
                raise Unshown("too large")
            return np.asarray(image, dtype=float) / 255
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise Unshown(str(error)) from error


def _check_file(path: Path) -> None:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > PICTURES[path.suffix]:
        raise Unshown("a link, no file, or too large")
