"""Files that are broken or unusual: what is read, and what the message says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dix.datasets.api import CorruptSample, MissingData
from dix.datasets.folder import Folder
from dix.datasets.images import decode_palette, decode_rgb
from dix.datasets.loader import load
from dix.datasets.preprocess import Preprocess


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


SMOOTH = Image.linear_gradient("L").resize((64, 48))


def test_greyscale_becomes_three_equal_channels() -> None:
    array = np.asarray(decode_rgb(encoded(SMOOTH, "JPEG"), "grey.jpg"))
    assert array.shape == (48, 64, 3)
    assert (array[..., 0] == array[..., 1]).all()
    assert (array[..., 1] == array[..., 2]).all()


def test_cmyk_jpeg_has_the_colours_of_its_rgb_twin() -> None:
    colour = Image.new("RGB", (32, 32), (200, 60, 30))
    got = np.asarray(decode_rgb(encoded(colour.convert("CMYK"), "JPEG", quality=95), "cmyk.jpg")).astype(int)
    assert abs(got.mean((0, 1)) - [200, 60, 30]).max() < 4


def test_sixteen_bits_keep_their_upper_eight() -> None:
    wide = Image.fromarray(np.array([[0, 256 * 7, 256 * 255 + 255]], dtype=np.uint16))
    got = np.asarray(decode_rgb(encoded(wide), "wide.png"))
    assert got[0, :, 0].tolist() == [0, 7, 255]


def test_transparent_pixels_show_white() -> None:
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (255, 0, 0, 255))
    assert np.asarray(decode_rgb(encoded(clear), "clear.png")).tolist() == [[[255, 255, 255], [255, 0, 0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation: int) -> None:
    upright = np.zeros((20, 30, 3), dtype=np.uint8)
    upright[:5, :5] = 255
    stored = {  # how a camera stores the upright picture for each tag value (EXIF 2.3, Orientation)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(np.asarray(decode_rgb(encoded(image, exif=exif), "rotated.png")), upright)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_jpeg_is_named_never_filled_with_grey(share: float) -> None:
    data = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG")
    with pytest.raises(CorruptSample, match=r"photo\.jpg: not a readable image \(\d+ bytes\)"):
        decode_rgb(data[: int(len(data) * share)], "photo.jpg")


def test_bytes_that_are_no_image_are_named_without_addresses() -> None:
    with pytest.raises(CorruptSample, match=r"^notes\.png: not a readable image") as caught:
        decode_rgb(b"some text", "notes.png")
    assert "0x" not in str(caught.value)


def test_an_image_of_absurd_size_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(CorruptSample, match=r"huge\.png: not a readable image .* exceeds limit of 200 pixels"):
        decode_rgb(encoded(Image.new("L", (20, 20))), "huge.png")


def test_a_label_image_keeps_indices_and_a_colour_image_is_refused() -> None:
    palette = Image.fromarray(np.array([[0, 3, 255]], dtype=np.uint8), "L").convert("P")
    palette.putdata([0, 3, 255])
    palette.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
    assert decode_palette(encoded(palette), "m.png").tolist() == [[0, 3, 255]]
    with pytest.raises(CorruptSample, match=r"m\.png: expected a palette or grey label image, got mode RGB"):
        decode_palette(encoded(Image.new("RGB", (2, 2))), "m.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    SMOOTH.save(tmp_path / "a.JPG", "JPEG")
    SMOOTH.save(tmp_path / "b.Jpeg", "JPEG")
    SMOOTH.save(tmp_path / "sub" / "c.PNG", "PNG")
    (tmp_path / "notes.txt").write_text("none of these")
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[10:20, 5:9] = 255
    mask[30] = 128
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    return tmp_path


def test_a_folder_is_read_recursively_in_any_case_with_masks_beside(photos: Path) -> None:
    data = Folder(str(photos))
    assert data.ids == ("a.JPG", "b.Jpeg", "sub/c.PNG")
    mask = data.read(0).mask
    assert mask is not None
    assert mask.sum() == 40 + 64
    assert data.read(1).mask is None
    void = Folder(str(photos), void=128).read(0).mask
    assert void is not None
    assert (void == -1).sum() == 64
    assert Folder(str(photos), masks="none").read(0).mask is None
    assert Folder(str(photos), void=128).fingerprint() != data.fingerprint()


def test_a_required_mask_that_is_missing_is_named(photos: Path) -> None:
    with pytest.raises(CorruptSample, match=r"b\.Jpeg: its mask b_mask\.png is not there"):
        Folder(str(photos), masks="required").read(1)


def test_a_mask_of_another_size_names_both_sizes(photos: Path) -> None:
    Image.new("L", (10, 12)).save(photos / "a_mask.png")
    with pytest.raises(CorruptSample, match=r"a_mask\.png: the mask is 10x12 pixels and its image 64x48"):
        Folder(str(photos)).read(0)


def test_a_run_goes_on_without_broken_files_and_says_which(photos: Path) -> None:
    (photos / "b.Jpeg").write_bytes(b"\xff\xd8\xff")
    data = Folder(str(photos))
    batch = load(data, Preprocess(8), range(3), "skip")
    assert batch.ids == ("a.JPG", "sub/c.PNG")
    assert [name for name, _ in batch.skipped] == ["b.Jpeg"]
    assert str(photos) not in batch.skipped[0][1]
    with pytest.raises(CorruptSample, match=r"b\.Jpeg"):
        load(data, Preprocess(8), range(3), "stop")


def test_a_file_that_vanished_is_named(photos: Path) -> None:
    data = Folder(str(photos))
    assert len(data.ids) == 3
    (photos / "b.Jpeg").unlink()
    with pytest.raises(CorruptSample, match=r"b\.Jpeg: cannot be read: No such file"):
        data.read(1)


def test_an_empty_folder_and_an_absent_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=f"dataset.root: the folder {tmp_path} holds no images"):
        _ = Folder(str(tmp_path)).ids
    with pytest.raises(MissingData, match=r"dataset.root: expected a folder of images, got 'nowhere'"):
        _ = Folder("nowhere").ids


def test_labels_of_a_folder_come_from_its_file(photos: Path) -> None:
    (photos / "labels.txt").write_text("a.JPG 5\nsub/c.PNG 999\n")
    data = Folder(str(photos), labels_file=str(photos / "labels.txt"))
    assert data.labels == (5, None, 999)
    assert data.label_space == "imagenet"
    (photos / "labels.txt").write_text("a.JPG 5\na.JPG 6\n")
    with pytest.raises(ValueError, match=r"labels\.txt, line 2: the image id 'a\.JPG' appears more than once"):
        _ = Folder(str(photos), labels_file=str(photos / "labels.txt")).labels
    (photos / "labels.txt").write_text("a.JPG 1000\n")
    with pytest.raises(ValueError, match=r"labels\.txt, line 1: expected 'name index' with an index of 0 to 999"):
        _ = Folder(str(photos), labels_file=str(photos / "labels.txt")).labels
