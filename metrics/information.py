"""SIC and AIC: the model's answer as a function of an image's information (Kapishnikov et al. 2019, XRAI, Sec. 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from dix.metrics.api import Axis, Case, ImageBatch, Predict, Prediction, Scores, Summary, Trace, mean_summary
from dix.metrics.median_curve import GRID, MedianArea, on_grid
from dix.metrics.options import Aggregate, Revealed, Ties, choose, floats
from dix.metrics.pool import later
from dix.metrics.probes import ROWS
from dix.metrics.ranks import first, generator, ranking
from dix.metrics.scaling import excluded, reasons
from dix.metrics.scattered import Codec, reveal

#: Every so many of the grid's points are drawn.
DRAWN = 10


@dataclass(frozen=True)
class Reveal:
    """Sharpen a blurred image where the map is largest, a threshold at a time, and weigh each image's information.

    thresholds: shares of pixels that are revealed, rising. start_pixels: share of random pixels that are known from
    the start. reveal: "quantile" reveals all pixels not below the map's quantile, as PAIR does, so ties are revealed
    together; "rank" reveals exactly that many pixels, ties settled by `ties`. seed: of the random pixels, with the
    image's id. codec: how bytes are counted.
    """

    version: ClassVar[int] = 1
    thresholds: tuple[float, ...]
    start_pixels: float = 0.01
    reveal: Revealed = "quantile"
    ties: Ties = "index"
    seed: int = 0
    codec: Codec = field(default_factory=Codec)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", floats("protocol.thresholds", self.thresholds))
        choose("protocol.reveal", self.reveal, get_args(Revealed))

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model about K revealed images: [B, K], with the bytes of each, and of the blurred and whole image.

        Costs K forwards a map, and one an image for the blurred image, which all maps of the batch share.
        side: "bytes" [B, K]; "whole_bytes", "blurred_bytes", "blurred_probability", "blurred_predicted" [B].
        """
        batch = case.batch
        start = batch.once(
            (self.start_pixels, self.seed, "start"), lambda: start_pixels(batch, self.start_pixels, self.seed)
        )
        known = self._revealed(case) | start[:, None]
        pending = [
            later(batch.pool, reveal, image, level, self.codec)
            for image, level in zip(pixels(batch), known, strict=True)
        ]
        ends = batch.once(self._key(), lambda: self._ends(batch, start, predict))
        said, sizes = _collect(batch, pending, len(self.thresholds), predict)
        return Trace(said.probability, said.predicted, {"bytes": sizes, **ends})

    def _key(self) -> tuple[Any, ...]:
        return ("ends", self.start_pixels, self.seed, self.codec)

    def _revealed(self, case: Case) -> np.ndarray:
        """The pixels that each threshold reveals: [B, K, H, W] bool."""
        shares = np.array(self.thresholds)
        if self.reveal == "rank":
            ranks = ranking(case, self.ties, self.seed).cpu().numpy()
            least = [ranks.shape[1] - first(ranks.shape[1], t) for t in self.thresholds]
            chosen = ranks[:, None] >= np.array(least)[None, :, None]
        else:
            maps = case.maps.double().cpu().numpy().reshape(len(case.maps), -1)
            chosen = maps[:, None] >= np.quantile(maps, 1 - shares, axis=1).T[:, :, None]
        return chosen.reshape(len(case.maps), len(shares), *case.maps.shape[1:])

    def _ends(self, batch: ImageBatch, start: np.ndarray, predict: Predict) -> dict[str, Tensor]:
        """What both ends of every curve are: bytes of the whole image; bytes and prediction of the blurred one."""
        images = pixels(batch)
        both = np.stack([start, np.ones_like(start)], axis=1)
        pending = [
            later(batch.pool, reveal, image, level, self.codec) for image, level in zip(images, both, strict=True)
        ]
        done = [wait() for wait in pending]
        said = predict(_as_input(np.stack([d[0][0] for d in done]), batch), batch.targets)
        sizes = torch.from_numpy(np.stack([d[1] for d in done])).to(batch.images.device)
        return {
            "blurred_bytes": sizes[:, 0],
            "whole_bytes": sizes[:, 1],
            "blurred_probability": said.probability,
            "blurred_predicted": said.predicted,
        }


def pixels(batch: ImageBatch) -> np.ndarray:
    """The images as [B, H, W, 3] uint8, computed once for the batch."""

    def compute() -> np.ndarray:
        scaled = (batch.images.double() * 255).round().clamp(0, 255).byte()
        return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).cpu().numpy())

    return batch.once("pixels", compute)


def start_pixels(batch: ImageBatch, share: float, seed: int) -> np.ndarray:
    """The random pixels that are known from the start, the same for all maps of an image: [B, H, W] bool."""
    height, width = batch.images.shape[-2:]
    out = np.zeros((len(batch.ids), height * width), dtype=bool)
    for row, image_id in zip(out, batch.ids, strict=True):
        drawn = torch.randperm(row.size, generator=generator(seed, image_id, "start pixels"))
        row[drawn[: first(row.size, share)].numpy()] = True
    return out.reshape(-1, height, width)


def _as_input(restored: np.ndarray, batch: ImageBatch) -> Tensor:
    """Pixels [M, H, W, 3] uint8 as the model's input [M, 3, H, W] in [0, 1]."""
    images = torch.from_numpy(restored).to(batch.images.device).permute(0, 3, 1, 2)
    return images.to(batch.images.dtype) / 255


