"""Decode an image file into what a Record holds: RGB, eight bits, upright."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from dix.datasets.api import CorruptSample

_T = TypeVar("_T")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})


def is_image(name: str) -> bool:
    """Whether a file name ends as an image's does, in any mixture of cases; hidden files are none."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).name.startswith(".")


def read_bytes(path: Path, name: str) -> bytes:
    """The whole file. Raises CorruptSample (`name` and the fault) where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptSample(f"{name}: cannot be read: {error.strerror or error}") from error


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """Decode an encoded image: RGB, upright, from any colour mode (CMYK, greyscale, palette, 16 bits).

    data: the file's bytes. name: what messages call it. Raises CorruptSample.
    """
    return _guarded(data, name, _upright_rgb)


def decode_palette(data: bytes, name: str) -> np.ndarray:
    """Decode a label image without applying its palette.

    Returns [height, width] uint8 palette indices or grey values. Raises CorruptSample for a colour image.
    """
    return _guarded(data, name, _indices)


def _guarded(data: bytes, name: str, convert: Callable[[Image.Image], _T]) -> _T:
    """Run a conversion on the opened image and turn every decoder's fault into a CorruptSample."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return convert(opened)
    except CorruptSample as error:
        raise CorruptSample(f"{name}: {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        fault = str(error).split(" <_io")[0] or type(error).__name__
        raise CorruptSample(f"{name}: not a readable image ({len(data)} bytes): {fault}") from error


def _upright_rgb(opened: Image.Image) -> Image.Image:
    opened.load()
    upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I"):  # sixteen bits a pixel: keep the upper eight
        return Image.fromarray((np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if upright.mode in ("P", "LA", "PA", "RGBA"):
        return _on_white(upright.convert("RGBA"))
    return upright.convert("RGB")


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
