"""DEL against quantus, where the two definitions coincide.

`quantus.PixelFlipping` flips single numbers, not pixels, and fills them with the image's own minimum: on one channel
whose minimum is 0 it measures what DEL measures, but for the unmasked image, which it leaves out, and with the wholly
black one, which the thesis's schedule leaves out.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from dix.metrics.api import Case, ImageBatch, Prediction
from dix.metrics.faithfulness import Del

pytestmark = pytest.mark.numeric

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus")


class Halves(torch.nn.Module):
    """Two logits of a one-channel image: 0 and a steep function of its left half."""

    def forward(self, images: Tensor) -> Tensor:
        left = images[..., :5].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(left), 4 * left - 1], dim=1)


@pytest.mark.filterwarnings("ignore")
def test_deletion_equals_pixel_flipping_on_one_channel() -> None:
    draw = np.random.default_rng(0)
    images, maps = draw.random((3, 1, 10, 10)).astype(np.float32), draw.random((3, 1, 10, 10))
    images[:, :, 0, 0] = 0
    model = Halves().eval()
    flipping = quantus.PixelFlipping(features_in_step=10, abs=False, normalise=False, disable_warnings=True)
    theirs = np.array(flipping(model, images, np.array([1, 1, 1]), maps, softmax=True, channel_first=True))

    def predict(rows: Tensor, targets: Tensor) -> Prediction:
        probability = model(rows).softmax(dim=1)
        return Prediction(probability.gather(1, targets[:, None])[:, 0], probability.argmax(dim=1))

    ones = torch.ones(3, dtype=torch.long)
    pixels = torch.from_numpy(images)
    case = Case(ImageBatch(["a", "b", "c"], pixels, ones, predict(pixels, ones), ones), torch.from_numpy(maps[:, 0]))
    metric = Del(tuple(k / 10 for k in range(10)))
    curve = metric.score(case, metric.probe.trace(case, predict)).curve.numpy()
    np.testing.assert_allclose(curve[:, 1:], theirs[:, :9], atol=1e-6)
