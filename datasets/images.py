"""Decode an image file into what a Record holds: RGB, eight bits, upright; and masks, which turn with their images."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dix.datasets.api import CorruptSample
from dix.datasets.text import text_id

_T = TypeVar("_T")

#: What names of images end with; other files are not opened unless a label file names them.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
LARGEST = 1 << 30  #: bytes of a file that is opened as an image; a larger one is refused before it is read
_LOSSY = ("JPEG", "MPO", "AVIF", "WEBP")  #: formats that need not give back the values that were saved
_TINT = 48  #: how far a lossy format may pull the channels of a grey apart


def is_image(name: str) -> bool:
    """Whether a file name ends as an image's does, in any mixture of cases; hidden files are none."""
    base = name[name.rfind("/") + 1 :]
    return not base.startswith(".") and base[max(base.rfind("."), 0) :].lower() in SUFFIXES


def without_suffix(name: str) -> str:
    """The path without an image's suffix; a name with any other suffix, or none, as it is."""
    return name[: name.rfind(".")] if is_image(name) else name


def read_bytes(path: Path, name: str) -> bytes:
    """The whole file. Raises CorruptSample (`name` and the fault) where it cannot be read."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise CorruptSample(f"{name}: {size} bytes are more than an image may have ({LARGEST})")
        return path.read_bytes()
    except OSError as error:
        raise CorruptSample(f"{name}: cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True)
class Decoded:
    """An image as it is looked at.

    image: RGB, upright. turn: the EXIF orientation (1-8) that was applied; 1 is none.
    """

    image: Image.Image
    turn: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the pixels in the file, before the turn."""
        width, height = self.image.size
        return (height, width) if self.turn >= 5 else (width, height)


def decode(data: bytes, name: str) -> Decoded:
    """Decode an encoded image: RGB, upright, from any colour mode whose white is known.

    data: the file's bytes. name: what messages call it. Raises CorruptSample, also for what is not one picture of a
    known scale: animations, floats, integers of 32 bits.
    """
    return _guarded(data, name, _upright_rgb)


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """The upright image of `decode`."""
    return decode(data, name).image


def decode_palette(data: bytes, name: str) -> np.ndarray:
    """Decode a label image without applying its palette.

    Returns [height, width] uint8 palette indices or grey values, as stored. Raises CorruptSample for a colour image.
    """
    return _guarded(data, name, _indices)


@dataclass(frozen=True)
class Drawn:
    """A mask as its file shows it, turned by its own EXIF orientation.

    values: [height, width] uint8. turn: that orientation. lossy: whether the file's format changes values.
    """

    values: np.ndarray
    turn: int = 1
    lossy: bool = False


def decode_drawn(data: bytes, name: str) -> Drawn:
    """Decode a mask that somebody drew: black and white, grey, a palette that begins with black, or grey as colours.

    Raises CorruptSample for anything of which object and background cannot be told.
    """
    return _guarded(data, name, _drawn)


def turned(mask: np.ndarray, turn: int) -> np.ndarray:
    """A mask [height, width] drawn on the stored pixels, as the EXIF orientation `turn` shows it."""
    plain = mask.T if turn >= 5 else mask
    rows, columns = _REVERSED[turn]
    return np.ascontiguousarray(plain[::rows, ::columns])


#: By EXIF orientation, the steps in which rows and columns are read (after the swap of axes from 5 on).
_REVERSED = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}


