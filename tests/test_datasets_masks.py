"""Masks turn with their pictures, belong to one picture, and hold what was drawn; or a message names the file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, ImageOps, features
from test_datasets_readers import make_coco, make_seg, make_voc, polygon_note, seg_arrays

from dix.datasets.api import VOID, CorruptSample
from dix.datasets.coco import Coco
from dix.datasets.folder import Folder
from dix.datasets.imagenet_seg import ImageNetSeg
from dix.datasets.images import turned
from dix.datasets.voc import Voc

AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
TURNS = range(1, 9)
MASK = np.zeros((60, 80), np.uint8)
MASK[5:25, 10:35] = 255


def exif(turn: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = turn
    return tags


def save(path: Path, array: np.ndarray, turn: int = 1, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, exif=exif(turn), **options)  # type: ignore[arg-type]


def seen(array: np.ndarray, turn: int) -> np.ndarray:
    """What Pillow shows of an array that is stored with an EXIF orientation."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", exif=exif(turn))
    return np.asarray(ImageOps.exif_transpose(Image.open(stream)))


def agreement(image: Image.Image, mask: np.ndarray | None) -> float:
    assert mask is not None
    return float(((np.asarray(image)[..., 0] > 128) == (mask == 1)).mean())


@pytest.mark.parametrize("turn", TURNS)
def test_turning_a_mask_is_what_pillow_does_with_its_picture(turn: int) -> None:
    array = np.random.default_rng(turn).integers(0, 256, (5, 7), dtype=np.uint8)
    np.testing.assert_array_equal(turned(array, turn), seen(array, turn))


