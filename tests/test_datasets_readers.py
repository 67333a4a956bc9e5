"""Each reader against a small copy of the official layout, masks pixel by pixel."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import tarfile
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as codec
from scipy.io import savemat

from dix.datasets.api import CorruptSample, Dataset, MissingData
from dix.datasets.coco import Coco, decode_rle
from dix.datasets.imagenet import ImageNet
from dix.datasets.imagenet_seg import ImageNetSeg
from dix.datasets.labels import synset_indices
from dix.datasets.mnist import Mnist
from dix.datasets.voc import Voc


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIX_DATA", raising=False)


def jpeg(grey: int, size: tuple[int, int] = (12, 10)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(stream, "JPEG")
    return stream.getvalue()


def val(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


# ---- ImageNet: four validation images, synsets 0 (tench), 1 (goldfish), 999 (toilet tissue)

TRUTH = {val(1): 999, val(2): 0, val(3): 1, val(4): 999}
SYNSETS = {0: "n01440764", 1: "n01443537", 999: "n15075141"}


def make_tree(root: Path, inner: str = "") -> Path:
    for name, label in TRUTH.items():
        folder = root / inner / SYNSETS[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(int(name[-6])))
    return root


def make_flat(root: Path) -> Path:
    for name in TRUTH:
        (root / name).write_bytes(jpeg(int(name[-6])))
    return root


def make_tar(root: Path) -> Path:
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        for name in reversed(TRUTH):
            info = tarfile.TarInfo(name)
            data = jpeg(int(name[-6]))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return root


def make_labels(root: Path) -> Path:
    (root / "val.txt").write_text("".join(f"{name} {label}\n" for name, label in TRUTH.items()))
    return root


def make_devkit(root: Path, inner: str = "ILSVRC2012_devkit_t12/data") -> Path:
    """The devkit numbers its classes otherwise than by synset, and also lists inner nodes of WordNet."""
    folder = root / inner
    folder.mkdir(parents=True)
    ids = {0: 449, 1: 450, 999: 1}
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(ids[label], SYNSETS[label], "some, words", 0) for label in ids] + [(1001, "n00001740", "entity", 3)]
    table = np.array([tuple(row) for row in rows], dtype=fields).reshape(-1, 1)
    savemat(folder / "meta.mat", {"synsets": table})
    truth = "".join(f"{ids[TRUTH[val(n)]]}\n" for n in range(1, 5))
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return root


IMAGENET_FORMS = {
    "tree": make_tree,
    "tree in val": lambda root: make_tree(root, "val"),
    "flat and label file": lambda root: make_labels(make_flat(root)),
    "flat and devkit": lambda root: make_devkit(make_flat(root)),
    "tar and label file": lambda root: make_labels(make_tar(root)),
    "tar and devkit": lambda root: make_devkit(make_tar(root), "devkit"),
}


@pytest.mark.parametrize("form", IMAGENET_FORMS)
def test_imagenet_is_the_same_data_set_in_every_form(tmp_path: Path, form: str) -> None:
    data = ImageNet(str(IMAGENET_FORMS[form](tmp_path)))
    assert isinstance(data, Dataset)
    assert dict(zip(data.ids, data.labels, strict=True)) == TRUTH
    assert data.ids == tuple(sorted(TRUTH))
    for index, name in enumerate(data.ids):
        record = data.read(index)
        assert (record.id, record.label, record.image.size) == (name, TRUTH[name], (12, 10))
        assert abs(int(np.asarray(record.image).mean()) - int(name[-6])) <= 1
    other = ImageNet(str(make_tree(tmp_path / "other"))).fingerprint()
    assert data.fingerprint() == other


def test_synsets_are_the_thousand_in_the_order_of_their_names() -> None:
    assert list(synset_indices()) == sorted(synset_indices())
    assert len(synset_indices()) == 1000
    assert {synset_indices()[name] for name in SYNSETS.values()} == set(SYNSETS)


def test_imagenet_root_comes_from_the_argument_else_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingData, match=r"neither dataset\.root nor the environment variable DIX_DATA is set"):
        _ = ImageNet().ids
    with pytest.raises(MissingData, match=r"the folder .*nowhere does not exist"):
        _ = ImageNet(str(tmp_path / "nowhere")).ids
    make_tree(tmp_path / "imagenet")
    monkeypatch.setenv("DIX_DATA", str(tmp_path))
    assert len(ImageNet().ids) == 4


def test_missing_imagenet_names_source_layout_and_command(tmp_path: Path) -> None:
    with pytest.raises(MissingData) as caught:
        _ = ImageNet(str(tmp_path)).ids
    for part in ("no images in", "image-net.org", "n01440764/ILSVRC2012_val_00000293.JPEG", "dix data check imagenet"):
        assert part in str(caught.value)
    with pytest.raises(MissingData, match=r"no labels: neither val\.txt nor ILSVRC2012_validation_ground_truth"):
        _ = ImageNet(str(make_flat(tmp_path))).ids


def test_a_label_without_image_fails_alone(tmp_path: Path) -> None:
    assert ImageNet(str(make_labels(make_flat(tmp_path)))).absent == ()
    (tmp_path / val(2)).unlink()
    fresh = ImageNet(str(tmp_path))
    assert fresh.absent == (val(2),)
    with pytest.raises(CorruptSample, match=rf"{val(2)}: the labels name it and no such image is in"):
        fresh.read(1)
    assert fresh.read(2).id == val(3)


def test_an_image_in_two_synset_folders_is_named(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / SYNSETS[0] / val(1)).write_bytes(jpeg(0))
    with pytest.raises(ValueError, match=rf"the image id '{val(1)}' appears more than once"):
        _ = ImageNet(str(tmp_path)).ids


def test_a_folder_that_is_no_synset_of_the_thousand_is_named(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "n00000001").mkdir()
    (tmp_path / "n00000001" / val(9)).write_bytes(jpeg(0))
    with pytest.raises(ValueError, match=r"n00000001: expected a synset of ILSVRC-2012"):
        _ = ImageNet(str(tmp_path)).ids


def test_a_truncated_archive_gives_what_is_whole_and_names_the_rest(tmp_path: Path) -> None:
    make_labels(make_tar(tmp_path))
    archive = tmp_path / "ILSVRC2012_img_val.tar"
    with tarfile.open(archive) as tar:
        member = tar.getmember(val(2))  # third of the archive: 4, 3, 2, 1
    archive.write_bytes(archive.read_bytes()[: member.offset_data + member.size // 2])
    data = ImageNet(str(tmp_path))
    assert [data.read(index).id for index in (2, 3)] == [val(3), val(4)]
    with pytest.raises(CorruptSample, match=rf"ILSVRC2012_img_val\.tar: {val(2)}: the archive is truncated, \d+ of"):
        data.read(1)
    with pytest.raises(CorruptSample, match=rf"{val(1)}: the labels name it"):
        data.read(0)


def test_an_archive_that_is_none_is_named(tmp_path: Path) -> None:
    (make_labels(tmp_path) / "ILSVRC2012_img_val.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(ValueError, match=r"ILSVRC2012_img_val\.tar: not an uncompressed tar archive"):
        _ = ImageNet(str(tmp_path)).ids


def test_a_devkit_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    make_devkit(make_flat(tmp_path), "devkit")
    (tmp_path / "devkit" / "ILSVRC2012_validation_ground_truth.txt").write_text("449\n1001\n")
    with pytest.raises(ValueError, match=r"ground_truth\.txt, line 2: expected an ILSVRC2012_ID of meta\.mat"):
        _ = ImageNet(str(tmp_path)).ids
    (tmp_path / "devkit" / "meta.mat").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"meta\.mat: not the devkit's meta\.mat"):
        _ = ImageNet(str(tmp_path)).ids


# ---- ImageNet-Segmentation


def make_seg(root: Path, masks: list[np.ndarray], images: list[np.ndarray]) -> Path:
    """As MATLAB writes cells with -v7.3: references into #refs#, arrays with reversed axes."""
    with h5py.File(root / "gtsegs_ijcv.mat", "w", userblock_size=512) as file:
        value, refs = file.create_group("value"), file.create_group("#refs#")
        kind = h5py.special_dtype(ref=h5py.Reference)
        img, gt = (value.create_dataset(name, (len(images), 1), dtype=kind) for name in ("img", "gt"))
        for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
            img[i, 0] = refs.create_dataset(f"i{i}", data=image.transpose(2, 1, 0)).ref
            cell = refs.create_dataset(f"c{i}", (2, 1), dtype=kind)
            cell[0, 0] = refs.create_dataset(f"m{i}", data=mask.T).ref
            cell[1, 0] = refs.create_dataset(f"n{i}", data=1 - mask.T).ref  # a second annotator, not used
            gt[i, 0] = cell.ref
    return root


