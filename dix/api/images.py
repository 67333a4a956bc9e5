"""Images as people have them (paths, PIL images, arrays, tensors) become the pixels that a network is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from dix.cli.explain import numbered, stems
from dix.datasets.images import decode_rgb, read_bytes
from dix.datasets.preprocess import Preprocess


@dataclass(frozen=True)
class Picture:
    """One image.

    name: for files and messages; random numbers derive from it. pixels: [3, S, S] in [0, 1], as the network is shown
    them. photo: [H, W, 3] the image itself, in [0, 1].
    """

    name: str
    pixels: Tensor
    photo: np.ndarray


def pictures(images: Any, preprocess: Preprocess) -> list[Picture]:
    """Every image of one or several. Raises ValueError where something is no image."""
    found = list(_each(images))
    if not found:
        raise ValueError("images: expected at least one, got none")
    files = [str(one) if isinstance(one, str | Path) else f"image{place}" for place, one in enumerate(found)]
    names = numbered(stems(files))
    return [_picture(name, one, preprocess) for name, one in zip(names, found, strict=True)]


def _each(images: Any) -> Iterator[Any]:
    if isinstance(images, list | tuple):
        for one in images:
            yield from _each(one)
    elif isinstance(images, Tensor | np.ndarray) and images.ndim == 4:
        yield from images
    else:
        yield images


def _picture(name: str, image: Any, preprocess: Preprocess) -> Picture:
    if isinstance(image, str | Path):
        return _of_photo(name, decode_rgb(read_bytes(Path(image), str(image)), str(image)), preprocess)
    if isinstance(image, Image.Image):
        return _of_photo(name, image.convert("RGB"), preprocess)
    if isinstance(image, Tensor):
        return _of_pixels(name, _colour(image.detach().cpu()), preprocess)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return _of_photo(name, Image.fromarray(image).convert("RGB"), preprocess)
    if isinstance(image, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        return _of_pixels(name, _colour(pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels), preprocess)
    raise ValueError(f"images: expected paths, PIL images, arrays or tensors, got {type(image).__name__}")


def _of_photo(name: str, photo: Image.Image, preprocess: Preprocess) -> Picture:
    return Picture(name, preprocess.image(photo), np.asarray(photo, dtype=float) / 255)


def _colour(pixels: Tensor) -> Tensor:
    """[3, H, W] single-precision pixels of [H, W], [1, H, W] or [3, H, W]."""
    planes = pixels[None] if pixels.ndim == 2 else pixels
    if planes.ndim != 3 or len(planes) not in (1, 3) or not planes.is_floating_point():
        raise ValueError(f"images: expected numbers [3, H, W] or [1, H, W], got {planes.dtype} {list(pixels.shape)}")
    low, high = float(planes.min()), float(planes.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images: expected pixels in [0, 1], got {low:g} to {high:g}; mean and std are the classifier's business"
        )
    return planes.float().expand(3, -1, -1)


def _of_pixels(name: str, pixels: Tensor, preprocess: Preprocess) -> Picture:
    """Pixels of the network's size are shown as they are; others are scaled to it."""
    size = (preprocess.size, preprocess.size)
    shown = pixels
    if tuple(pixels.shape[1:]) != size:
        shown = functional.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    return Picture(name, shown.clone(), pixels.permute(1, 2, 0).double().numpy())
