"""What identifies an image: its digest changes with everything that is read for it, and with nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from test_datasets_loader import Fake
from test_datasets_readers import (
    idx,
    jpeg,
    make_coco,
    make_flat,
    make_labels,
    make_seg,
    make_tar,
    make_tree,
    make_voc,
    seg_arrays,
    val,
)

from dix.datasets import images
from dix.datasets.api import Dataset, HasContent, Record, content_of
from dix.datasets.coco import Coco
from dix.datasets.folder import Folder
from dix.datasets.identity import digest
from dix.datasets.imagenet import ImageNet
from dix.datasets.imagenet_seg import ImageNetSeg
from dix.datasets.loader import Loader, contents, load
from dix.datasets.mnist import Mnist
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.datasets.subset import select
from dix.datasets.voc import Voc


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes of the same number under the same name and time."""
    stat = path.stat()
    assert len(data) == stat.st_size
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.utime(path.parent, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def bmp(grey: int, size: tuple[int, int] = (6, 4), kind: str = "BMP") -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, grey).save(stream, kind)
    return stream.getvalue()


@dataclass(frozen=True)
class Changed:
    """A data set of two images or more, before and after something of its first image has changed."""

    open: Callable[[], Dataset]
    change: Callable[[], None]
    first: int = 0


def folder_image(root: Path) -> Changed:
    for name in ("a.bmp", "b.bmp"):
        (root / name).write_bytes(bmp(1))
    return Changed(lambda: Folder(str(root)), lambda: rewrite(root / "a.bmp", bmp(2)))


def folder_mask(root: Path) -> Changed:
    for name in ("a.bmp", "b.bmp", "a_mask.png", "b_mask.png"):
        (root / name).write_bytes(bmp(5, kind="PNG" if "mask" in name else "BMP"))
    return Changed(lambda: Folder(str(root)), lambda: rewrite(root / "a_mask.png", bmp(9, kind="PNG")))


def folder_new_mask(root: Path) -> Changed:
    for name in ("a.bmp", "b.bmp"):
        (root / name).write_bytes(bmp(1))
    return Changed(
        lambda: Folder(str(root)), lambda: bool((root / "a_mask.png").write_bytes(bmp(0, kind="PNG"))) or None
    )


def folder_label(root: Path) -> Changed:
    for name in ("a.bmp", "b.bmp"):
        (root / name).write_bytes(bmp(1))
    (root / "labels.txt").write_text("a.bmp 1\nb.bmp 2\n")
    return Changed(
        lambda: Folder(str(root), labels_file=str(root / "labels.txt")),
        lambda: rewrite(root / "labels.txt", b"a.bmp 7\nb.bmp 2\n"),
    )


def imagenet_tree(root: Path) -> Changed:
    path = next(make_tree(root).rglob(val(1)))
    return Changed(lambda: ImageNet(str(root)), lambda: rewrite(path, flipped(path)))


def imagenet_tar(root: Path) -> Changed:
    make_labels(make_tar(root))
    path = root / "ILSVRC2012_img_val.tar"
    old, new = jpeg(1), bytearray(jpeg(1))
    new[-3] ^= 1
    return Changed(lambda: ImageNet(str(root)), lambda: rewrite(path, path.read_bytes().replace(old, bytes(new))))


def imagenet_label(root: Path) -> Changed:
    make_labels(make_flat(root))
    text = (root / "val.txt").read_bytes()
    return Changed(lambda: ImageNet(str(root)), lambda: rewrite(root / "val.txt", text.replace(b"999", b"998", 1)))


def voc_image(root: Path) -> Changed:
    path = make_voc(root)[0] / "VOCdevkit/VOC2012/JPEGImages/2007_000042.jpg"
    return Changed(lambda: Voc(str(root)), lambda: rewrite(path, flipped(path)))


def voc_mask(root: Path) -> Changed:
    path = make_voc(root)[0] / "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png"
    return Changed(lambda: Voc(str(root)), lambda: rewrite(path, flipped(path)))


def seg_pixels(root: Path) -> Changed:
    return _seg(root, "i0")


def seg_mask(root: Path) -> Changed:
    return _seg(root, "m0")


def _seg(root: Path, name: str) -> Changed:
    make_seg(root, *seg_arrays())

    def change() -> None:
        with h5py.File(root / "gtsegs_ijcv.mat", "r+") as file:
            array = file["#refs#"][name]
            array[...] = 1 - array[()].clip(0, 1)

    return Changed(lambda: ImageNetSeg(str(root)), change)


def coco_image(root: Path) -> Changed:
    path = make_coco(root) / "val2017" / "000000000139.jpg"
    return Changed(lambda: Coco(str(root)), lambda: rewrite(path, flipped(path)), first=1)


def coco_polygon(root: Path) -> Changed:
    path = make_coco(root) / "annotations" / "instances_val2017.json"

    def change() -> None:
        content = json.loads(path.read_text())
        content["annotations"][0]["segmentation"][0][0] = 6
        rewrite(path, json.dumps(content).encode())

    return Changed(lambda: Coco(str(root)), change, first=1)


def mnist_pixel(root: Path) -> Changed:
    digits = np.zeros((2, 28, 28), dtype=np.uint8)
    (root / "t10k-images-idx3-ubyte").write_bytes(idx(digits))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 4], dtype=np.uint8)))
    digits = digits.copy()
    digits[0, 5, 5] = 9
    return Changed(lambda: Mnist("idx", str(root)), lambda: rewrite(root / "t10k-images-idx3-ubyte", idx(digits)))