def _collect(
    batch: ImageBatch,
    pending: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]],
    levels: int,
    predict: Predict,
) -> tuple[Prediction, Tensor]:
    """Ask the model about some images' levels while the pool works on the rest: [B, K] each."""
    step = max(1, min(ROWS // levels, -(-len(pending) // 2)))
    said: list[Prediction] = []
    sizes: list[np.ndarray] = []
    for begin in range(0, len(pending), step):
        done = [wait() for wait in pending[begin : begin + step]]
        sizes += [d[1] for d in done]
        targets = batch.targets[begin : begin + step].repeat_interleave(levels)
        said.append(predict(_as_input(np.concatenate([d[0] for d in done]), batch), targets))
    probability = torch.cat([s.probability for s in said]).view(-1, levels)
    predicted = torch.cat([s.predicted for s in said]).view(-1, levels)
    return Prediction(probability, predicted), torch.from_numpy(np.stack(sizes)).to(batch.images.device)


@dataclass(frozen=True)
class _InformationCurve:
    """What SIC and AIC have in common; their probes are equal where these fields are.

    thresholds, start_pixels, reveal, ties, seed, quality, effort: see `Reveal` and `Codec`.
    min_pred_value: the least prediction on the whole image; an image below it is excluded. monotone: whether the curve
    may only rise. aggregate: "median" or "mean" of the images' curves at each x; it changes no stored score.
    """

    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False

    thresholds: tuple[float, ...]
    min_pred_value: float = 0.5
    start_pixels: float = 0.01
    reveal: Revealed = "quantile"
    ties: Ties = "index"
    monotone: bool = True
    quality: int = 100
    effort: int = 4
    seed: int = 0
    aggregate: Aggregate = field(default="median", metadata={"summary_only": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", floats("protocol.thresholds", self.thresholds))
        choose("protocol.reveal", self.reveal, get_args(Revealed))
        choose("protocol.aggregate", self.aggregate, get_args(Aggregate))

    @property
    def probe(self) -> Reveal:
        """The same for SIC and AIC."""
        codec = Codec(self.quality, self.effort)
        return Reveal(self.thresholds, self.start_pixels, self.reveal, self.ties, self.seed, codec)

    @property
    def axis(self) -> Axis:
        """Every image's curve has positions of its own; on this axis they meet."""
        points = GRID[::DRAWN]
        return Axis(
            tuple(points.tolist()),
            "information, 0 blurred to 1 original",
            onto=lambda curve: on_grid(curve, self.monotone)[:, ::DRAWN],
        )

    def _score(self, trace: Trace, whole: Tensor, blurred: Tensor, seen: Tensor) -> Scores:
        """whole, blurred: [B] and seen: [B, K] the prediction on the whole, blurred and revealed images."""
        sizes = {name: trace.side[name].double() for name in ("bytes", "whole_bytes", "blurred_bytes")}
        why = reasons(
            {
                "clean prediction below the limit": whole < self.min_pred_value,
                "blurred image is not smaller": sizes["blurred_bytes"] >= sizes["whole_bytes"],
                "blurred prediction is not lower": blurred >= whole,
            }
        )
        x = between(sizes["bytes"], sizes["blurred_bytes"], sizes["whole_bytes"])
        y = between(seen.double(), blurred.double(), whole.double())
        curve = torch.cat([x, y], dim=1)
        area = 100 * np.trapezoid(on_grid(curve.cpu().numpy(), self.monotone), GRID, axis=1)
        ends = torch.stack([blurred.double(), whole.double(), sizes["blurred_bytes"], sizes["whole_bytes"]], dim=1)
        return Scores.of(excluded(torch.from_numpy(area).to(curve), why), parts=ends, curve=curve, reasons=why)

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        """The area under the median or mean curve of the images that count, in percent."""
        if self.aggregate == "mean":
            return partial(mean_summary, value)
        return MedianArea(curve, ~np.isnan(value), self.monotone)


def between(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Where each value lies between low (0) and high (1), clipped: [B, K]; 0 where high is not above low."""
    span = (high - low).unsqueeze(1)
    share = (value - low.unsqueeze(1)) / torch.where(span > 0, span, torch.ones_like(span))
    return torch.where(span > 0, share.clamp(0, 1), torch.zeros_like(share))


@dataclass(frozen=True)
class Sic(_InformationCurve):
    """SIC: the area under the target's softmax over the image's information, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "SIC"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The image's own area; curve: [B, 2 K] information, then prediction.

        parts: [B, 4] prediction on the blurred and the whole image, bytes of the blurred and the whole image.
        """
        assert trace is not None
        clean = case.batch.clean.probability
        return self._score(trace, clean, trace.side["blurred_probability"], trace.probability)


@dataclass(frozen=True)
class Aic(_InformationCurve):
    """AIC: the area under the accuracy (1 where the target is predicted) over the image's information, in percent."""

    version: ClassVar[int] = 1
    label: ClassVar[str] = "AIC"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The image's own area; curve: [B, 2 K] information, then accuracy.

        parts: [B, 4] accuracy on the blurred and the whole image, bytes of the blurred and the whole image.
        """
        assert trace is not None
        target, side = case.batch.targets, trace.side
        whole, blurred = case.batch.clean.predicted == target, side["blurred_predicted"] == target
        return self._score(trace, whole.double(), blurred.double(), trace.predicted == target.unsqueeze(1))