def seg_arrays() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = [(20, 31), (17, 9), (8, 8)]
    masks = [rng.integers(0, 2, shape, dtype=np.uint8) for shape in shapes]
    return masks, [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def test_imagenet_segmentation_follows_the_references_pixel_by_pixel(tmp_path: Path) -> None:
    masks, images = seg_arrays()
    data = ImageNetSeg(str(make_seg(tmp_path, masks, images)))
    assert data.ids == ("0001", "0002", "0003")
    for index, (mask, image) in enumerate(zip(masks, images, strict=True)):
        record = data.read(index)
        np.testing.assert_array_equal(np.asarray(record.image), image)
        assert record.mask is not None
        np.testing.assert_array_equal(record.mask, mask)
        assert record.mask.dtype == np.int8
        assert record.label is None


def test_imagenet_segmentation_names_a_mask_of_another_size_and_a_broken_file(tmp_path: Path) -> None:
    masks, images = seg_arrays()
    masks[1] = masks[0]
    data = ImageNetSeg(str(make_seg(tmp_path, masks, images)))
    with pytest.raises(
        CorruptSample, match=r"gtsegs_ijcv\.mat, image 0002: the mask is 31x20 pixels and its image 9x17"
    ):
        data.read(1)
    assert data.read(2).id == "0003"
    path = tmp_path / "gtsegs_ijcv.mat"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"gtsegs_ijcv\.mat: not a readable MATLAB 7\.3 file \(900 bytes\)"):
        _ = ImageNetSeg(str(tmp_path)).ids
    path.unlink()
    with pytest.raises(MissingData, match=r"gtsegs_ijcv\.mat is not in"):
        _ = ImageNetSeg(str(tmp_path)).ids


