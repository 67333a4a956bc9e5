"""ImageNet (ILSVRC-2012) validation images, in any of the forms in which people have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from dix.datasets.api import CorruptSample, Record
from dix.datasets.identity import digest
from dix.datasets.images import decode_rgb, read_bytes
from dix.datasets.index import fingerprint, unique
from dix.datasets.labels import image_number, read_devkit, read_label_file, synset_indices
from dix.datasets.layout import Layout
from dix.datasets.listing import Rows, TarMember, list_images, list_tar, subfolders

LAYOUT = Layout(
    name="imagenet",
    source="ImageNet Large Scale Visual Recognition Challenge 2012, image-net.org (an account is needed): "
    "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz",
    tree="""
one of
  [val/]n01440764/ILSVRC2012_val_00000293.JPEG   1,000 synset folders
  [val/]ILSVRC2012_val_00000001.JPEG             50,000 files in one folder, with labels as below
  ILSVRC2012_img_val.tar                         read in place, with labels as below
labels (not needed with synset folders): one of
  val.txt                                        lines "ILSVRC2012_val_00000001.JPEG 65", index 0-999
  [devkit folders/]ILSVRC2012_validation_ground_truth.txt and meta.mat
""",
    expected={"images": 50_000, "classes": 1_000},
)
_SYNSET = re.compile(r"n\d{8}")
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_DEVKIT_FOLDERS = (".", "data", "devkit", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12")


class _Entry(NamedTuple):
    """One image of the index. path: None where the labels name an image that is not there."""

    id: str
    label: int
    path: str | None
    size: int
    offset: int


@dataclass(frozen=True)
class ImageNet:
    """The validation images, sorted by file name whatever the form, so that every form gives the same data set.

    root: the folder of the layout above; None: $DIX_DATA/imagenet.
    labels: a label file ("name index" a line) to use instead of the one in the root.
    Raises MissingData, on first use, where images or labels are not there.
    """

    root: str | None = None
    labels_file: str | None = None
    name: str = "imagenet"
    label_space: str | None = "imagenet"

    @cached_property
    def folder(self) -> Path:
        """The resolved root."""
        return LAYOUT.root(self.root)

    @cached_property
    def _entries(self) -> Sequence[_Entry]:
        rows = self._rows
        labelled = _by_synset(rows) if self._synsets else _by_name(rows, self._label_of())
        entries = sorted(labelled, key=lambda entry: entry.id)
        unique([entry.id for entry in entries], str(self.folder))
        return entries

    @cached_property
    def _images(self) -> Path:
        """The folder that holds the images or the synset folders."""
        inner = self.folder / "val"
        return inner if inner.is_dir() else self.folder

    @cached_property
    def _synsets(self) -> Sequence[str]:
        return [name for name in subfolders(self._images) if _SYNSET.fullmatch(name)]

    @cached_property
    def _archive(self) -> Path | None:
        """The tar archive, where no unpacked images lie beside it."""
        tars = sorted(self.folder.glob("*.tar"))
        return tars[0] if tars and not self._synsets and not list_images(self._images, ["."]) else None

    @cached_property
    def _rows(self) -> Rows:
        if self._archive is not None:
            rows = list_tar(self._archive)
        else:
            rows = [(path, 0, 0) for path in list_images(self._images, self._synsets or ["."])]
        if not rows:
            raise LAYOUT.missing(f"no images in {self._archive or self._images}")
        return rows

    def _label_of(self) -> Mapping[str, int]:
        """Labels by file name, from the label file or else the devkit."""
        file = Path(self.labels_file) if self.labels_file else self.folder / "val.txt"
        if file.is_file():
            return read_label_file(file)
        for folder in _DEVKIT_FOLDERS:
            truth, meta = self.folder / folder / _TRUTH, self.folder / folder / "meta.mat"
            if truth.is_file() and meta.is_file():
                numbers = read_devkit(truth, meta)
                return _numbered(self._rows, numbers)
        raise LAYOUT.missing(f"no labels: neither {file.name} nor {_TRUTH} with meta.mat")

    @cached_property
    def ids(self) -> Sequence[str]:
        """File names without folders, sorted."""
        return tuple(entry.id for entry in self._entries)

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """Class indices 0-999, in the order of the ids."""
        return tuple(entry.label for entry in self._entries)

    @cached_property
    def absent(self) -> Sequence[str]:
        """Ids that the labels name and that have no image."""
        return tuple(entry.id for entry in self._entries if entry.path is None)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: synsets are named by their numbers."""
        return {}

    def read(self, index: int) -> Record:
        """Decode one image. Raises CorruptSample."""
        entry = self._entries[index]
        data = self._bytes(entry)
        return Record(entry.id, decode_rgb(data, entry.id), entry.label, None, digest(data, entry.label))

    def content(self, index: int) -> str:
        """Digest of one image's file and label, the same for every form. Raises CorruptSample."""
        entry = self._entries[index]
        return digest(self._bytes(entry), entry.label)

    def _bytes(self, entry: _Entry) -> bytes:
        if entry.path is None:
            raise CorruptSample(f"{entry.id}: the labels name it and no such image is in {self._images.name}")
        if self._archive is not None:
            return TarMember(self._archive, entry.path, entry.size, entry.offset).read()
        return read_bytes(self._images / entry.path, entry.path)

    def fingerprint(self) -> str:
        """Hash of ids and labels: the same for every form of the same images."""
        return fingerprint(self.name, self.ids, self.labels)


def _by_synset(rows: Rows) -> list[_Entry]:
    indices = synset_indices()
    entries = []
    for path, size, offset in rows:
        synset, name = path.split("/")
        if synset not in indices:
            raise ValueError(f"{synset}: expected a synset of ILSVRC-2012 as the folder's name")
        entries.append(_Entry(name, indices[synset], path, size, offset))
    return entries


def _by_name(rows: Rows, labels: Mapping[str, int]) -> list[_Entry]:
    """Images that have a label, and labels that have no image; images without a label are not part of the set."""
    files = [(path.rsplit("/", 1)[-1], path, size, offset) for path, size, offset in rows]
    unique([name for name, *_ in files], "the archive or folder of images")
    there = [_Entry(name, labels[name], path, size, offset) for name, path, size, offset in files if name in labels]
    known = {name for name, *_ in files}
    return there + [_Entry(name, label, None, -1, 0) for name, label in labels.items() if name not in known]


def _numbered(rows: Rows, numbers: Mapping[int, int]) -> dict[str, int]:
    """Labels by file name for the images whose name carries their number in the devkit's list."""
    names = [path.rsplit("/", 1)[-1] for path, _, _ in rows]
    return {name: numbers[n] for name in names if (n := image_number(name)) is not None and n in numbers}
