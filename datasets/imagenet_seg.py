"""ImageNet-Segmentation (Guillaumin, Küttel and Ferrari, IJCV 2014): one MATLAB 7.3 file, read image by image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from dix.datasets.api import CorruptSample, LeftOut, Record
from dix.datasets.identity import digest
from dix.datasets.index import fingerprint
from dix.datasets.layout import Layout
from dix.datasets.masks import fitting
from dix.extras import optional

FILE = "gtsegs_ijcv.mat"
#: What h5py raises for damaged files, beside ValueError.
_FAULTS = (OSError, KeyError, TypeError, IndexError, RuntimeError, AttributeError)
MOST = 3 * 178_956_970  #: numbers of one image; a larger array is refused before it is read
LAYOUT = Layout(
    name="imagenet_seg",
    source="ImageNet-Segmentation of Guillaumin, Küttel and Ferrari (IJCV 2014), calvin-vision.net: gtsegs_ijcv.mat",
    tree=f"{FILE}",
    expected={"images": 4_276},
)


@dataclass(frozen=True)
class ImageNetSeg:
    """4,276 images of 445 classes with one object mask each.

    The file's cells are HDF5 references, /value/img to [3, width, height] uint8 and /value/gt to a cell whose first
    entry is [width, height]. The file is opened for each image, so a loader's threads and processes share nothing.
    A cell's further masks, of other annotators, are not used. Arrays carry no EXIF orientation.
    root: the folder of the file; None: $DIX_DATA/imagenet_seg. Raises MissingData on first use.
    """

    version: ClassVar[int] = 1
    root: str | None = None
    name: str = "imagenet_seg"
    label_space: str | None = None

    @cached_property
    def path(self) -> Path:
        """The MATLAB file."""
        path = LAYOUT.root(self.root) / FILE
        if not path.is_file():
            raise LAYOUT.missing(f"{FILE} is not in {path.parent}")
        return path

    @contextlib.contextmanager
    def _value(self) -> Iterator[Any]:
        """The group of the references. Raises ValueError where the file is no such file."""
        h5py = optional("h5py", "datasets")
        try:
            with h5py.File(self.path, "r") as file:
                yield file["value"]
        except _FAULTS as error:
            size = self.path.stat().st_size
            raise ValueError(f"{FILE}: not a readable MATLAB 7.3 file ({size} bytes): {error}") from error

    @cached_property
    def ids(self) -> Sequence[str]:
        """Positions in the file, from 0001."""
        with self._value() as value:
            images, masks = (int(value[name].shape[0]) for name in ("img", "gt"))
        if images != masks:
            raise ValueError(f"{FILE}: expected as many masks as images, got {masks} and {images}")
        return tuple(f"{number:04d}" for number in range(1, images + 1))

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """None for every image: the file's classes are not ImageNet-1k indices."""
        return (None,) * len(self.ids)

    @property
    def class_names(self) -> Mapping[int, str]:
        """None: the set has no labels to name."""
        return {}

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Masks of further annotators."""
        with self._value() as value:
            several = [name for index, name in enumerate(self.ids) if _masks(value, index) > 1]
        return [LeftOut(name, "image with masks of further annotators, of which the first is used") for name in several]

    def read(self, index: int) -> Record:
        """Decode one image and its mask. Raises CorruptSample."""
        name = self.ids[index]
        where = _where(name)
        pixels, truth = self._arrays(index)
        image = Image.fromarray(_rgb(pixels, where))
        if truth.ndim != 2:
            raise CorruptSample(f"{where}: expected a mask [width, height], got {truth.shape}")
        mask = fitting((truth.T > 0).astype(np.int8), image.size, where)
        return Record(name, image, None, mask, _digest(pixels, truth))

    def content(self, index: int) -> str:
        """Digest of the two arrays of one image. Raises CorruptSample."""
        return _digest(*self._arrays(index))

    def _arrays(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and mask as the file has them. Raises CorruptSample."""
        try:
            return self._referenced(index)
        except (ValueError, *_FAULTS) as error:
            raise CorruptSample(f"{_where(self.ids[index])}: {error}") from error

    def _referenced(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        with self._value() as value:
            file = value.file
            cell = file[value["gt"][index, 0]]
            return _array(file[value["img"][index, 0]]), _array(file[cell[0, 0]])

    def fingerprint(self) -> str:
        """Hash of the ids."""
        return fingerprint(self.name, self.ids, self.labels)


def _masks(value: Any, index: int) -> int:
    """How many masks an image has; none where its cell is broken, which reading it says."""
    try:
        return int(value.file[value["gt"][index, 0]].size)
    except (ValueError, *_FAULTS):
        return 0


def _where(name: str) -> str:
    return f"{FILE}, image {name}"


def _digest(*arrays: np.ndarray) -> str:
    described = [(f"{array.dtype} {array.shape}", array.tobytes()) for array in arrays]
    return digest(*(part for pair in described for part in pair))


def _rgb(pixels: np.ndarray, where: str) -> np.ndarray:
    """[height, width, 3] uint8 from MATLAB's [3, width, height], or from a grey [width, height]."""
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.dtype != np.uint8:
        raise CorruptSample(f"{where}: expected [3, width, height] uint8, got {pixels.shape} {pixels.dtype}")
    return np.ascontiguousarray(pixels.transpose(2, 1, 0))


def _array(stored: Any) -> np.ndarray:
    """A whole array of the file. Raises ValueError for one that is no picture, before any memory is taken for it."""
    if stored.external or stored.is_virtual:
        raise ValueError("an array lies in another file, which is not opened")
    if stored.dtype.kind not in "buif" or not 0 < stored.size <= MOST:
        raise ValueError(f"expected 1 to {MOST} numbers, got {stored.size} of type {stored.dtype}")
    array = stored[()]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    return array