@pytest.mark.parametrize("kind", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("turn", TURNS)
def test_a_mask_drawn_on_the_stored_pixels_turns_with_its_picture(tmp_path: Path, turn: int, kind: str) -> None:
    save(tmp_path / f"a{kind}", np.repeat(MASK[..., None], 3, axis=2), turn, quality=95)
    Image.fromarray(MASK).save(tmp_path / "a_mask.png")
    record = Folder(str(tmp_path)).read(0)
    assert record.image.size == ((60, 80) if turn >= 5 else (80, 60))
    assert agreement(record.image, record.mask) == 1.0
    np.testing.assert_array_equal(record.mask, seen(MASK, turn) > 0)


@pytest.mark.parametrize("turn", TURNS)
def test_a_mask_drawn_on_the_upright_picture_stays_where_that_is_said(tmp_path: Path, turn: int) -> None:
    save(tmp_path / "a.png", MASK, turn)
    Image.fromarray(seen(MASK, turn)).save(tmp_path / "a_mask.png")
    record = Folder(str(tmp_path), masks_drawn="upright").read(0)
    assert agreement(record.image, record.mask) == 1.0
    assert Folder(str(tmp_path)).fingerprint() != Folder(str(tmp_path), masks_drawn="upright").fingerprint()


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_a_mask_that_fits_only_the_other_way_is_named_with_what_to_do(tmp_path: Path, turn: int) -> None:
    save(tmp_path / "a.png", MASK, turn)
    Image.fromarray(seen(MASK, turn)).save(tmp_path / "a_mask.png")
    with pytest.raises(
        CorruptSample,
        match=rf"^a_mask\.png: .* 60x80 .* stored as 80x60, which EXIF orientation {turn} .*upright",
    ):
        Folder(str(tmp_path)).read(0)
    Image.fromarray(MASK).save(tmp_path / "a_mask.png")
    with pytest.raises(CorruptSample, match=r"^a_mask\.png: the mask is 80x60 pixels and its image 60x80"):
        Folder(str(tmp_path), masks_drawn="upright").read(0)


@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_a_mask_with_an_orientation_of_its_own_is_turned_once(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "a.jpg", MASK, 6, quality=95)
    save(tmp_path / f"a_mask{kind}", MASK, 6)
    for data in (Folder(str(tmp_path)), Folder(str(tmp_path), masks_drawn="upright")):
        record = data.read(0)
        assert agreement(record.image, record.mask) == 1.0
    save(tmp_path / f"a_mask{kind}", MASK, 8)
    with pytest.raises(CorruptSample, match=rf"^a_mask\{kind}: its EXIF orientation is 8 and its image's 6"):
        Folder(str(tmp_path)).read(0)


@pytest.mark.parametrize("turn", TURNS)
def test_masks_of_voc_and_coco_turn_with_their_pictures(tmp_path: Path, turn: int) -> None:
    root, _ = make_voc(tmp_path / "voc")
    base = root / "VOCdevkit" / "VOC2012"
    drawn = np.array(Image.open(base / "SegmentationClass" / "2007_000042.png")).clip(0, 1) * 255
    save(base / "JPEGImages" / "2007_000042.jpg", drawn, turn, quality=100)
    record = Voc(str(root)).read(0)
    np.testing.assert_array_equal(record.mask, seen(drawn, turn) > 0)
    assert agreement(record.image, record.mask) > 0.97  # JPEG blurs an edge

    coco = make_coco(tmp_path / "coco")
    before = Coco(str(coco)).read(1).mask
    assert before is not None
    save(coco / "val2017" / "000000000139.jpg", before.astype(np.uint8) * 255, turn)
    np.testing.assert_array_equal(Coco(str(coco)).read(1).mask, seen(before.astype(np.uint8), turn))


# ---- which file is the mask of which picture


def grey(path: Path, value: int = 9, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


@pytest.mark.parametrize(
    "suffix",
    [".png", ".PNG", ".jpg", ".JPEG", ".jfif", ".bmp", ".tif", ".gif", ".webp", pytest.param(".avif", marks=AVIF)],
)
@pytest.mark.parametrize("end", ["_mask", "_MASK"])
def test_a_mask_is_found_by_any_suffix_and_is_no_picture(tmp_path: Path, suffix: str, end: str) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    Image.fromarray(MASK).save(tmp_path / f"x{end}{suffix}")
    data = Folder(str(tmp_path))
    assert data.ids == ("x.png",)
    found = data.read(0).mask
    assert found is not None
    assert (found == (MASK > 0)).mean() > 0.999
    assert data.left_out == []


def test_another_end_of_names_is_chosen_with_or_without_a_suffix(tmp_path: Path) -> None:
    grey(tmp_path / "x.png")
    grey(tmp_path / "x-seg.bmp")
    for end in ("-seg", "-seg.png"):
        data = Folder(str(tmp_path), mask_suffix=end)
        assert (data.ids, data.read(0).mask is None) == (("x.png",), False)
    assert Folder(str(tmp_path)).ids == ("x-seg.bmp", "x.png")
    with pytest.raises(ValueError, match=r"dataset\.mask_suffix: expected an end of a name"):
        Folder(str(tmp_path), mask_suffix="")


@pytest.mark.parametrize("names", [("a.jpg", "a_mask.png", "a_mask.PNG"), ("a.jpg", "a.png", "a_mask.png")])
def test_two_masks_or_two_pictures_for_one_name_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        grey(tmp_path / name)
    with pytest.raises(ValueError, match=r"cannot be told apart as one image and its mask; rename some") as caught:
        Folder(str(tmp_path)).read(0)
    assert all(name in str(caught.value) for name in names)
    assert Folder(str(tmp_path), masks="none").read(0).mask is None


def test_a_mask_without_a_picture_is_counted_and_one_in_another_folder_is_not_taken(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x_mask.png"):
        grey(tmp_path / name)
    data = Folder(str(tmp_path))
    assert data.read(0).mask is None
    assert [(entry.name, entry.reason) for entry in data.left_out] == [("b/x_mask.png", "mask without an image")]


def test_masks_that_are_not_read_are_counted(tmp_path: Path) -> None:
    for name in ("x.png", "x_mask.png"):
        grey(tmp_path / name)
    data = Folder(str(tmp_path), masks="none")
    assert [entry.reason for entry in data.left_out] == ["mask, and dataset.masks is none"]
    with pytest.raises(ValueError, match=r"dataset\.void: expected null where dataset\.masks is none"):
        Folder(str(tmp_path), masks="none", void=3)
    for void in (0, 256, -1):
        with pytest.raises(ValueError, match=r"dataset\.void: expected a value of 1 to 255"):
            Folder(str(tmp_path), void=void)
    with pytest.raises(ValueError, match=r"dataset\.masks_drawn: expected stored or upright, got 'flat'"):
        Folder(str(tmp_path), masks_drawn="flat")  # type: ignore[arg-type]


# ---- what a mask may hold


def palette(first: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray((MASK > 0).astype(np.uint8), "L").convert("P")
    image.putdata((MASK > 0).astype(np.uint8).ravel().tolist())
    image.putpalette([*first, *(255 - value for value in first)] + [7] * 762)
    return image


COLOURS = np.repeat(MASK[..., None], 3, axis=2)
RIGHT = {
    "two levels": Image.fromarray(MASK).convert("1"),
    "grey": Image.fromarray(MASK),
    "grey of low values": Image.fromarray((MASK > 0).astype(np.uint8)),
    "palette from black": palette((0, 0, 0)),
    "grey as colours": Image.fromarray(COLOURS),
    "grey as opaque colours": Image.fromarray(np.dstack([COLOURS, np.full_like(MASK, 255)])),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_mask_may_be_black_and_white_in_any_of_these_ways(tmp_path: Path, name: str) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    RIGHT[name].save(tmp_path / "x_mask.png")
    np.testing.assert_array_equal(Folder(str(tmp_path)).read(0).mask, MASK > 0)


WRONG = {
    "a palette that begins with white": (palette((255, 255, 255)), r"its palette begins with \(255, 255, 255\)"),
    "colours": (Image.fromarray(COLOURS * np.array([1, 0, 0], np.uint8)), "the mask has colours"),
    "transparency": (Image.fromarray(np.dstack([COLOURS, MASK])), "partly transparent"),
    "sixteen bits": (Image.fromarray(MASK.astype(np.uint16)), "expected a mask of 8 bits a pixel, got mode I;16"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mask_of_which_the_object_cannot_be_told_is_named(tmp_path: Path, name: str) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    WRONG[name][0].save(tmp_path / "x_mask.png")
    with pytest.raises(CorruptSample, match=rf"^x_mask\.png: .*{WRONG[name][1]}"):
        Folder(str(tmp_path)).read(0)


@pytest.mark.parametrize("kind", [".jpg", ".webp", pytest.param(".avif", marks=AVIF)])
def test_a_format_that_changes_values_tells_white_from_black_and_nothing_else(tmp_path: Path, kind: str) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    path = tmp_path / f"x_mask{kind}"
    Image.fromarray(COLOURS).save(path, quality=30)
    mask = Folder(str(tmp_path)).read(0).mask
    assert mask is not None
    if kind == ".jpg":  # what "above 0" would take as well
        assert (np.asarray(Image.open(path).convert("L")) > 0).sum() > (MASK > 0).sum()
    assert (mask == (MASK > 0)).mean() > 0.995
    with pytest.raises(CorruptSample, match=rf"^x_mask\{kind}: its format changes values"):
        Folder(str(tmp_path), void=128).read(0)
    Image.fromarray(COLOURS // 64).save(path, quality=95)
    with pytest.raises(CorruptSample, match=rf"^x_mask\{kind}: its format changes values"):
        Folder(str(tmp_path)).read(0)


def test_an_empty_mask_is_a_mask_without_object_in_any_format(tmp_path: Path) -> None:
    grey(tmp_path / "x.png")
    for suffix in (".png", ".jpg"):
        grey(tmp_path / f"x_mask{suffix}", 0)
        mask = Folder(str(tmp_path)).read(0).mask
        assert mask is not None
        assert not mask.any()
        (tmp_path / f"x_mask{suffix}").unlink()


def test_the_void_value_of_a_lossless_mask_is_neither(tmp_path: Path) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    values = MASK.copy()
    values[40] = 200
    Image.fromarray(values).save(tmp_path / "x_mask.png")
    expected = (values == 255).astype(int)
    expected[40] = VOID
    np.testing.assert_array_equal(Folder(str(tmp_path), void=200).read(0).mask, expected)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_the_void_value_of_a_grey_that_was_stored_as_a_palette_is_the_grey(tmp_path: Path, suffix: str) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    values = MASK.copy()
    values[40] = 128
    small = Image.fromarray(np.searchsorted([0, 128, 255], values).astype(np.uint8), "P")
    small.putpalette([0, 0, 0, 128, 128, 128, 255, 255, 255])
    small.save(tmp_path / f"x_mask{suffix}")
    expected = (values == 255).astype(int)
    expected[40] = VOID
    np.testing.assert_array_equal(Folder(str(tmp_path), void=128).read(0).mask, expected)


def test_indices_of_a_palette_of_colours_are_values(tmp_path: Path) -> None:
    grey(tmp_path / "x.png", size=(80, 60))
    indices = (MASK > 0).astype(np.uint8)
    indices[40] = 2
    for colours in ([0, 0, 0, 200, 0, 0, 9, 9, 9], [0] * 9):  # colours, and a palette that shows nothing
        image = Image.fromarray(indices, "P")
        image.putpalette(colours)
        image.save(tmp_path / "x_mask.png")
        np.testing.assert_array_equal(Folder(str(tmp_path)).read(0).mask, indices > 0)
        void = Folder(str(tmp_path), void=2).read(0).mask
        assert void is not None
        assert (void[40] == VOID).all()


def test_a_voc_mask_that_was_converted_to_grey_is_named(tmp_path: Path) -> None:
    root, _ = make_voc(tmp_path)
    path = root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000042.png"
    image = Image.open(path)
    values = np.asarray(image).copy()
    values[0, 0] = 38
    Image.fromarray(values).save(path)
    with pytest.raises(CorruptSample, match=r"2007_000042\.png: 38 is neither a class \(0 to 20\) nor the border"):
        Voc(str(root)).read(0)


def test_a_segmentation_file_of_unequal_parts_or_absurd_arrays_is_named(tmp_path: Path) -> None:
    make_seg(tmp_path, *seg_arrays())
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "r+") as file:
        refs, value = file["#refs#"], file["value"]
        value["img"][0, 0] = refs.create_dataset("huge", (3, 1 << 20, 1 << 20), dtype="u1", chunks=True).ref
        value["gt"][1, 0] = refs.create_group("no array").ref
        refs["c2"][0, 0] = refs.create_dataset("nan", data=np.full((8, 8), np.nan)).ref
    data = ImageNetSeg(str(tmp_path))
    for index, fault in enumerate(("expected 1 to .* numbers, got 3298534883328", "", "a value is not finite")):
        with pytest.raises(CorruptSample, match=rf"gtsegs_ijcv\.mat, image 000{index + 1}: {fault}"):
            data.read(index)
        with pytest.raises(CorruptSample, match=rf"image 000{index + 1}"):
            data.content(index)
    assert {entry.name for entry in ImageNetSeg(str(make_seg_of(tmp_path / "b"))).left_out} == {"0001", "0002", "0003"}
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "r+") as file:
        del file["value"]["gt"]
        file["value"].create_dataset("gt", (2, 1), dtype=h5py.special_dtype(ref=h5py.Reference))
    with pytest.raises(ValueError, match=r"gtsegs_ijcv\.mat: expected as many masks as images, got 2 and 3"):
        _ = ImageNetSeg(str(tmp_path)).ids


def test_a_segmentation_file_does_not_open_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(192)))
    make_seg(tmp_path, *seg_arrays())
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "r+") as file:
        outside = [(str(tmp_path / "secret"), 0, 192)]
        array = file["#refs#"].create_dataset("o", (3, 8, 8), dtype="u1", external=outside)
        file["value"]["img"][2, 0] = array.ref
    with pytest.raises(CorruptSample, match=r"image 0003: an array lies in another file, which is not opened"):
        ImageNetSeg(str(tmp_path)).read(2)


def make_seg_of(root: Path) -> Path:
    root.mkdir()
    return make_seg(root, *seg_arrays())


# ---- COCO's annotations

GOOD = [5, 5, 20, 6, 12, 22]
RUNS = {"counts": [100, 50, 1050], "size": [30, 40]}
BAD = {
    "no object": ("nothing", "no object of named fields"),
    "another image": ({"image_id": 77}, "its image_id is no image's"),
    "an image by text": ({"image_id": "139"}, "its image_id reads like an image's and is of another type"),
    "an image by a float": ({"image_id": 139.0}, "its image_id is no image's"),
    "an image by a list": ({"image_id": [139]}, "its image_id is no image's"),
    "no category": ({"category_id": 99}, "its category_id is no category's"),
    "no segmentation": ({"segmentation": None}, "no segmentation"),
    "empty": ({"segmentation": []}, "its segmentation is empty"),
    "empty part": ({"segmentation": [[]]}, "a polygon is no list of three or more points"),
    "short": ({"segmentation": [GOOD, [1, 2, 3, 4]]}, "a polygon is no list of three or more points"),
    "odd": ({"segmentation": [[*GOOD, 3]]}, "a polygon is no list of three or more points"),
    "no list of lists": ({"segmentation": GOOD}, "a polygon is no list of three or more points"),
    "text": ({"segmentation": [["1", "2", "3", "4", "5", "6"]]}, "coordinates that are no numbers"),
    "truth values": ({"segmentation": [[True] * 6]}, "coordinates that are no numbers"),
    "not finite": ({"segmentation": [[*GOOD, float("nan"), 3]]}, "a polygon lies outside its picture"),
    "outside": ({"segmentation": [[5, 5, 20, 6, 12, 32]]}, "a polygon lies outside its picture"),
    "far outside": ({"segmentation": [[5, 5, 10**12, 6, 12, 10**12]]}, "a polygon lies outside its picture"),
    "keyed by text": ({"segmentation": {"0": GOOD}}, "the size of its run lengths is not its picture's"),
    "runs of another size": ({"segmentation": {**RUNS, "size": [40, 30]}}, "the size of its run lengths"),
    "runs of text sizes": ({"segmentation": {**RUNS, "size": ["30", "40"]}}, "the size of its run lengths"),
    "short runs": ({"segmentation": {**RUNS, "counts": [100, 50]}}, "do not fill its picture"),
    "a bomb": ({"segmentation": {**RUNS, "counts": [0, 10**15]}}, "do not fill its picture"),
    "negative runs": ({"segmentation": {**RUNS, "counts": [1300, -100]}}, "are no list of numbers"),
    "runs of text": ({"segmentation": {**RUNS, "counts": ["100", "1100"]}}, "are no list of numbers"),
    "broken text": ({"segmentation": {**RUNS, "counts": "\x00€"}}, "cannot be decoded"),
    "endless text": ({"segmentation": {**RUNS, "counts": "o" * 4000}}, "cannot be decoded"),
    "a bomb of text": ({"segmentation": {**RUNS, "counts": "0oooooo1"}}, "do not fill its picture"),
}


def with_notes(root: Path, *notes: object) -> Path:
    """make_coco's three images, with these annotations."""
    make_coco(root)
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": list(notes)}))
    return root


@pytest.mark.parametrize("name", BAD)
def test_a_broken_annotation_costs_itself_and_neither_its_image_nor_the_others(tmp_path: Path, name: str) -> None:
    change, reason = BAD[name]
    bad = {**polygon_note(2, 139, 18, []), **change} if isinstance(change, dict) else change
    good = polygon_note(1, 139, 18, [GOOD])
    data = Coco(str(with_notes(tmp_path / "a", good, bad)))
    assert data.ids == ("000000000139.jpg",)
    alone = Coco(str(with_notes(tmp_path / "b", good)))
    np.testing.assert_array_equal(data.read(0).mask, alone.read(0).mask)
    assert list(data.category_masks(0)) == ["dog"]
    (entry,) = [entry for entry in data.left_out if entry.reason.startswith("annotation: ")]
    assert reason in entry.reason
    assert entry.name.startswith("annotation 2")


def test_an_image_of_which_no_annotation_can_be_decoded_stays_and_has_no_mask(tmp_path: Path) -> None:
    root = with_notes(tmp_path, polygon_note(1, 139, 18, []), polygon_note(2, 9, 18, [[1, 1, 10, 1, 10, 10]]))
    data = Coco(str(root))
    assert data.ids == ("000000000009.jpg", "000000000139.jpg")
    assert data.read(1).mask is None
    kept = Coco(str(root), unannotated="keep").read(2)
    assert kept.mask is not None
    assert not kept.mask.any()
    assert Coco(str(root), category="dog").ids == ("000000000009.jpg",)


def test_an_image_stays_whose_annotations_call_it_by_text(tmp_path: Path) -> None:
    data = Coco(str(with_notes(tmp_path, polygon_note(1, 139, 18, [GOOD]) | {"image_id": "139"})))
    assert data.ids == ("000000000139.jpg",)
    assert data.read(0).mask is None


def test_polygons_may_touch_the_border_and_pass_it_by_rounding(tmp_path: Path) -> None:
    data = Coco(str(with_notes(tmp_path, polygon_note(1, 139, 18, [[-0.5, -0.4, 40.6, 0, 40, 30.3, 0, 30]]))))
    mask = data.read(0).mask
    assert mask is not None
    assert mask.mean() > 0.95
    assert not [entry for entry in data.left_out if entry.reason.startswith("annotation")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"file_name": "../../etc/passwd"}, "leads out of the folder of images"),
        ({"file_name": "/etc/passwd"}, "leads out of the folder of images"),
        ({"file_name": "a/..\\b.jpg"}, "leads out of the folder of images"),
        ({"file_name": 7}, "expected a number and a file's name"),
        ({"id": [1]}, "expected a number and a file's name"),
        ({"height": "30"}, "expected a size in pixels"),
        ({"height": 0}, "expected a size in pixels"),
        ({"height": 10**9}, "pixels are more than an image may have"),
    ],
)
def test_a_listed_image_that_cannot_be_one_is_refused_by_name(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    path = make_coco(tmp_path) / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][1] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"instances_val2017\.json, image 2: .*{fault}"):
        _ = Coco(str(tmp_path)).ids


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"images": {}, "annotations": [], "categories": []}', "[" * 100_000, "\ufeffx"]
)
def test_a_file_that_is_no_annotation_file_is_named(tmp_path: Path, text: str) -> None:
    path = make_coco(tmp_path) / "annotations" / "instances_val2017.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"instances_val2017\.json: not a COCO instances file"):
        _ = Coco(str(tmp_path)).ids


def test_a_byte_order_mark_is_no_fault_of_an_annotation_file(tmp_path: Path) -> None:
    path = make_coco(tmp_path) / "annotations" / "instances_val2017.json"
    before = Coco(str(tmp_path)).ids
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Coco(str(tmp_path)).ids == before
