"""XRAI: the image cut into regions, and the regions ranked by how densely Integrated Gradients fill them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects
from skimage.segmentation import felzenszwalb
from skimage.transform import resize
from torch import Tensor

from dix.baselines.path import PathRule, StraightLine, check_options, points
from dix.classifier import Classifier
from dix.passes import Passes, Score

#: Of the authors' release: the side that images are segmented at, Felzenszwalb's scales of regions, smoothing and
#: smallest region, and by how many pixels regions are widened.
SIDE = 224
SCALES = (50, 100, 150, 250, 500, 1200)
SIGMA, SMALLEST, WIDENED = 0.8, 150, 5


@dataclass(frozen=True)
class Xrai:
    """XRAI (Kapishnikov et al., ICCV 2019, Algorithm 1): regions in the order of their mean attribution.

    Attribution: the mean of Integrated Gradients from black and from white, of the three channels the largest. Regions:
    Felzenszwalb's graph-based segments at six scales, each widened by 5 pixels so that edges belong to both sides. The
    region of the largest mean attribution over those of its pixels that no region before it has is taken, as often as
    one has at least `fresh` such pixels; these get that mean as their value, and pixels of no region that of all such.
    As every pixel counts once, a map's sum is that of the attribution.

    Against the paper: regions with fewer than `fresh` new pixels are dropped, as in the authors' library `saliency`,
    whose map this equals (it takes the image's own smallest and largest value for black and white unless told
    otherwise, and 100 steps). Choosing is a series of comparisons: where two regions are equally dense up to rounding,
    which comes first may depend on the batch.

    steps: points of each path; the default costs 2 paths x 2 x 25 = 100 F, and about a second of segmentation. rule:
    as in IntegratedGradients. score: what is differentiated.
    """

    version: ClassVar[int] = 1
    steps: int = 25
    rule: PathRule = "right"
    score: Score = "probability"
    fresh: int = 50
    label: str = "XRAI"
    extra: bool = True

    def __post_init__(self) -> None:
        points(self.rule, self.steps)
        check_options(score=self.score)
        if self.fresh < 1:
            raise ValueError(f"fresh: expected an integer of at least 1, got {self.fresh}")

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution, signed."""
        black, white = (
            passes.get(StraightLine(self.steps, self.rule, colour, self.score)) for colour in ("black", "white")
        )
        attribution = ((black + white) / 2).amax(dim=1)
        normal = passes.classifier.normalise(passes.images)
        maps = [
            ranked(values, regions(image), self.fresh)
            for values, image in zip(_arrays(attribution), _arrays(normal.movedim(1, -1)), strict=True)
        ]
        return torch.from_numpy(np.stack(maps)).to(attribution)


def _arrays(values: Tensor) -> Iterator[np.ndarray]:
    yield from values.detach().cpu().double().numpy()


def regions(image: np.ndarray) -> np.ndarray:
    """Masks [M, H, W] of an image [H, W, 3] of any range: the segments of all scales, finest first, widened."""
    low, high = image.min(), image.max()
    scaled = (image - low) / ((high - low) or 1) * 2 - 1
    small = _resized(scaled, (SIDE, SIDE), order=3, anti_aliasing=True)
    masks = []
    for scale in SCALES:
        segments = felzenszwalb(small, scale=scale, sigma=SIGMA, min_size=SMALLEST)
        segments = _resized(segments, image.shape[:2], order=0, anti_aliasing=False).astype(int)
        masks += [_widened(segments == label, box) for label, box in enumerate(find_objects(segments + 1)) if box]
    return np.stack(masks)


def _resized(image: np.ndarray, shape: tuple[int, ...], order: int, anti_aliasing: bool) -> np.ndarray:
    return resize(image, shape, order=order, mode="constant", preserve_range=True, anti_aliasing=anti_aliasing)


def _widened(mask: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """The mask and all pixels within WIDENED of it; box: where it lies."""
    around = tuple(slice(max(0, side.start - WIDENED), side.stop + WIDENED) for side in box)
    wide = np.zeros_like(mask)
    wide[around] = distance_transform_edt(~mask[around]) <= WIDENED
    return wide


def ranked(attribution: np.ndarray, masks: np.ndarray, fresh: int) -> np.ndarray:
    """[H, W] each pixel's value: the mean attribution of what the region that took it had left to take.

    attribution: [H, W]. masks: [M, H, W]. fresh: the fewest pixels that a region must add.
    """
    values, flat = attribution.ravel(), masks.reshape(len(masks), -1)
    counts, sums = flat.sum(axis=1), np.array([values[mask].sum() for mask in flat])
    free = np.ones(values.shape, dtype=bool)
    made = np.empty_like(values)
    while (counts >= fresh).any():
        density = np.divide(sums, counts, out=np.full(len(sums), -np.inf), where=counts >= fresh)
        taken = np.flatnonzero(flat[density.argmax()] & free)
        made[taken] = values[taken].mean()
        free[taken] = False
        lost = flat[:, taken]  # over all rounds every pixel is taken from the others once
        counts = counts - lost.sum(axis=1)
        for region in np.flatnonzero(lost.any(axis=1)):
            sums[region] -= values[taken[lost[region]]].sum()
    made[free] = values[free].mean() if free.any() else 0
    return made.reshape(attribution.shape)
