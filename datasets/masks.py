"""Object masks: 1 object, 0 background, VOID neither."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dix.datasets.api import VOID, CorruptSample
from dix.datasets.images import Decoded, Drawn, turned

Polygon = Sequence[Sequence[float]]  #: [[x, y], ...] in pixels of the image, closed by itself
_HALF = 128  #: the least grey of an object where the file's format changes values


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


def fitting(mask: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """The mask again. Raises CorruptSample where its size is not the image's (width, height)."""
    if mask.shape != size[::-1]:
        got = f"{mask.shape[1]}x{mask.shape[0]}"
        raise CorruptSample(f"{name}: the mask is {got} pixels and its image {size[0]}x{size[1]}")
    return mask


def on_stored(mask: np.ndarray, image: Decoded, name: str) -> np.ndarray:
    """A mask that was drawn on the pixels as the image's file has them, turned as its image is.

    Raises CorruptSample where it has another size.
    """
    if mask.shape == image.image.size[::-1] != image.stored[::-1]:
        (width, height), (across, down) = image.stored, image.image.size
        raise CorruptSample(
            f"{name}: the mask is {across}x{down} pixels and its image is stored as {width}x{height}, which EXIF"
            f" orientation {image.turn} turns. A mask is taken as drawn on the stored pixels and turned with its image:"
            " save the image upright (with a folder of images, or set dataset.masks_drawn=upright)"
        )
    return turned(fitting(mask, image.stored, name), image.turn)


def drawn_mask(drawn: Drawn, void: int | None, name: str) -> np.ndarray:
    """Object where a drawn mask is above 0, or at least half white where its format changes values.

    void: the value that is neither object nor background, or None. Returns [height, width] int8. Raises CorruptSample
    where values that the format has changed are to be told apart.
    """
    if not drawn.lossy:
        mask = (drawn.values > 0).astype(np.int8)
        mask[drawn.values == (-1 if void is None else void)] = VOID
        return mask
    brightest = int(drawn.values.max())
    if void is not None or 0 < brightest < _HALF:
        raise CorruptSample(
            f"{name}: its format changes values a little, so only black and white can be told apart (its brightest"
            f" value is {brightest}, dataset.void is {void}); save it as PNG"
        )
    return (drawn.values >= _HALF).astype(np.int8)
