"""PAIR's own SIC and AIC of one image and map, its blurred images and bytes computed once for both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unittest import mock

import numpy as np
from saliency.metrics import pic

Predict = Callable[[np.ndarray], Sequence[float]]


@dataclass(frozen=True)
class Pair:
    """What the library finds: bytes of the blurred, the revealed and the whole image, and both areas in percent.

    None where it refuses the image.
    """

    sizes: list[int]
    sic: float | None
    aic: float | None


def pair(
    image: np.ndarray,
    relevance: np.ndarray,
    mask: np.ndarray,
    softmax: Predict,
    accuracy: Predict,
    thresholds: Sequence[float],
    least: float,
) -> Pair:
    """Run the library; image [H, W, 3] uint8, relevance [H, W], mask [H, W] the random pixels."""
    blurred: dict[bytes, np.ndarray] = {}
    sizes: dict[bytes, int] = {}
    blur, measure = pic.create_blurred_image, pic.estimate_image_entropy

    def blur_once(full_img: np.ndarray, pixel_mask: np.ndarray) -> np.ndarray:
        key = pixel_mask.tobytes()
        if key not in blurred:
            blurred[key] = blur(full_img, pixel_mask)
        return blurred[key]

    def measure_once(image: np.ndarray) -> int:
        key = image.tobytes()
        if key not in sizes:
            sizes[key] = int(measure(image))
        return sizes[key]

    with (
        mock.patch.object(pic, "create_blurred_image", blur_once),
        mock.patch.object(pic, "estimate_image_entropy", measure_once),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)  # np.trapz
        areas = [_area(image, relevance, mask, predict, thresholds, least) for predict in (softmax, accuracy)]
        levels = [mask, *((relevance >= np.quantile(relevance, 1 - t)) | mask for t in thresholds)]
        found = [measure_once(blur_once(image, level)) for level in levels]
    return Pair([*found, measure_once(image)], *areas)


def _area(
    image: np.ndarray,
    relevance: np.ndarray,
    mask: np.ndarray,
    predict: Predict,
    thresholds: Sequence[float],
    least: float,
) -> float | None:
    try:
        return 100 * float(pic.compute_pic_metric(image, relevance, mask, predict, thresholds, least).auc)
    except pic.ComputePicMetricError:
        return None