# ---- COCO


def make_coco(root: Path) -> Path:
    """A polygon with two parts, an overlapping one, a crowd in uncompressed RLE, and an image with nothing."""
    images = [
        {"id": 139, "file_name": "000000000139.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "000000000009.jpg", "width": 25, "height": 35},
        {"id": 500, "file_name": "000000000500.jpg", "width": 10, "height": 10},
    ]
    crowd = np.zeros((35, 25), dtype=np.uint8)
    crowd[5:20, 3:9] = 1
    counts, current, run = [], 0, 0
    for value in crowd.ravel(order="F"):
        if value != current:
            counts.append(run)
            current, run = int(value), 0
        run += 1
    counts.append(run)
    notes = [
        polygon_note(1, 139, 18, [[5, 5, 20, 6, 12, 22], [30, 20, 38, 20, 38, 28, 30, 28]]),
        polygon_note(2, 139, 1, [[15.5, 3.2, 33.1, 9.7, 21.4, 25.0]]),
        polygon_note(3, 9, 18, [[1, 1, 10, 1, 10, 10, 1, 10]]),
        {"id": 4, "image_id": 9, "category_id": 1, "iscrowd": 1, "segmentation": {"counts": counts, "size": [35, 25]}},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    content = {"images": images, "annotations": notes, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    for image in images:
        (root / "val2017" / str(image["file_name"])).write_bytes(jpeg(90, (image["width"], image["height"])))  # type: ignore[arg-type]
    return root


def polygon_note(number: int, image: int, category: int, parts: list[list[float]]) -> dict[str, object]:
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "segmentation": parts}


def coco_oracle(root: Path, image: int, categories: tuple[int, ...] = (1, 18)) -> np.ndarray:
    """The union, decoded one instance at a time by pycocotools' codec."""
    content = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    size = {entry["id"]: (entry["height"], entry["width"]) for entry in content["images"]}[image]
    union = np.zeros(size, dtype=bool)
    for note in content["annotations"]:
        if note["image_id"] == image and note["category_id"] in categories:
            shape = note["segmentation"]
            runs = [codec.frPyObjects(shape, *size)] if isinstance(shape, dict) else codec.frPyObjects(shape, *size)
            for one in runs:
                union |= decode_with_pycocotools(one)
    return union


def decode_with_pycocotools(run_lengths: object) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools under NumPy 2
        return codec.decode(run_lengths).astype(bool)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (37, 61), (480, 640)])
