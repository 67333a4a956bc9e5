"""The embedded default: labelled photos that packages carry, with masks drawn by this project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from dix.datasets.api import Record
from dix.datasets.identity import digest
from dix.datasets.images import decode, read_bytes
from dix.datasets.index import fingerprint
from dix.datasets.masks import Polygon, on_stored, rasterise
from dix.datasets.packages import package_file

_FOOLBOX = (243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305)
_SKIMAGE = {"chelsea.png": 282, "coffee.png": 967, "camera.png": 872, "rocket.jpg": 657}
_QUOKKA = "quokka.jpg"


@dataclass(frozen=True)
class _Photo:
    """Where one photo lies: package and path in it; label is an ImageNet index or None."""

    package: str
    parts: tuple[str, ...]
    label: int | None

    @property
    def id(self) -> str:
        return self.parts[-1]

    def path(self) -> Path:
        return package_file(self.package, *self.parts)


@dataclass(frozen=True)
class Photos:
    """Twenty-five photos: foolbox's twenty, four of scikit-image and imgaug's quokka (which has no ImageNet class).

    Outlines are this project's own (photos_masks.json), but for the quokka's, which imgaug's authors drew. They are
    drawn on the pixels as the file has them and would turn with a photo that EXIF turns, which none of these is.
    Raises MissingData where a package is not installed.
    """

    version: ClassVar[int] = 1
    name: str = "photos"
    label_space: str | None = "imagenet"

    @cached_property
    def _photos(self) -> tuple[_Photo, ...]:
        foolbox = [_Photo("foolbox", ("data", f"imagenet_{n:02d}_{k}.jpg"), k) for n, k in enumerate(_FOOLBOX)]
        skimage = [_Photo("skimage", ("data", name), label) for name, label in _SKIMAGE.items()]
        return (*foolbox, *skimage, _Photo("imgaug", (_QUOKKA,), None))

    @cached_property
    def ids(self) -> Sequence[str]:
        """File names, in the order of the packages above."""
        return tuple(photo.id for photo in self._photos)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """ImageNet indices, in the order of the ids."""
        return tuple(photo.label for photo in self._photos)

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Readable names of the classes that occur, by ImageNet index."""
        text = Path(__file__).with_name("photos_classes.json").read_text(encoding="utf-8")
        return {int(index): name for index, name in json.loads(text).items()}

    @cached_property
    def _outlines(self) -> Mapping[str, Mapping[str, Sequence[Polygon]]]:
        return json.loads(Path(__file__).with_name("photos_masks.json").read_text(encoding="utf-8"))["photos"]

    def outlines(self, index: int) -> tuple[Sequence[Polygon], Sequence[Polygon]]:
        """Polygons and holes of one photo, in pixels of its file; both empty where none were drawn."""
        photo = self._photos[index]
        if photo.id == _QUOKKA:
            return _quokka_outline(), ()
        drawn = self._outlines.get(photo.id, {})
        return drawn.get("polygons", ()), drawn.get("holes", ())

    def read(self, index: int) -> Record:
        """Decode one photo and fill its outline. Raises CorruptSample, or MissingData without the package."""
        photo, data = self._photos[index], self._bytes(index)
        image = decode(data, photo.id)
        polygons, holes = self.outlines(index)
        mask = on_stored(rasterise(image.stored, polygons, holes), image, photo.id) if polygons else None
        return Record(photo.id, image.image, photo.label, mask, self._digest(index, data))

    def content(self, index: int) -> str:
        """Digest of the photo's file, outline and label. Raises CorruptSample, or MissingData without the package."""
        return self._digest(index, self._bytes(index))

    def _bytes(self, index: int) -> bytes:
        return read_bytes(self._photos[index].path(), self._photos[index].id)

    def _digest(self, index: int, data: bytes) -> str:
        return digest(data, json.dumps(self.outlines(index)), self._photos[index].label)

    def fingerprint(self) -> str:
        """Hash of ids and labels."""
        return fingerprint(self.name, self.ids, self.labels)


def _quokka_outline() -> Sequence[Polygon]:
    """The hand-drawn polygon that imgaug ships beside its photo."""
    notes = json.loads(package_file("imgaug", "quokka_annotations.json").read_text(encoding="utf-8"))
    return [[[point["x"], point["y"]] for point in polygon["keypoints"]] for polygon in notes["polygons"]]
