"""What stands in the place of masked pixels, always in pixel space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dix.metrics.api import ImageBatch
from dix.metrics.options import Fill, choose

#: The mean colour of ImageNet: zero after the usual normalisation.
IMAGENET_MEAN = (0.485, 0.456, 0.406)


def canvas(batch: ImageBatch, fill: Fill) -> Tensor:
    """The image that masked pixels are taken from: [B, 3, H, W], computed once for the batch.

    fill: "black" is pixel value 0; "mean" is the image's own mean colour; "imagenet" is the mean colour of ImageNet;
    "model_mean" is what the model's own normalisation takes to 0; "blur" is the image itself, blurred as in RISE
    (Petsiuk et al. 2018). Raises ValueError where the model's mean is asked for and not known.
    """
    choose("protocol.fill", fill, get_args(Fill))
    makers: dict[Fill, Callable[[Tensor], Tensor]] = {
        "black": torch.zeros_like,
        "mean": _own_mean,
        "imagenet": lambda images: _flat(images, IMAGENET_MEAN),
        "model_mean": lambda images: _flat(images, _known(batch.model_mean)),
        "blur": blur,
    }
    return batch.once(("canvas", fill), lambda: makers[fill](batch.images))


def _own_mean(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def _flat(images: Tensor, colour: Sequence[float]) -> Tensor:
    return images.new_tensor(tuple(colour)).view(1, -1, 1, 1).expand_as(images)


def _known(colour: Sequence[float] | None) -> Sequence[float]:
    if colour is None:
        raise ValueError("protocol.fill: model_mean needs a model whose normalisation is known")
    return colour


def blur(images: Tensor, size: int = 11, sigma: float = 5.0) -> Tensor:
    """Blur as RISE does: a `size`-tap response of a Gaussian filter, padded with the mean colour of ImageNet."""
    from scipy.ndimage import gaussian_filter1d  # not at the top: it takes most of a second, and few fills blur

    impulse = np.zeros(size)
    impulse[size // 2] = 1.0
    taps = images.new_tensor(gaussian_filter1d(impulse, sigma))
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    across = taps.view(1, 1, 1, size).expand(3, 1, 1, size)
    down = taps.view(1, 1, size, 1).expand(3, 1, size, 1)
    out = functional.conv2d(images - mean, across, padding=(0, size // 2), groups=3)
    return functional.conv2d(out, down, padding=(size // 2, 0), groups=3) + mean