def test_run_lengths_are_decoded_as_pycocotools_does(density: float, shape: tuple[int, int]) -> None:
    mask = np.asfortranarray(np.random.default_rng(5).random(shape) < density, dtype=np.uint8)
    encoded = codec.encode(mask)
    np.testing.assert_array_equal(decode_rle(encoded["counts"], *shape), mask)
    np.testing.assert_array_equal(decode_with_pycocotools(encoded), mask)


def test_coco_masks_are_the_union_of_all_instances_with_crowds(tmp_path: Path) -> None:
    data = Coco(str(make_coco(tmp_path)))
    assert data.ids == ("000000000009.jpg", "000000000139.jpg")
    for index, number in enumerate((9, 139)):
        mask = data.read(index).mask
        assert mask is not None
        np.testing.assert_array_equal(mask.astype(bool), coco_oracle(tmp_path, number))
        assert set(np.unique(mask)) == {0, 1}
    crowd = data.read(0).mask
    assert crowd is not None
    assert crowd[5:20, 3:9].all()


def test_coco_keeps_images_without_annotation_on_request(tmp_path: Path) -> None:
    data = Coco(str(make_coco(tmp_path)), unannotated="keep")
    assert data.ids == ("000000000009.jpg", "000000000139.jpg", "000000000500.jpg")
    mask = data.read(2).mask
    assert mask is not None
    assert mask.shape == (10, 10)
    assert mask.sum() == 0
    assert data.fingerprint() == Coco(str(tmp_path)).fingerprint()


def test_coco_gives_masks_by_category(tmp_path: Path) -> None:
    dogs = Coco(str(make_coco(tmp_path)), category="dog")
    mask = dogs.read(1).mask
    assert mask is not None
    np.testing.assert_array_equal(mask.astype(bool), coco_oracle(tmp_path, 139, (18,)))
    each = Coco(str(tmp_path)).category_masks(1)
    assert sorted(each) == ["dog", "person"]
    np.testing.assert_array_equal(each["person"].astype(bool), coco_oracle(tmp_path, 139, (1,)))
    assert dogs.fingerprint() != Coco(str(tmp_path)).fingerprint()
    with pytest.raises(ValueError, match=r"dataset\.category: expected one of dog, person; got 'cat'"):
        _ = Coco(str(tmp_path), category="cat").ids


