"""From an image of any size to the pixels that a model sees; part of a result's identity."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from dix.datasets.api import CorruptSample

_MOST_STRETCHED = 100  #: of a picture's sides, whose shorter one is scaled to the wanted size
_PIL = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """Resize an image and its mask alike.

    size: side of the square result, in pixels.
    resize: "direct" scales to size x size and keeps no aspect (thesis Sec. 5.3); "crop" scales the shorter side to
        floor(size / crop_pct), as timm does, and cuts the centre; "pad" leaves the pixels as they are, centred on black
        (28 x 28 digits for LeNet's 32 x 32).
    crop_pct: share of the shorter side that the crop keeps; only "crop" reads it.
    interpolation: of the image; masks are always nearest.
    antialias: true is Pillow's area-aware filter on eight bits; false is torch's two- or four-tap filter on floats.
    """

    size: int = 224
    resize: Literal["direct", "crop", "pad"] = "direct"
    crop_pct: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        _expect("size", self.size, self.size > 0, "a positive integer")
        _expect("resize", self.resize, self.resize in ("direct", "crop", "pad"), "direct, crop or pad")
        _expect("crop_pct", self.crop_pct, 0 < self.crop_pct <= 1, "a number in (0, 1]")
        _expect("interpolation", self.interpolation, self.interpolation in _PIL, "bilinear or bicubic")

    def image(self, image: Image.Image) -> torch.Tensor:
        """Scale one RGB image. Returns [3, size, size] float32 in [0, 1]."""
        width, height = self._scaled(image.width, image.height)
        if (width, height) == image.size:
            pixels = _pixels(image)
        elif self.antialias:
            pixels = _pixels(image.resize((width, height), _PIL[self.interpolation]))
        else:
            pixels = _interpolate(_pixels(image), height, width, self.interpolation)
        return self._framed(pixels)

    def mask(self, mask: np.ndarray) -> torch.Tensor:
        """Scale one mask by nearest neighbour, with the image's geometry.

        mask: [height, width] int8. Returns [size, size] int8; "pad" adds background (0).
        """
        plane = Image.fromarray(np.ascontiguousarray(mask, dtype=np.int8).view(np.uint8))
        scaled = plane.resize(self._scaled(plane.width, plane.height), Image.Resampling.NEAREST)
        return self._framed(torch.from_numpy(np.array(scaled).view(np.int8)))

    def identity(self) -> dict[str, Any]:
        """Everything that changes the pixels, for a result's provenance."""
        return dataclasses.asdict(self)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize, before the frame."""
        if self.resize == "direct":
            return self.size, self.size
        if self.resize == "pad":
            return _within(width, height, self.size)
        short = math.floor(self.size / self.crop_pct)
        if max(width, height) > _MOST_STRETCHED * min(width, height):
            raise CorruptSample(
                f"preprocess.resize=crop: {width}x{height} pixels are too long and narrow to be scaled by a side"
            )
        if width <= height:
            return short, int(short * height / width)
        return int(short * width / height), short

    def _framed(self, plane: torch.Tensor) -> torch.Tensor:
        """Cut or pad the last two axes to size x size around the centre."""
        height, width = plane.shape[-2:]
        top, left = _offset(height, self.size), _offset(width, self.size)
        if height >= self.size and width >= self.size:
            return plane[..., top : top + self.size, left : left + self.size].contiguous()
        pad = (-left, self.size - width + left, -top, self.size - height + top)
        return functional.pad(plane, pad)


def _offset(length: int, size: int) -> int:
    """First index of a centred window of `size` (negative where the window is larger), as torchvision rounds it."""
    return round((length - size) / 2)


def _within(width: int, height: int, size: int) -> tuple[int, int]:
    if max(width, height) > size:
        raise CorruptSample(f"preprocess.resize=pad: expected at most {size}x{size} pixels, got {width}x{height}")
    return width, height


def _pixels(image: Image.Image) -> torch.Tensor:
    """[3, height, width] float32 in [0, 1]."""
    array = np.array(image, dtype=np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).to(torch.float32).div_(255)


def _interpolate(pixels: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    scaled = functional.interpolate(pixels[None], (height, width), mode=mode, align_corners=False, antialias=False)
    return scaled[0].clamp_(0, 1)  # bicubic overshoots


def _expect(key: str, got: object, fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(f"preprocess.{key}: expected {expected}, got {got!r}")
