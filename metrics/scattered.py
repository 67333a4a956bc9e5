"""Restore images from scattered pixels and measure their information; NumPy only, so that worker processes start fast.

The performance information curves (Kapishnikov et al. 2019) blur an image by linear interpolation between the pixels
that are known, and call the size of its lossless WebP file its information.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow_version
from threadpoolctl import threadpool_limits

CORNERS = ((0, 0, -1, -1), (0, -1, 0, -1))


@dataclass(frozen=True)
class Codec:
    """How bytes are counted: lossless WebP; quality: 0 to 100, how hard the encoder searches; effort: 0 to 6."""

    version: ClassVar[int] = 1
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


def triangles(known: np.ndarray) -> np.ndarray:
    """The Delaunay triangles of the known pixels that may cover another pixel: [S, 3, 2] vertices as row and column.

    known: [H, W] bool with all four corners. All of them are triangulated, in row-major order, as PAIR's code does:
    which diagonal four pixels on one circle get depends on the whole set and its order, and the bytes depend on the
    diagonals. A triangle of area 1/2 covers no other pixel (Pick's theorem).
    """
    from scipy.spatial import Delaunay  # not at the top: no first forward pass need wait for it

    points = np.argwhere(known).astype(np.int32)
    corners = points[Delaunay(points).simplices]
    return corners[np.abs(doubled_area(corners[:, 0], corners[:, 1], corners[:, 2])) > 1]


def doubled_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles with vertices [S, 2]: whole numbers for whole coordinates."""
    out: np.ndarray = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return out


def crossing(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the edges from a to b [N, 2] cross the rows y [N]: the column rounded up and down, exactly."""
    # The column is a fraction of whole numbers, scaled / run; -(-p // q) rounds it up without ever leaving them. In
    # floating point a pixel on an edge could fall between two triangles. A level edge gets run 1: it lies on its own
    # row.
    run = np.maximum(b[:, 0] - a[:, 0], 1)
    scaled = a[:, 1] * run + (y - a[:, 0]) * (b[:, 1] - a[:, 1])
    return -(-scaled // run), scaled // run


def ramps(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count up from each start: the group of each item, and its number; starts, counts: [G]."""
    group = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    offset = starts - (np.cumsum(counts, dtype=np.int32) - counts)
    return group, np.arange(len(group), dtype=np.int32) + np.repeat(offset, counts)


def owners(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The triangle that each pixel lies in or on: [H * W], -1 where none; row by row, in whole numbers."""
    # Scan conversion: each triangle is cut along the rows it touches, and on every row the pixels between its long edge
    # (top to bottom) and the short edge on that side of `middle` are its own. A pixel on a shared edge gets either
    # triangle: their planes agree there.
    top, middle, bottom = np.take_along_axis(corners, corners[:, :, :1].argsort(axis=1, kind="stable"), 1).swapaxes(
        0, 1
    )
    triangle, y = ramps(top[:, 0], bottom[:, 0] - top[:, 0] + 1)
    upper = ((y < middle[triangle, 0]) | (middle[triangle, 0] == bottom[triangle, 0]))[:, None]
    first, last = top[triangle], bottom[triangle]
    short = crossing(y, np.where(upper, first, middle[triangle]), np.where(upper, middle[triangle], last))
    long = crossing(y, first, last)
    left, right = np.minimum(short[0], long[0]), np.maximum(short[1], long[1])
    span, pixel = ramps(y * np.int32(shape[1]) + left, np.maximum(right - left + 1, 0))
    out = np.full(shape[0] * shape[1], -1, dtype=np.int32)
    out[pixel] = triangle[span]
    return out


def planes(corners: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The plane through each triangle's values: height at the origin, slope along rows and columns, [S, C] each."""
    a, b, c = corners.swapaxes(0, 1)
    at_a, at_b, at_c = (values[v[:, 0], v[:, 1]] for v in (a, b, c))
    (ab_y, ab_x), (ac_y, ac_x) = (b - a).T[..., None], (c - a).T[..., None]
    area = doubled_area(a, b, c)[:, None]
    down = ((at_b - at_a) * ac_x - (at_c - at_a) * ab_x) / area
    right = ((at_c - at_a) * ab_y - (at_b - at_a) * ac_y) / area
    return at_a - down * a[:, :1] - right * a[:, 1:], down, right


def interpolate(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Interpolate the unknown pixels linearly over the Delaunay triangles of the known ones.

    values: [H, W, C] float, read where known. known: [H, W] bool with all four corners. Returns [N, C], the unknown
    pixels in row-major order, NaN where no triangle reaches.
    """
    corners = triangles(known)
    pixel = np.flatnonzero(~known)
    owner = owners(corners, known.shape)[pixel]
    coefficients = np.concatenate(planes(corners, values), axis=1).take(owner, axis=0)
    origin, down, right = np.split(coefficients, 3, axis=1)
    y, x = np.divmod(pixel, known.shape[1])
    out: np.ndarray = origin + down * y[:, None] + right * x[:, None]
    if owner.min() < 0:
        out[owner < 0] = np.nan
    return out


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
    lost = np.isnan(values[:, 0])
    if lost.any():
        values[lost] = image.mean(axis=(0, 1))
    out = image.copy()
    out[~known] = np.rint(values.astype(np.float32))
    return out


def reveal(image: np.ndarray, known: np.ndarray, codec: Codec) -> tuple[np.ndarray, np.ndarray]:
    """Restore an image from each of L sets of known pixels and count its bytes: [L, H, W, 3] uint8 and [L] int64.

    Runs on one thread: SciPy solves many 2 x 2 systems here, on which BLAS threads only wait for each other.
    """
    with threadpool_limits(1, user_api="blas"):
        restored = np.stack([restore(image, level) for level in known])
    return restored, np.array([codec.size(level) for level in restored])
