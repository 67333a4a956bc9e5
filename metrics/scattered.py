"""Restore images from scattered pixels and measure their information; NumPy only, so that worker processes start fast.

The performance information curves (Kapishnikov et al. 2019) blur an image by linear interpolation between the pixels
that are known, and call the size of its lossless WebP file its information.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow_version
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

CORNERS = ((0, 0, -1, -1), (0, -1, 0, -1))
#: Leave surrounded pixels out where more pixels than this are known, and at most this share of them remains.
MANY, FEW = 4000, 0.5


@dataclass(frozen=True)
class Codec:
    """How bytes are counted: lossless WebP; quality: 0 to 100, how hard the encoder searches; effort: 0 to 6."""

    quality: int = 100
    effort: int = 4

    def size(self, image: np.ndarray) -> int:
        """Bytes of an image [H, W, 3] uint8."""
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="webp", lossless=True, quality=self.quality, method=self.effort)
        return buffer.tell()

    def provenance(self) -> dict[str, str | int]:
        """Settings and library versions, on which the byte counts depend."""
        settings: dict[str, str | int] = {"format": "webp lossless", "quality": self.quality, "effort": self.effort}
        return settings | {"libwebp": str(features.version("webp")), "pillow": pillow_version}


def surrounded(known: np.ndarray) -> np.ndarray:
    """Whether the four neighbours of a pixel are known, those outside the image taken as known: [H, W]."""
    padded = np.pad(known, 1, constant_values=True)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def interpolate(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Interpolate the unknown pixels linearly over the Delaunay triangles of the known ones.

    values: [H, W, C] float, read where known. known: [H, W] bool with all four corners. Returns [N, C], the unknown
    pixels in row-major order. A known pixel whose four neighbours are known has a Voronoi cell inside its own unit
    square, so its triangles join it to its eight neighbours only and cover no other pixel: leaving it out changes no
    unknown pixel. Only the diagonals of four pixels on one circle, which nothing determines, may then fall otherwise;
    so pixels are left out only where that saves much.
    """
    used = known & ~surrounded(known)
    used[CORNERS] = True
    if known.sum() <= MANY or used.sum() > FEW * known.sum():
        used = known
    surface = LinearNDInterpolator(Delaunay(np.argwhere(used)), values[used])
    return np.asarray(surface(np.argwhere(~known)))


def restore(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The image with its unknown pixels interpolated from the known ones and the four corners, rounded.

    image: [H, W, 3] uint8. known: [H, W] bool. Returns [H, W, 3] uint8. Halves must fall as in PAIR's code, which
    rounds from single precision: the size of a WebP file answers to a difference of 1 in few pixels.
    """
    known = known.copy()
    known[CORNERS] = True
    if known.all():
        return image
    values = interpolate(image.astype(float), known)
    out = image.copy()
    values = np.where(np.isnan(values), image.mean(axis=(0, 1)), values)
    out[~known] = np.rint(values.astype(np.float32))
    return out


def reveal(image: np.ndarray, known: np.ndarray, codec: Codec) -> tuple[np.ndarray, np.ndarray]:
    """Restore an image from each of L sets of known pixels and count its bytes: [L, H, W, 3] uint8 and [L] int64.

    Runs on one thread: SciPy solves many 2 x 2 systems here, on which BLAS threads only wait for each other.
    """
    with threadpool_limits(1, user_api="blas"):
        restored = np.stack([restore(image, level) for level in known])
    return restored, np.array([codec.size(level) for level in restored])
