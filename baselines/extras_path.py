"""Further methods that look at altered images only: SmoothGrad, Input x Gradient and RISE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dix.baselines.path import REDUCTIONS, Colour, Reduction, check_options, colour, pixel_gradients
from dix.classifier import Classifier
from dix.passes import Passes, Rows, Score, halving, rows


@dataclass(frozen=True)
class InputXGradient:
    """Input x Gradient (Shrikumar et al. 2016): (x - z) g(x), with z zero after normalisation by default; 2 F.

    baseline, score, reduction: as in IntegratedGradients.
    """

    version: ClassVar[int] = 1
    baseline: Colour = "mean_colour"
    score: Score = "logit"
    reduction: Reduction = "sum_abs"
    label: str = "Input×Gradient"
    extra: bool = True

    def __post_init__(self) -> None:
        check_options(baseline=self.baseline, score=self.score, reduction=self.reduction)

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        images = passes.images
        g = pixel_gradients(passes, images, torch.arange(len(images), device=images.device), self.score)
        return REDUCTIONS[self.reduction]((images - colour(self.baseline, passes.classifier)) * g)


@dataclass(frozen=True)
class SmoothGrad:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient by the pixels of `samples` noisy copies; 2 F a sample.

    spread: standard deviation of the Gaussian noise as a share of the image's own range of pixel values; no clipping.
    score, reduction: as in IntegratedGradients; the reduction acts on the mean.
    """

    version: ClassVar[int] = 1
    samples: int = 50
    spread: float = 0.15
    score: Score = "logit"
    reduction: Reduction = "sum_abs"
    label: str = "SmoothGrad"
    extra: bool = True

    def __post_init__(self) -> None:
        check_options(score=self.score, reduction=self.reduction)
        if self.samples < 1:
            raise ValueError(f"samples: expected an integer of at least 1, got {self.samples}")
        if self.spread < 0:
            raise ValueError(f"spread: expected a number of at least 0, got {self.spread}")

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        return REDUCTIONS[self.reduction](halving(lambda chunk: self._mean(passes, chunk), passes.chunk))

    def _mean(self, passes: Passes, chunk: int) -> Tensor:
        images = passes.images
        deviation = self.spread * (images.flatten(1).amax(dim=1) - images.flatten(1).amin(dim=1)).view(-1, 1, 1, 1)
        total = torch.zeros_like(images)
        for part in rows(self.samples, len(images), chunk, images.device):
            noisy = images[part.images] + deviation[part.images] * _noise(passes, part)
            g = pixel_gradients(passes, noisy.flatten(0, 1), part.image_of_row, self.score)
            total[part.images] += g.view_as(noisy).sum(dim=0)
        return total / self.samples


def _noise(passes: Passes, part: Rows) -> Tensor:
    """[p, b, 3, S, S] standard normal numbers, a stream for each image and sample."""
    shape, images = passes.images.shape[1:], part.images.tolist()
    drawn = [
        torch.randn(shape, generator=passes.generator(image, f"smooth_grad {sample}"))
        for sample in part.points.tolist()
        for image in images
    ]
    return torch.stack(drawn).view(len(part.points), len(part.images), *shape).to(passes.images)


@dataclass(frozen=True)
class Rise:
    """RISE (Petsiuk et al. 2018, Eq. 6 and Sec. 3.2): masks weighed by the score of the image seen through them.

    map = 1/(N p) sum of score(z + M (x - z)) M. A mask is a grid of `cells` x `cells` values, each 1 with probability
    `keep` (p) and else 0, enlarged bilinearly to (cells + 1) cells a side and cropped to the image at a random offset.

    masks: N, at 1 F each. baseline: z, what hidden pixels show ("mean_colour" is zero after normalisation).
    """

    version: ClassVar[int] = 1
    masks: int = 4000
    cells: int = 7
    keep: float = 0.5
    baseline: Colour = "mean_colour"
    score: Score = "probability"
    label: str = "RISE"
    extra: bool = True

    def __post_init__(self) -> None:
        check_options(baseline=self.baseline, score=self.score)
        for key, count in (("masks", self.masks), ("cells", self.cells)):
            if count < 1:
                raise ValueError(f"{key}: expected an integer of at least 1, got {count}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep: expected a probability above 0, got {self.keep}")

    def unsupported(self, classifier: Classifier) -> str:
        """Any classifier can be explained."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution."""
        return halving(lambda chunk: self._map(passes, chunk), passes.chunk)

    def _map(self, passes: Passes, chunk: int) -> Tensor:
        images = passes.images
        z = colour(self.baseline, passes.classifier)
        total = torch.zeros_like(images[:, 0])
        for part in rows(self.masks, len(images), chunk, images.device):
            masks = self._masks(passes, part)
            seen = z + masks[:, :, None] * (images[part.images] - z)
            with torch.no_grad():
                logits = passes.classifier.logits(seen.flatten(0, 1))
            score = passes.score(logits, part.image_of_row, self.score).view(len(part.points), -1, 1, 1)
            total[part.images] += (score * masks).sum(dim=0)
        return total / (self.masks * self.keep)

    def _masks(self, passes: Passes, part: Rows) -> Tensor:
        """[p, b, S, S] masks, a stream for each image and mask."""
        images = part.images.tolist()
        drawn = [
            self._mask(passes.generator(image, f"rise {mask}"), passes.size)
            for mask in part.points.tolist()
            for image in images
        ]
        return torch.stack(drawn).view(len(part.points), len(part.images), *passes.size).to(passes.images)

    def _mask(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        grid = (torch.rand(1, 1, self.cells, self.cells, generator=generator) < self.keep).float()
        cell = [-(-side // self.cells) for side in size]
        large = F.interpolate(grid, [(self.cells + 1) * c for c in cell], mode="bilinear", align_corners=False)[0, 0]
        top, left = (int(torch.randint(c, (), generator=generator)) for c in cell)
        return large[top : top + size[0], left : left + size[1]]