def _guarded(data: bytes, name: str, convert: Callable[[Image.Image], _T]) -> _T:
    """Run a conversion on the opened image and turn every decoder's fault into a CorruptSample."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return convert(opened)
    except CorruptSample as error:
        raise CorruptSample(f"{name}: {error}") from error
    except Exception as error:  # decoders of some thirty formats raise what they like on damaged bytes
        fault = text_id(str(error).split(" <_io")[0]) or type(error).__name__
        raise CorruptSample(f"{name}: not a readable image ({len(data)} bytes): {fault}") from error


def _turn(opened: Image.Image) -> int:
    """The EXIF orientation; 1 where the file has none or one that does not exist. To be asked before loading."""
    turn = opened.getexif().get(ExifTags.Base.Orientation, 1)
    return turn if turn in _REVERSED else 1


def _upright(opened: Image.Image) -> tuple[Image.Image, int]:
    """The loaded image, turned as its EXIF orientation says, and that orientation."""
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":  # a camera's MPO holds its picture first, then previews of it
        raise CorruptSample(f"it holds {frames} pictures, and nothing says which is meant; save that one alone")
    turn = _turn(opened)
    opened.load()  # a TIFF is turned here, any other file on the next line
    return ImageOps.exif_transpose(opened), turn


def _upright_rgb(opened: Image.Image) -> Decoded:
    upright, turn = _upright(opened)
    if upright.mode[0] in "IF":
        return Decoded(_eight_bits(opened, upright).convert("RGB"), turn)
    if upright.has_transparency_data:
        return Decoded(_on_white(upright.convert("RGBA")), turn)
    return Decoded(upright.convert("RGB"), turn)


def _eight_bits(opened: Image.Image, upright: Image.Image) -> Image.Image:
    """A grey image of more than eight bits a pixel, reduced to its upper eight. Raises CorruptSample."""
    if upright.mode == "F":
        raise CorruptSample("its pixels are floats, for which white is not defined; save it with 8 or 16 bits a pixel")
    if upright.mode == "I" and opened.format not in ("PNG", "PPM"):  # Pillow scales these two to 16 bits
        raise CorruptSample("its pixels have 32 bits or a sign, for which white is not defined; save it with 8 or 16")
    if "transparency" in opened.info:
        raise CorruptSample("a grey of 16 bits is marked as transparent, which is not supported; save it with 8 bits")
    values = np.asarray(upright).astype(np.int64)
    bits, inverted = _tiff_scale(opened)
    brightest = int(values.max())
    if bits == 16 and 0 < brightest < 1 << 12:
        raise CorruptSample(
            f"it has 16 bits a pixel and its brightest value is {brightest} of 65535, as if it were scaled to 12 bits"
            " or fewer; save it with white at 65535, or with 8 bits"
        )
    grey = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if inverted else grey)


def _tiff_scale(opened: Image.Image) -> tuple[int, bool]:
    """Bits a pixel of a deep grey image, and whether its zero is white, which only a TIFF can say."""
    tags = getattr(opened, "tag_v2", {})
    bits, photometric = tags.get(258, (16,)), tags.get(262, 1)
    return (12 if tuple(bits) == (12,) else 16), photometric == 0


def _on_white(image: Image.Image) -> Image.Image:
    """Show transparent pixels as a viewer does, on white, instead of the hidden colour below them."""
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def _indices(opened: Image.Image) -> np.ndarray:
    opened.load()
    if opened.mode == "1":
        return np.asarray(opened).astype(np.uint8)
    if opened.mode not in ("P", "L"):
        raise CorruptSample(f"expected a palette or grey label image, got mode {opened.mode}")
    return np.asarray(opened)


def _drawn(opened: Image.Image) -> Drawn:
    upright, turn = _upright(opened)
    lossy = opened.format in _LOSSY
    if upright.mode in ("1", "L"):
        return Drawn(np.asarray(upright).astype(np.uint8), turn, lossy)
    if upright.mode == "P":
        return Drawn(_from_black(upright), turn, lossy)
    if upright.mode[0] in "IF":
        raise CorruptSample(f"expected a mask of 8 bits a pixel, got mode {upright.mode}")
    return Drawn(_one_channel(upright, lossy), turn, lossy)


def _from_black(image: Image.Image) -> np.ndarray:
    """Palette indices, of which 0 is background and so must be shown as black or nothing.

    Where all colours are greys, the greys: programs that shrink files turn a grey image into a palette, and its indices
    are then no values that anybody chose.
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    clear = image.info.get("transparency")
    if palette[0].any() and clear != 0 and not (isinstance(clear, bytes) and clear[:1] == b"\0"):
        first = tuple(palette[0].tolist())
        raise CorruptSample(f"its palette begins with {first}, so index 0 may be no background; save as grey")
    indices = np.asarray(image)
    used = palette[np.unique(indices[indices > 0])]
    return (
        palette[indices, 0] if (np.ptp(used, axis=-1) == 0).all() and used.all() and not palette[0].any() else indices
    )


def _one_channel(image: Image.Image, lossy: bool) -> np.ndarray:
    """The grey of a mask that is stored as colours. Raises CorruptSample where it is none, or partly transparent."""
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise CorruptSample("the mask is partly transparent, so object and background cannot be told; save as grey")
    colours = np.asarray(image.convert("RGB"))
    if int((colours.max(-1) - colours.min(-1)).max()) > (_TINT if lossy else 0):
        raise CorruptSample("the mask has colours; save it as grey or with a palette that begins with black")
    return np.asarray(image.convert("L")) if lossy else np.ascontiguousarray(colours[..., 0])
