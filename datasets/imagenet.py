"""ImageNet (ILSVRC-2012) validation images, in any of the forms in which people have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from dix.datasets.api import CorruptSample, LeftOut, Record
from dix.datasets.identity import digest
from dix.datasets.images import decode_rgb, is_image, read_bytes
from dix.datasets.index import fingerprint, unique
from dix.datasets.labels import Matched, image_number, match, read_devkit, read_label_file, synset_indices
from dix.datasets.layout import Layout
from dix.datasets.listing import Row, TarMember, list_files, list_tar, subfolders
from dix.datasets.text import text_id

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
_ARCHIVE = "ILSVRC2012_img_val.tar"
_NO_IMAGE = "file whose name does not end as an image's does"
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
    labels_file: lines "name index" to use instead of the labels in the root, synset folders included.
    Pictures are turned upright by their EXIF orientation; there are no masks.
    Raises MissingData, on first use, where images or labels are not there; ValueError where labels contradict
    themselves or a label file names none of the images.
    """

    version: ClassVar[int] = 1
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
        entries = self._by_synset() if self._synsets and self.labels_file is None else self._by_name()
        unique([entry.id for entry in entries], str(self.folder))
        return sorted(entries, key=lambda entry: entry.id)

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
        tars = {path.name: path for path in sorted(self.folder.glob("*.tar"))}
        if not tars or self._synsets or any(map(is_image, list_files(self._images, ["."]).files)):
            return None
        if len(tars) > 1 and _ARCHIVE not in tars:
            raise ValueError(f"{self.folder}: {' and '.join(tars)} are there; expected {_ARCHIVE} or one archive alone")
        return tars.get(_ARCHIVE) or next(iter(tars.values()))

    @cached_property
    def _found(self) -> tuple[Sequence[Row], Sequence[LeftOut]]:
        """Every file or member that may be an image, and what cannot be one."""
        if self._archive is not None:
            listed = list_tar(self._archive)
            return listed.rows, listed.left_out
        found = list_files(self._images, self._synsets or ["."])
        return [(path, 0, 0) for path in found.files], found.left_out

    @cached_property
    def _rows(self) -> Sequence[Row]:
        """Images, by their suffix or because the label file names them."""
        rows = [row for row in self._found[0] if is_image(row[0]) or _base(row[0]) in self._listed]
        if not rows:
            raise LAYOUT.missing(f"no images in {self._archive or self._images}")
        return rows

    @cached_property
    def _label_file(self) -> Path | None:
        """The file that lists labels; None where synset folders or the devkit say them."""
        if self.labels_file is not None:
            if not Path(self.labels_file).is_file():
                raise ValueError(f"dataset.labels_file: the file {self.labels_file} is not there")
            return Path(self.labels_file)
        inside = self.folder / "val.txt"
        return inside if inside.is_file() and not self._synsets else None

    @cached_property
    def _listed(self) -> Mapping[str, int]:
        """Labels by file name without folders, as the label file has them."""
        if self._label_file is None:
            return {}
        named = read_label_file(self._label_file)
        unique([_base(name) for name in named], self._label_file.name)
        return {_base(name): label for name, label in named.items()}

    @cached_property
    def _matched(self) -> Matched:
        """Labels by file name. Raises MissingData where there are none."""
        names = unique([_base(path) for path, _, _ in self._rows], "the archive or folder of images")
        if self._label_file is not None:
            found = match(self._listed, names, self._label_file.name)
            if not found.labels:
                raise ValueError(f"{self._label_file}: none of its lines names an image of {self._images}")
            return found
        for folder in _DEVKIT_FOLDERS:
            truth, meta = self.folder / folder / _TRUTH, self.folder / folder / "meta.mat"
            if truth.is_file() and meta.is_file():
                return _numbered(names, read_devkit(truth, meta))
        raise LAYOUT.missing(f"no labels: neither val.txt nor {_TRUTH} with meta.mat")

    def _by_synset(self) -> list[_Entry]:
        indices = synset_indices()
        entries = []
        for path, size, offset in self._rows:
            synset, name = path.split("/")
            if synset not in indices:
                raise ValueError(f"{synset}: expected a synset of ILSVRC-2012 as the folder's name")
            entries.append(_Entry(text_id(name), indices[synset], path, size, offset))
        return entries

    def _by_name(self) -> list[_Entry]:
        """Images that have a label, and labels that have no image; images without a label are left out."""
        labels = self._matched.labels
        there = [
            _Entry(text_id(_base(path)), labels[_base(path)], path, size, offset)
            for path, size, offset in self._rows
            if _base(path) in labels
        ]
        return there + [_Entry(text_id(name), self._listed[name], None, -1, 0) for name in self._matched.unmatched]

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files that are no images, images that no label names, and what lies beside the form that is read."""
        kept = {entry.path for entry in self._entries}
        rows = [path for path, _, _ in self._found[0] if path not in kept]
        if self._label_file is not None and self._label_file.parent.resolve() == self._images.resolve():
            rows = [path for path in rows if path != self._label_file.name]
        others = [LeftOut(text_id(path), "image that no label names" if is_image(path) else _NO_IMAGE) for path in rows]
        return [*self._found[1], *others, *self._beside()]

    def _beside(self) -> Sequence[LeftOut]:
        """What lies beside synset folders or unpacked images."""
        found = []
        if self._synsets:
            loose = list_files(self._images, ["."]).files
            found += [LeftOut(text_id(name), "image beside the synset folders") for name in loose if is_image(name)]
            strange = [name for name in subfolders(self._images) if name not in self._synsets]
            found += [LeftOut(text_id(name), "folder that is no synset's") for name in strange]
            differing = [entry.id for entry in self._entries if self._differs(entry)]
            found += [LeftOut(name, "synset folder, against which the label file decides") for name in differing]
        archives = [path for path in sorted(self.folder.glob("*.tar")) if path != self._archive]
        return found + [LeftOut(text_id(path.name), "archive beside what is read") for path in archives]

    def _differs(self, entry: _Entry) -> bool:
        """Whether an image lies in another class's synset folder than its label says."""
        return entry.path is not None and synset_indices().get(entry.path.split("/")[0]) != entry.label

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
            raise CorruptSample(f"{entry.id}: the labels name it and no such image is in {text_id(self._images.name)}")
        if self._archive is not None:
            return TarMember(self._archive, entry.id, entry.size, entry.offset).read()
        return read_bytes(self._images / entry.path, text_id(entry.path))

    def fingerprint(self) -> str:
        """Hash of ids and labels: the same for every form of the same images."""
        return fingerprint(self.name, self.ids, self.labels)


def _base(path: str) -> str:
    """The file's name without folders."""
    return path.rsplit("/", 1)[-1]


def _numbered(names: Sequence[str], numbers: Mapping[int, int]) -> Matched:
    """Labels by file name for the images whose name carries their number in the devkit's list.

    Numbers without an image are no fault here: the devkit lists all 50,000 images, whatever part of them is there.
    """
    found = {name: numbers[n] for name in names if (n := image_number(name)) is not None and n in numbers}
    return Matched(found, ())
