"""COCO's annotation file: read with distrust, so that a broken annotation costs that annotation and nothing else."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dix.datasets.api import LeftOut
from dix.datasets.index import unique
from dix.datasets.text import decoded, text_id
from dix.extras import optional

Note = Mapping[str, Any]  #: one annotation, as the file has it
MOST_PIXELS = 178_956_970  #: of an image; Pillow refuses larger ones too
_SLACK = 1.0  #: how far, in pixels, a polygon's point may lie outside the picture by rounding


@dataclass(frozen=True)
class Picture:
    """What the file says of one image: its number (or other key), its file's name and its size in pixels."""

    key: int | str
    file: str
    height: int
    width: int

    @property
    def id(self) -> str:
        """The file's name as text."""
        return text_id(self.file)


@dataclass(frozen=True)
class Notes:
    """A whole annotation file.

    pictures: sorted by key. by_picture: the annotations that can be decoded, by the picture's key. categories: names by
    number. left_out: annotations that cannot, with the reason. broken: keys of pictures all of whose annotations are
    left out.
    """

    pictures: Sequence[Picture]
    by_picture: Mapping[int | str, Sequence[Note]]
    categories: Mapping[int, str]
    left_out: Sequence[LeftOut]
    broken: frozenset[int | str]


def read_notes(path: Path) -> Notes:
    """Read `instances_*.json`. Raises ValueError that names the file where it is none, or lists an image twice."""
    content = _content(path)
    pictures = [_picture(entry, f"{path.name}, image {n}") for n, entry in enumerate(content["images"], 1)]
    unique([str(picture.key) for picture in pictures], path.name)
    unique([picture.file for picture in pictures], path.name)
    categories = {entry["id"]: entry["name"] for entry in content["categories"] if _is_category(entry)}
    return _sorted_out(sorted(pictures, key=_order), content["annotations"], categories)


def _order(picture: Picture) -> tuple[bool, int, str]:
    number = picture.key if isinstance(picture.key, int) else 0
    return isinstance(picture.key, str), number, str(picture.key)


def _content(path: Path) -> Mapping[str, list[Any]]:
    try:
        content = json.loads(decoded(path.read_bytes(), path.name))
        lists = {part: content[part] for part in ("images", "annotations", "categories")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name}: not a COCO instances file: {error or type(error).__name__}") from error
    wrong = [part for part, entries in lists.items() if not isinstance(entries, list)]
    if wrong:
        raise ValueError(f"{path.name}: not a COCO instances file: {wrong[0]} is no list")
    return lists


