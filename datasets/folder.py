"""A folder of the user's own images, with masks and labels where there are any."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from dix.datasets.api import CorruptSample, LeftOut, MissingData, Record
from dix.datasets.identity import digest
from dix.datasets.images import Decoded, decode, decode_drawn, is_image, read_bytes, without_suffix
from dix.datasets.index import fingerprint
from dix.datasets.labels import Matched, match, read_label_file
from dix.datasets.listing import Listing, walk_files
from dix.datasets.masks import drawn_mask, fitting, on_stored
from dix.datasets.text import text_id

_NO_IMAGE = "file whose name does not end as an image's does"


@dataclass(frozen=True)
class Folder:
    """Every image below a folder, sorted by path.

    root: the folder. mask_suffix: `dog.jpg` has its mask in `dog_mask.png` beside it, with any image's suffix; every
        value above 0 is object, in a format that changes values (JPEG, WebP, AVIF) every value from 128 on.
    masks: "optional" uses those that are there, "required" reports an image without one, "none" ignores them.
    masks_drawn: what masks were drawn on. "stored": the pixels as the image's file has them; where its EXIF orientation
        turns the image, the mask is turned with it. "upright": the image as viewers show it; the mask stays as it is.
        A mask whose size fits only the other way is refused, never guessed.
    void: the value that is neither object nor background, or None.
    labels_file: lines "name index" of ImageNet indices; a name is a path below the root, or a file's name where only
        one image has it. A file that it names is an image whatever its suffix.
    Raises MissingData for a folder that is not there or holds no image; ValueError where masks or labels cannot be
    attributed.
    """

    version: ClassVar[int] = 1
    root: str | None = None
    mask_suffix: str = "_mask"
    masks: Literal["optional", "required", "none"] = "optional"
    masks_drawn: Literal["stored", "upright"] = "stored"
    void: int | None = None
    labels_file: str | None = None
    name: str = "folder"

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range or would have no effect."""
        if self.masks not in ("optional", "required", "none"):
            raise ValueError(f"dataset.masks: expected optional, required or none, got {self.masks!r}")
        if self.masks_drawn not in ("stored", "upright"):
            raise ValueError(f"dataset.masks_drawn: expected stored or upright, got {self.masks_drawn!r}")
        if not self._mask_end:
            raise ValueError(f"dataset.mask_suffix: expected an end of a name such as _mask, got {self.mask_suffix!r}")
        if self.void is not None and not 0 < self.void < 256:
            raise ValueError(f"dataset.void: expected a value of 1 to 255 or null, got {self.void!r}")
        if self.void is not None and self.masks == "none":
            raise ValueError("dataset.void: expected null where dataset.masks is none, since no mask is read")

    @property
    def label_space(self) -> str | None:
        """ImageNet where a label file is given."""
        return "imagenet" if self.labels_file else None

    @cached_property
    def folder(self) -> Path:
        """The resolved root."""
        if self.root is None or not Path(self.root).is_dir():
            raise MissingData(f"dataset.root: expected a folder of images, got {self.root!r}")
        return Path(self.root)

    @cached_property
    def _mask_end(self) -> str:
        """How the stem of a mask's name ends, in lower case."""
        return without_suffix(self.mask_suffix).lower()

    @cached_property
    def _listing(self) -> Listing:
        return walk_files(self.folder)

    @cached_property
    def _named(self) -> Mapping[str, int]:
        """The label file's lines."""
        return read_label_file(Path(self.labels_file)) if self.labels_file else {}

    @cached_property
    def _stems(self) -> Mapping[str, str]:
        """Paths without their suffix, of the files whose names end as an image's does."""
        return {path: without_suffix(path) for path in self._listing.files if is_image(path)}

    @cached_property
    def _mask_stems(self) -> Mapping[str, str]:
        """Paths of masks, and what the path of their image is but for its suffix."""
        end = self._mask_end
        return {path: stem[: -len(end)] for path, stem in self._stems.items() if stem.lower().endswith(end)}

    @cached_property
    def _files(self) -> Sequence[str]:
        """Path relative to the root of each image that is no mask."""
        files = [path for path in self._listing.files if path not in self._mask_stems and self._is_picture(path)]
        if not files:
            raise MissingData(f"dataset.root: the folder {self.folder} holds no images")
        return files

    def _is_picture(self, path: str) -> bool:
        return path in self._stems or path in self._named or path.rsplit("/", 1)[-1] in self._named

    @cached_property
    def _masks(self) -> Mapping[str, str]:
        """Path of the mask by path of the image. Raises ValueError where a mask or an image may have two."""
        if self.masks == "none":
            return {}
        drawn = _by_stem(self._mask_stems)
        pictures = _by_stem({path: self._stems.get(path, path) for path in self._files})
        pairs = {}
        for stem in drawn.keys() & pictures.keys():
            if len(drawn[stem]) + len(pictures[stem]) > 2:
                several = " and ".join(text_id(path) for path in (*pictures[stem], *drawn[stem]))
                raise ValueError(f"dataset.root: {several} cannot be told apart as one image and its mask; rename some")
            pairs[pictures[stem][0]] = drawn[stem][0]
        return pairs

    @cached_property
    def _labelled(self) -> Matched:
        found = match(self._named, self._files, str(self.labels_file))
        if self.labels_file and not found.labels:
            raise ValueError(f"dataset.labels_file: no line of {self.labels_file} names an image of {self.folder}")
        return found

    @cached_property
    def ids(self) -> Sequence[str]:
        """Paths relative to the root, with forward slashes; bytes that are no text are escaped."""
        return tuple(text_id(path) for path in self._files)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """Labels of the label file; None for an image that it does not name."""
        return tuple(self._labelled.labels.get(path) for path in self._files)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: a label file gives indices."""
        return {}

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files that are no image or no image's mask, images without a label, and labels without an image."""
        used = {*self._files, *self._masks.values()}
        if self.labels_file and Path(self.labels_file).resolve().is_relative_to(self.folder.resolve()):
            used.add(Path(self.labels_file).resolve().relative_to(self.folder.resolve()).as_posix())
        others = [LeftOut(text_id(path), self._why(path)) for path in self._listing.files if path not in used]
        unknown = [
            LeftOut(text_id(name), "line of the label file that no image has") for name in self._labelled.unmatched
        ]
        bare = [LeftOut(name, "image without a label (it is read)") for name in self._unlabelled()]
        return [*self._listing.left_out, *others, *unknown, *bare]

    def _unlabelled(self) -> Sequence[str]:
        pairs = zip(self.ids, self.labels, strict=True)
        return [name for name, label in pairs if label is None] if self.labels_file else []

    def _why(self, path: str) -> str:
        if path not in self._mask_stems:
            return _NO_IMAGE
        return "mask, and dataset.masks is none" if self.masks == "none" else "mask without an image"

    def read(self, index: int) -> Record:
        """Decode one image and its mask. Raises CorruptSample."""
        data, drawn, label = parts = self._source(index)
        image = decode(data, self.ids[index])
        mask = None if drawn is None else self._mask(drawn, image, text_id(self._masks[self._files[index]]))
        return Record(self.ids[index], image.image, label, mask, digest(*parts))

    def content(self, index: int) -> str:
        """Digest of the image's file, its mask's and the label. Raises CorruptSample."""
        return digest(*self._source(index))

    def _source(self, index: int) -> tuple[bytes, bytes | None, int | None]:
        """What is read for an image: its file, its mask's file, and the label. Raises CorruptSample."""
        path = self._files[index]
        truth = None if self.masks == "none" else self._masks.get(path)
        if truth is None and self.masks == "required":
            raise CorruptSample(
                f"{text_id(path)}: its mask {text_id(without_suffix(path))}{self._mask_end}.png is not there"
            )
        drawn = None if truth is None else read_bytes(self.folder / truth, text_id(truth))
        return read_bytes(self.folder / path, text_id(path)), drawn, self.labels[index]

    def _mask(self, data: bytes, image: Decoded, name: str) -> np.ndarray:
        drawn = decode_drawn(data, name)
        mask = drawn_mask(drawn, self.void, name)
        if self.masks_drawn == "stored" and drawn.turn == 1:
            return on_stored(mask, image, name)
        if self.masks_drawn == "stored" and drawn.turn != image.turn:
            raise CorruptSample(
                f"{name}: its EXIF orientation is {drawn.turn} and its image's {image.turn}; save both without any"
            )
        return fitting(mask, image.image.size, name)

    def fingerprint(self) -> str:
        """Hash of ids, labels, how masks are read, and the void value."""
        masked = "without masks" if self.masks == "none" else f"masks drawn on {self.masks_drawn}"
        return fingerprint(self.name, self.ids, self.labels, masked, str(self.void))


def _by_stem(stems: Mapping[str, str]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for path, stem in stems.items():
        groups[stem].append(path)
    return groups
