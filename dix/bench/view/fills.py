"""What masked pixels become, as the scores that are shown beside them had it: the protocol's fill, on a kept photo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: The mean colour of ImageNet, which is also what lies around a blurred image.
IMAGENET = (0.485, 0.456, 0.406)
#: Taps and standard deviation in pixels of the blur (Petsiuk et al. 2018).
TAPS, SIGMA = 11, 5.0
#: Fills that a photo alone tells; besides, "model_mean" is the model's colour, and "drop" leaves pixels out.
NAMES = ("black", "mean", "imagenet", "blur", "model_mean", "drop")


def fill_of(records: Iterable[Mapping[str, Any]]) -> tuple[str, tuple[float, ...]]:
    """The fill that most cells of a group mask pixels with, and the model's mean colour; black where none says so.

    records: what a store, which may be a stranger's, says of its cells.
    """
    counts: dict[tuple[str, tuple[float, ...]], int] = {}
    for record in records:
        fill = _inner(record, "metric").get("fill")
        if isinstance(fill, str) and fill in NAMES:
            found = fill, _colour(_inner(record, "model").get("mean"))
            counts[found] = counts.get(found, 0) + 1
    return max(counts, key=lambda found: counts[found], default=("black", ()))


def canvas(pixels: Floats, fill: str, mean: Sequence[float] = ()) -> Floats | None:
    """The image [H, W, 3] that masked pixels of a photo [H, W, 3] in [0, 1] are taken from; None: they are left out.

    mean: what the model's normalisation takes to 0; empty where that is not known.
    """
    if fill == "drop" or (fill == "model_mean" and not mean):
        return None
    colours = {"mean": pixels.mean(axis=(0, 1)), "imagenet": np.asarray(IMAGENET), "model_mean": np.asarray(mean)}
    return blurred(pixels) if fill == "blur" else np.zeros_like(pixels) + colours.get(fill, np.zeros(3))


def blurred(pixels: Floats) -> Floats:
    """A photo, blurred along both sides; beyond its edges lies ImageNet's mean colour."""
    from scipy.ndimage import correlate1d, gaussian_filter1d  # takes a while to import, and few pages need it

    taps = gaussian_filter1d(np.eye(TAPS)[TAPS // 2], SIGMA)
    out = pixels - IMAGENET
    for axis in (0, 1):
        out = correlate1d(out, taps, axis=axis, mode="constant", cval=0.0)
    return out + IMAGENET


def _inner(record: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """What a record's identity says of a part; nothing where it has another shape."""
    found: Any = record
    for key in ("identity", part):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _colour(found: Any) -> tuple[float, ...]:
    numbers = isinstance(found, list) and all(isinstance(x, int | float) and 0 <= x <= 1 for x in found)
    return tuple(float(x) for x in found) if numbers and len(found) == 3 else ()
