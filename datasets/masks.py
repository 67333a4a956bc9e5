"""Object masks: 1 object, 0 background, VOID neither."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dix.datasets.api import CorruptSample

Polygon = Sequence[Sequence[float]]  #: [[x, y], ...] in pixels of the image, closed by itself


def rasterise(size: tuple[int, int], polygons: Sequence[Polygon], holes: Sequence[Polygon] = ()) -> np.ndarray:
    """Fill the union of polygons, less the holes.

    size: (width, height) in pixels. Returns [height, width] int8 of 0 and 1.
    """
    canvas = Image.new("L", size, 0)
    pen = ImageDraw.Draw(canvas)
    for value, outlines in ((1, polygons), (0, holes)):
        for outline in outlines:
            pen.polygon([(float(x), float(y)) for x, y in outline], fill=value)
    return np.array(canvas).astype(np.int8)


def fitting(mask: np.ndarray, image: Image.Image, name: str) -> np.ndarray:
    """The mask again. Raises CorruptSample where its size is not the image's."""
    if mask.shape != (image.height, image.width):
        got = f"{mask.shape[1]}x{mask.shape[0]}"
        raise CorruptSample(f"{name}: the mask is {got} pixels and its image {image.width}x{image.height}")
    return mask
