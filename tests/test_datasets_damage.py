"""Flipped bits and cut files of every layout: an image is read, or a fault is named; nothing else ever happens."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_datasets_readers import (
    idx,
    jpeg,
    make_coco,
    make_devkit,
    make_flat,
    make_labels,
    make_seg,
    make_tar,
    make_voc,
    seg_arrays,
)

from dix.datasets.api import CorruptSample, Dataset, MissingData
from dix.datasets.coco import Coco
from dix.datasets.folder import Folder
from dix.datasets.imagenet import ImageNet
from dix.datasets.imagenet_seg import ImageNetSeg
from dix.datasets.mnist import Mnist
from dix.datasets.voc import Voc

DAMAGES = 40  #: of each layout
SLOW = 8  #: of a layout that is read by a process of its own


def coco(root: Path) -> Callable[[], Dataset]:
    make_coco(root / "set")
    return lambda: Coco(str(root / "set"))


def voc(root: Path) -> Callable[[], Dataset]:
    make_voc(root)
    return lambda: Voc(str(root))


def segmentation(root: Path) -> Callable[[], Dataset]:
    make_seg(root, *seg_arrays())
    return lambda: ImageNetSeg(str(root))


def mnist(root: Path) -> Callable[[], Dataset]:
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((2, 28, 28), dtype=np.uint8))))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([1, 2], dtype=np.uint8)))
    return lambda: Mnist("idx", str(root))


def archive(root: Path) -> Callable[[], Dataset]:
    make_labels(make_tar(root))
    return lambda: ImageNet(str(root))


def devkit(root: Path) -> Callable[[], Dataset]:
    make_devkit(make_flat(root))
    return lambda: ImageNet(str(root))


def folder(root: Path) -> Callable[[], Dataset]:
    for name in ("a.jpg", "b.jpg"):
        (root / name).write_bytes(jpeg(9))
    Image.new("L", (12, 10), 255).save(root / "a_mask.png")
    (root / "labels.txt").write_text("a.jpg 1\nb.jpg 2\n")
    return lambda: Folder(str(root), labels_file=str(root / "labels.txt"))


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three bits flipped, and in one case of six the end cut off."""
    changed = bytearray(data)
    for place in rng.integers(0, max(len(data), 1), int(rng.integers(1, 4))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed[: int(rng.integers(len(data) + 1))] if rng.random() < 1 / 6 else changed)


def outcomes(make: Callable[[], Dataset]) -> list[str]:
    """What became of the set or of each of its images; any other exception fails the test."""
    try:
        data = make()
        assert len(data.labels) == len(data.ids)
        assert data.fingerprint()
        named = [(entry.name, entry.reason) for entry in data.left_out]  # type: ignore[attr-defined]
        assert all(text.isprintable() for text in (*data.ids, *(name for name, _ in named)))
        return [outcome(data, index) for index in range(len(data.ids))]
    except (ValueError, MissingData) as error:
        return ["refused" if str(error) else "without a word"]


def outcome(data: Dataset, index: int) -> str:
    try:
        record = data.read(index)
    except CorruptSample as error:
        return "named" if str(error).encode("utf-8") else "without a word"
    assert record.mask is None or record.mask.shape == record.image.size[::-1]
    assert record.content == data.content(index)  # type: ignore[attr-defined]
    return "read"


@pytest.mark.parametrize(
    "make", [coco, voc, segmentation, mnist, archive, devkit, folder], ids=lambda make: make.__name__
)
def test_damage_is_harmless_or_named(tmp_path: Path, make: Callable[[Path], Callable[[], Dataset]]) -> None:
    opened = make(tmp_path)
    assert set(outcomes(opened)) == {"read"}
    rng = np.random.default_rng(11)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    seen = set()
    for _ in range(SLOW if make is devkit else DAMAGES):
        file = files[int(rng.integers(len(files)))]
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, rng))
        seen |= set(outcomes(opened))
        file.write_bytes(whole)
    assert seen & {"refused", "named"}
    assert "without a word" not in seen