def test_coco_prints_nothing(tmp_path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        _ = Coco(str(make_coco(tmp_path))).ids
    assert out.getvalue() == ""


def test_coco_names_absent_images_other_sizes_repeats_and_broken_files(tmp_path: Path) -> None:
    data = Coco(str(make_coco(tmp_path)))
    (tmp_path / "val2017" / "000000000139.jpg").unlink()
    with pytest.raises(CorruptSample, match=r"val2017/000000000139\.jpg: cannot be read: No such file"):
        data.read(1)
    (tmp_path / "val2017" / "000000000009.jpg").write_bytes(jpeg(1, (35, 25)))
    with pytest.raises(CorruptSample, match=r"000000000009\.jpg: the mask is 25x35 pixels and its image 35x25"):
        data.read(0)
    path = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_val2017\.json: the image id '139' appears more than once"):
        _ = Coco(str(tmp_path)).ids
    path.write_text(path.read_text()[:200])
    with pytest.raises(ValueError, match=r"instances_val2017\.json: not a COCO instances file"):
        _ = Coco(str(tmp_path)).ids
    path.unlink()
    with pytest.raises(MissingData, match=r"annotations/instances_val2017\.json is not in"):
        _ = Coco(str(tmp_path)).ids


# ---- VOC


def make_voc(root: Path, inner: str = "VOCdevkit/VOC2012") -> tuple[Path, np.ndarray]:
    base = root / inner
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (base / folder).mkdir(parents=True)
    classes = np.zeros((20, 30), dtype=np.uint8)
    classes[4:16, 4:26] = 255
    classes[5:15, 5:25] = 15
    classes[8:10, 8:20] = 1
    for name in ("2007_000033", "2007_000042"):
        (base / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(60, (30, 20)))
        image = Image.fromarray(classes, "L").convert("P")
        image.putdata(classes.ravel().tolist())
        image.putpalette([value for index in range(256) for value in (index ^ 85, 255 - index, index // 2)])
        image.save(base / "SegmentationClass" / f"{name}.png")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000042\n2007_000033\n")
    return root, classes


@pytest.mark.parametrize("inner", ["VOCdevkit/VOC2012", "VOC2012", ""])
def test_voc_reads_indices_with_the_border_as_asked(tmp_path: Path, inner: str) -> None:
    root, classes = make_voc(tmp_path, inner)
    counted, ignored = Voc(str(root)), Voc(str(root), void="ignore")
    assert counted.ids == ("2007_000042", "2007_000033")
    foreground, void = counted.read(0).mask, ignored.read(0).mask
    assert foreground is not None
    assert void is not None
    np.testing.assert_array_equal(foreground, (classes > 0).astype(int))
    np.testing.assert_array_equal(void, np.where(classes == 255, -1, (classes > 0).astype(int)))
    assert counted.fingerprint() != ignored.fingerprint()


def test_voc_names_what_is_missing_or_wrong(tmp_path: Path) -> None:
    root, _ = make_voc(tmp_path)
    base = root / "VOCdevkit" / "VOC2012"
    (base / "SegmentationClass" / "2007_000042.png").unlink()
    with pytest.raises(CorruptSample, match=r"SegmentationClass/2007_000042\.png: cannot be read: No such file"):
        Voc(str(root)).read(0)
    Image.new("RGB", (30, 20)).save(base / "SegmentationClass" / "2007_000033.png")
    with pytest.raises(CorruptSample, match=r"2007_000033\.png: expected a palette or grey label image, got mode RGB"):
        Voc(str(root)).read(1)
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000042\n2007_000042\n")
    with pytest.raises(ValueError, match=r"Segmentation/val\.txt: the image id '2007_000042' appears more than once"):
        _ = Voc(str(root)).ids
    with pytest.raises(MissingData, match=r"(?s)there is no folder ImageSets.*robots\.ox\.ac\.uk"):
        _ = Voc(str(base / "JPEGImages")).ids
    with pytest.raises(ValueError, match=r"dataset\.void: expected foreground or ignore, got 'background'"):
        Voc(void="background")  # type: ignore[arg-type]


# ---- MNIST


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_reads_idx_files(tmp_path: Path, zipped: bool) -> None:
    rng = np.random.default_rng(1)
    digits, labels = rng.integers(0, 256, (7, 28, 28), dtype=np.uint8), rng.integers(0, 10, 7, dtype=np.uint8)
    for name, array in (("t10k-images-idx3-ubyte", digits), ("t10k-labels.idx1-ubyte", labels)):
        data = idx(array)
        (tmp_path / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
    data_set = Mnist("idx", str(tmp_path))
    assert data_set.labels == tuple(labels.tolist())
    record = data_set.read(3)
    assert (record.id, record.label, record.image.mode) == ("test_00003", labels[3], "RGB")
    for channel in range(3):
        np.testing.assert_array_equal(np.asarray(record.image)[..., channel], digits[3])


def test_mnist_names_broken_idx_files(tmp_path: Path) -> None:
    digits = np.zeros((3, 28, 28), dtype=np.uint8)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, dtype=np.uint8)))
    with pytest.raises(MissingData, match=r"t10k-images-idx3-ubyte\[\.gz\] is not in"):
        _ = Mnist("idx", str(tmp_path)).ids
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(idx(digits)[:-1])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte: truncated: its header promises \(3, 28, 28\) bytes"):
        _ = Mnist("idx", str(tmp_path)).ids
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte: expected an IDX file of unsigned bytes"):
        _ = Mnist("idx", str(tmp_path)).ids
    path.write_bytes(idx(digits))
    with pytest.raises(ValueError, match="expected as many labels as images, got 2 and 3"):
        _ = Mnist("idx", str(tmp_path)).ids


def test_embedded_digits_are_five_thousand_in_two_disjoint_balanced_parts() -> None:
    train, test = Mnist(part="train"), Mnist(part="test")
    assert (len(train.ids), len(test.ids)) == (4000, 1000)
    assert np.bincount(np.array(train.labels, dtype=int)).tolist() == [400] * 10
    assert np.bincount(np.array(test.labels, dtype=int)).tolist() == [100] * 10
    one = np.asarray(test.read(test.labels.index(1)).image)
    assert one.shape == (28, 28, 3)
    assert one[:, 10:18].mean() > 4 * one[:, :6].mean() + 10  # an upright stroke on black
    hashes = [{part.read(i).image.tobytes() for i in range(len(part.ids))} for part in (train, test)]
    assert not hashes[0] & hashes[1]
    assert train.fingerprint() != test.fingerprint()