def _picture(entry: Any, where: str) -> Picture:
    try:
        picture = Picture(entry["id"], entry["file_name"], entry["height"], entry["width"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: expected id, file_name, height and width, got {str(entry)[:80]}") from error
    if type(picture.key) not in (int, str) or not isinstance(picture.file, str):
        raise ValueError(f"{where}: expected a number and a file's name, got {picture.key!r} and {picture.file!r}")
    if picture.file.startswith("/") or "\\" in picture.file or {"..", ""} & set(picture.file.split("/")):
        raise ValueError(f"{where}: the file name {picture.file!r} leads out of the folder of images")
    if not all(type(side) is int and side > 0 for side in (picture.height, picture.width)):
        raise ValueError(f"{where}: expected a size in pixels, got {picture.width!r}x{picture.height!r}")
    if picture.height * picture.width > MOST_PIXELS:
        raise ValueError(f"{where}: {picture.width}x{picture.height} pixels are more than an image may have")
    return picture


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)


def _sorted_out(pictures: Sequence[Picture], notes: Iterable[Any], categories: Mapping[int, str]) -> Notes:
    known = {str(picture.key): picture for picture in pictures}
    good: dict[int | str, list[Note]] = defaultdict(list)
    left_out = []
    touched = set()
    for number, note in enumerate(notes, 1):
        picture = known.get(str(note.get("image_id"))) if isinstance(note, dict) else None
        reason = _fault(note, picture, categories)
        if picture is not None:
            touched.add(picture.key)
        if picture is None or reason:
            where = f"annotation {number}" + (f" of {picture.id}" if picture else "")
            left_out.append(LeftOut(where, f"annotation: {reason}"))
        else:
            good[picture.key].append(note)
    return Notes(pictures, good, categories, left_out, frozenset(touched - good.keys()))


def _fault(note: Any, picture: Picture | None, categories: Mapping[int, str]) -> str:
    """Why an annotation cannot be decoded, or "". picture: the one whose key reads like the annotation's image_id."""
    if not isinstance(note, dict):
        return "no object of named fields"
    if picture is None:
        return "its image_id is no image's"
    if type(note["image_id"]) is not type(picture.key):
        return "its image_id reads like an image's and is of another type"
    category = note.get("category_id")
    if type(category) is not int or category not in categories:
        return "its category_id is no category's"
    shape = note.get("segmentation")
    if isinstance(shape, list):
        return _polygons_fault(shape, picture)
    return _runs_fault(shape, picture) if isinstance(shape, dict) else "no segmentation"


def _polygons_fault(parts: list[Any], picture: Picture) -> str:
    if not parts:
        return "its segmentation is empty"
    return next((fault for part in parts if (fault := _polygon_fault(part, picture))), "")


def _polygon_fault(part: Any, picture: Picture) -> str:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        return "a polygon is no list of three or more points"
    if not all(type(value) in (int, float) for value in part):
        return "a polygon has coordinates that are no numbers"
    across, down = part[0::2], part[1::2]
    inside = min(part) >= -_SLACK and max(across) <= picture.width + _SLACK and max(down) <= picture.height + _SLACK
    if not inside or not math.isfinite(sum(part)):
        return "a polygon lies outside its picture"
    return ""


def _runs_fault(shape: Mapping[str, Any], picture: Picture) -> str:
    if shape.get("size") != [picture.height, picture.width]:
        return "the size of its run lengths is not its picture's"
    counts = shape.get("counts")
    try:
        runs = run_lengths(counts) if isinstance(counts, str) else counts
    except ValueError:
        return "its run lengths cannot be decoded"
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return "its run lengths are no list of numbers"
    return "" if sum(runs) == picture.height * picture.width else "its run lengths do not fill its picture"


def run_lengths(text: str | bytes) -> list[int]:
    """COCO's compressed run lengths as numbers. Raises ValueError for text that is none.

    A run is written in groups of five bits, lowest first, each as a character from "0"; bit 5 says that another
    follows, bit 4 of the last is the sign. From the fourth run on, the difference to the run before the last is
    written.
    """
    runs: list[int] = []
    value = shift = 0
    for group in (byte - 48 for byte in (text.encode("utf-8", "replace") if isinstance(text, str) else text)):
        if not 0 <= group < 64 or shift > 40:
            raise ValueError("not a run length")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        value -= (group >> 4 & 1) << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("a run length has no end")
    return runs


def decode_rle(text: str | bytes, height: int, width: int) -> np.ndarray:
    """Mask [height, width] int8 from COCO's compressed run lengths: runs of 0 and 1 alternate, column by column.

    Raises ValueError where the runs do not fill the mask, before any memory is taken. (pycocotools' own decoder warns
    under NumPy 2, and silencing a warning is not safe in threads.)
    """
    return _filled(run_lengths(text), height, width)


def _filled(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise ValueError(f"run lengths of {sum(runs)} pixels for a mask of {height} x {width}")
    flat = np.repeat((np.arange(len(runs)) & 1).astype(np.int8), runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def union(notes: Iterable[Note], picture: Picture) -> np.ndarray:
    """The union [height, width] int8 of annotations that were found to be decodable; zeros where there are none."""
    mask = np.zeros((picture.height, picture.width), dtype=np.int8)
    for note in notes:
        mask |= _mask(note["segmentation"], picture)
    return mask


def _mask(shape: Any, picture: Picture) -> np.ndarray:
    height, width = picture.height, picture.width
    if isinstance(shape, dict):
        counts = shape["counts"]
        return _filled(run_lengths(counts) if isinstance(counts, str) else counts, height, width)
    codec = optional("pycocotools.mask", "datasets")
    return decode_rle(codec.merge(codec.frPyObjects(shape, height, width))["counts"], height, width)