def flipped(path: Path) -> bytes:
    """The file with one bit of its last bytes changed."""
    data = bytearray(path.read_bytes())
    data[-14] ^= 1
    return bytes(data)


CASES = (
    folder_image, folder_mask, folder_new_mask, folder_label, imagenet_tree, imagenet_tar, imagenet_label,
    voc_image, voc_mask, seg_pixels, seg_mask, coco_image, coco_polygon, mnist_pixel,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_digest_changes_with_what_is_read_for_the_image_and_for_no_other(
    tmp_path: Path, case: Callable[[Path], Changed]
) -> None:
    made = case(tmp_path)
    data = made.open()
    assert isinstance(data, HasContent)
    before = contents(data, range(len(data.ids)), 2)
    assert contents(made.open(), range(len(data.ids)), 0) == before
    made.change()
    after = contents(made.open(), range(len(data.ids)), 2)
    assert [name for name in before if before[name] != after[name]] == [data.ids[made.first]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_batches_carry_the_digests_that_checking_without_decoding_gives(
    tmp_path: Path, case: Callable[[Path], Changed], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = case(tmp_path).open()
    order = list(range(len(data.ids)))[::-1]
    batch = load(data, Preprocess(32, "pad") if data.name == "mnist" else Preprocess(8), order, "skip")
    assert len(batch.ids) == len(order)
    monkeypatch.setattr(Image, "open", lambda *args: pytest.fail("decoded"))
    assert dict(zip(batch.ids, batch.contents, strict=True)) == contents(data, order)


def test_every_form_of_imagenet_has_the_same_digests(tmp_path: Path) -> None:
    forms = {"tree": make_tree, "flat": lambda root: make_labels(make_flat(root)), "tar": imagenet_tar}
    found = []
    for name, make in forms.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name)
        data = ImageNet(str(tmp_path / name))
        found.append(contents(data, range(len(data.ids))))
    assert found[0] == found[1] == found[2]


def test_a_file_is_read_once_for_its_digest_and_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = images.read_bytes
    for module in ("folder", "photos"):
        monkeypatch.setattr(
            f"dix.datasets.{module}.read_bytes",
            lambda path, name: read.append(name) or whole(path, name),  # type: ignore[func-returns-value]
        )
    folder_mask(tmp_path)
    for data, files in ((Folder(str(tmp_path)), 4), (select(Photos(), "classes:609,282"), 3)):
        read.clear()
        list(Loader(data, Preprocess(8), [range(len(data.ids))], 2))
        assert len(read) == len(set(read)) == files


def test_bytes_that_move_from_the_image_to_its_mask_are_noticed() -> None:
    assert (
        len({digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"abc", None), digest(b"abc", b""), digest(b"abc")}) == 5
    )
    assert len({digest(None), digest("None"), digest(b"None"), digest(1), digest("1")}) == 5
    assert digest(b"x") == hashlib.blake2b(b"bytes 1\nx", digest_size=16).hexdigest()


@dataclass
class Plain(Fake):
    """A data set that knows no digests, whose pixels, masks and labels can be changed."""

    change: dict[str, Any] = field(default_factory=dict)

    def read(self, index: int) -> Record:
        record = super().read(index)
        return (
            Record(record.id, record.image, record.label, record.mask)
            if index
            else Record(
                record.id,
                self.change.get("image", record.image),
                self.change.get("label", record.label),
                self.change.get("mask", record.mask),
            )
        )


def test_a_data_set_without_digests_is_identified_by_what_it_decodes() -> None:
    plain = contents(Plain(3), range(3), 1)
    assert len(set(plain.values())) == 3
    white, mask = Image.new("RGB", (4, 4), (255, 255, 255)), np.zeros((4, 4), dtype=np.int8)
    turned = Image.new("RGB", (2, 8), (0, 0, 0))
    for change in ({"image": white}, {"image": turned}, {"mask": mask}, {"label": 5}):
        again = contents(Plain(3, change=change), range(3), 1)
        assert [name for name in plain if plain[name] != again[name]] == ["i0"]
    batch = load(Plain(3), Preprocess(2), [2, 0])
    assert batch.contents == [plain["i2"], plain["i0"]]
    assert content_of(Plain(3), 1) == plain["i1"]


def test_what_cannot_be_read_has_no_digest_and_no_place_in_the_batch(tmp_path: Path) -> None:
    data = folder_image(tmp_path).open()
    assert len(data.ids) == 2
    (tmp_path / "a.bmp").unlink()
    assert list(contents(data, [0, 1])) == ["b.bmp"]
    assert len(load(data, Preprocess(4), [0, 1], "skip").contents) == 1


def test_two_images_of_one_id_are_refused_before_anything_is_read() -> None:
    class Twice(Fake):
        @property
        def ids(self) -> list[str]:
            return ["a", "b", "a"]

    for refuse in (lambda: Loader(Twice(3), Preprocess(2), [[0]]), lambda: contents(Twice(3), [0, 2])):
        with pytest.raises(ValueError, match="dataset fake: the image id 'a' appears more than once"):
            refuse()


def test_a_fingerprint_needs_no_image_and_no_size(tmp_path: Path) -> None:
    data = folder_mask(tmp_path).open()
    before = data.fingerprint()
    for name in data.ids:
        (tmp_path / name).write_bytes(b"longer than before, and no image" * 9)
    assert Folder(str(tmp_path)).fingerprint() == before
