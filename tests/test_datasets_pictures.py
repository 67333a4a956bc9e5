"""Pictures of every mode: right, or refused with a message that names the file."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dix.datasets import images
from dix.datasets.api import CorruptSample
from dix.datasets.images import decode, decode_rgb, read_bytes

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)  #: from black to white


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def shown(data: bytes, name: str = "a.tif") -> np.ndarray:
    """One channel of a grey picture; the channels are equal."""
    array = np.asarray(decode_rgb(data, name)).astype(int)
    assert (array == array[..., :1]).all()
    return array[..., 0]


def tiff(samples: bytes, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A little-endian grey TIFF of 8 x 8 pixels, written tag by tag."""
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, 8)]
    tags += [(279, len(samples)), (339, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    fields = [struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(fields) + b"\0" * 4 + samples


def packed_12(values: np.ndarray) -> bytes:
    """Two samples of twelve bits in three bytes, the first sample's high bits first."""
    pairs = values.reshape(-1, 2).astype(int)
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


def test_twelve_bits_are_spread_over_the_whole_scale() -> None:
    deep = (RAMP.astype(int) * 4095 / 255).round().astype(np.uint16)
    assert abs(shown(tiff(packed_12(deep), 12)) - RAMP).max() <= 1
    pgm = b"P5 8 8 4095\n" + deep.astype(">u2").tobytes()
    assert abs(shown(pgm, "a.pgm") - RAMP).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM", "white is zero"])
def test_sixteen_bits_are_shown_by_their_upper_eight(kind: str) -> None:
    deep = RAMP.astype(np.uint16) * 257
    data = {
        "PNG": lambda: encoded(Image.fromarray(deep), "PNG"),
        "TIFF": lambda: encoded(Image.fromarray(deep), "TIFF"),
        "PGM": lambda: b"P5 8 8 65535\n" + deep.astype(">u2").tobytes(),
        "white is zero": lambda: tiff((65535 - deep).astype("<u2").tobytes(), 16, photometric=0),
    }[kind]()
    np.testing.assert_array_equal(shown(data), RAMP)


def test_twelve_bits_in_sixteen_are_refused_not_shown_nearly_black() -> None:
    for top in (255, 1023, 4095):
        deep = (RAMP.astype(int) * top // 255).astype(np.uint16)
        for kind in ("PNG", "TIFF"):
            with pytest.raises(CorruptSample, match=rf"^a\.tif: it has 16 bits .* brightest value is {top} of"):
                decode(encoded(Image.fromarray(deep), kind), "a.tif")
    assert not shown(encoded(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG")).any()


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (RAMP.astype(np.float32) / 255, "its pixels are floats"),
        (RAMP.astype(np.float32), "its pixels are floats"),
        (RAMP.astype(np.int32), "its pixels have 32 bits or a sign"),
        (RAMP.astype(np.int32) * 257, "its pixels have 32 bits or a sign"),
    ],
)
def test_a_scale_without_a_white_is_refused(array: np.ndarray, fault: str) -> None:
    with pytest.raises(CorruptSample, match=rf"^g\.tif: {fault}.*save it with 8"):
        decode(encoded(Image.fromarray(array), "TIFF"), "g.tif")


def test_signed_and_unsigned_deep_integers_are_refused() -> None:
    for bits, sample_format, kind in ((16, 2, "<i2"), (32, 1, "<u4"), (32, 2, "<i4")):
        data = tiff(RAMP.astype(kind).tobytes(), bits, sample_format=sample_format)
        with pytest.raises(CorruptSample, match=r"^g\.tif: its pixels have 32 bits or a sign"):
            decode(data, "g.tif")
    pfm = b"Pf\n8 8\n-1.0\n" + RAMP.astype("<f4").tobytes()
    with pytest.raises(CorruptSample, match=r"^g\.ppm: its pixels are floats"):
        decode(pfm, "g.ppm")


def test_a_grey_of_sixteen_bits_with_a_transparent_value_is_refused() -> None:
    with pytest.raises(CorruptSample, match=r"^g\.png: a grey of 16 bits is marked as transparent"):
        decode(encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG", transparency=0), "g.png")


def chosen(mode: str) -> tuple[Image.Image, dict[str, object]]:
    """Two pixels, of which the first is transparent and the second is (40, 40, 40)."""
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([9, 9, 9, 40, 40, 40])
        image.putpixel((1, 0), 1)
        return image, {"transparency": 0}
    if mode in ("L", "RGB"):
        image = Image.new(mode, (2, 1), 9 if mode == "L" else (9, 9, 9))  # type: ignore[arg-type]
        image.putpixel((1, 0), 40 if mode == "L" else (40, 40, 40))
        return image, {"transparency": 9 if mode == "L" else (9, 9, 9)}
    image = Image.new(mode, (2, 1), (9, 0) if mode == "LA" else (9, 9, 9, 0))  # type: ignore[arg-type]
    image.putpixel((1, 0), (40, 255) if mode == "LA" else (40, 40, 40, 255))
    return image, {}


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_what_is_transparent_shows_white_in_every_mode(mode: str) -> None:
    image, options = chosen(mode)
    assert shown(encoded(image, "PNG", **options)).tolist() == [[255, 40]]


def test_colours_of_sixteen_bits_keep_their_upper_eight() -> None:
    """A PNG of one pixel, (0x12, 0x80, 0xFE) in the upper bytes, written chunk by chunk."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + bytes([0x12, 0xAB, 0x80, 0xCD, 0xFE, 0x01])
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert np.asarray(decode_rgb(data, "a.png")).tolist() == [[[0x12, 0x80, 0xFE]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_a_file_of_several_pictures_is_refused(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (0, 90, 200)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(CorruptSample, match=r"^a\.any: it holds 3 pictures, and nothing says which is meant"):
        decode(data, "a.any")
    assert decode(encoded(frames[0], kind), "a.any").image.size == (4, 4)


def test_the_picture_of_a_camera_s_file_is_its_first() -> None:
    frames = [Image.new("RGB", (16, 16), (200, 200, 200)), Image.new("RGB", (8, 8))]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert shown(data).shape == (16, 16)
    assert abs(shown(data) - 200).max() <= 2


def test_a_tiff_is_turned_once_and_says_how() -> None:
    info = ImageFileDirectory_v2()
    info[274] = 6
    decoded = decode(encoded(Image.fromarray(np.zeros((3, 5), np.uint8)), "TIFF", tiffinfo=info), "a.tif")
    assert (decoded.image.size, decoded.stored, decoded.turn) == ((3, 5), (5, 3), 6)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    decoded = decode(encoded(Image.fromarray(RAMP), "PNG", exif=exif), "a.png")
    assert decoded.turn == 1
    np.testing.assert_array_equal(np.asarray(decoded.image)[..., 0], RAMP)


def test_no_damage_of_a_picture_is_anything_but_a_named_fault() -> None:
    rng = np.random.default_rng(3)
    noisy = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = [encoded(noisy, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    whole += [encoded(noisy, kind) for kind in ("GIF", "BMP", "PPM")]
    outcomes = [outcome(damage(data, rng)) for data in whole for _ in range(60)]
    assert outcomes.count("read") > 20
    assert outcomes.count("named") > 20


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Three bits changed."""
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), 3):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def outcome(data: bytes) -> str:
    """Whether it is "read" or "named"; any other exception fails the test."""
    try:
        return "read" if decode(data, "a.jpg").image.mode == "RGB" else "another mode"
    except CorruptSample as error:
        return "named" if str(error).startswith("a.jpg: ") else str(error)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGEST", 10)
    (tmp_path / "a.jpg").write_bytes(b"x" * 11)
    with pytest.raises(CorruptSample, match=r"^a\.jpg: 11 bytes are more than an image may have \(10\)"):
        read_bytes(tmp_path / "a.jpg", "a.jpg")
    os.truncate(tmp_path / "a.jpg", 10)
    assert len(read_bytes(tmp_path / "a.jpg", "a.jpg")) == 10
