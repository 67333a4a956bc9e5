"""SIC and AIC: the model's answer as a function of an image's information (Kapishnikov et al. 2019, XRAI, Sec. 4)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from dix.metrics.answers import beside, by_image, together
from dix.metrics.api import Axis, Case, ImageBatch, Predict, Prediction, Scores, Summary, Trace, mean_summary
from dix.metrics.classes import reading, scored_class
from dix.metrics.median_curve import GRID, MedianArea, on_grid
from dix.metrics.options import (
    Aggregate,
    ConstantMaps,
    Input,
    NanMaps,
    Output,
    Revealed,
    ScoreClass,
    StartMask,
    Ties,
    check_choices,
    choose,
    floats,
)
from dix.metrics.pool import later
from dix.metrics.probes import ROWS
from dix.metrics.ranks import first, generator, ranking
from dix.metrics.scaling import excluded, flat, reasons
from dix.metrics.scattered import Codec, reveal

#: Every so many of the grid's points are drawn.
DRAWN = 10
#: Computes a value once under a key.
Once = Callable[[tuple[Hashable, ...], Callable[[], Any]], Any]
#: Restored images [L, H, W, 3] uint8 and their bytes [L].
Restored = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Reveal:
    """Sharpen a blurred image where the map is largest, a threshold at a time, and weigh each image's information.

    thresholds: shares of pixels that are revealed, rising. start_pixels: share of random pixels that are known from
    the start. reveal: "quantile" reveals all pixels not below the map's quantile, as PAIR does, so ties are revealed
    together; "rank" reveals exactly that many pixels, ties settled by `ties`. seed: of the random pixels, with the
    image's id. codec: how bytes are counted. input: "normalised", or "raw" pixels in [0, 1] for the network.
    draw: "" draws one set of random pixels for an image; any other text (a metric's name) draws one for each method
    and that text.
    """

    version: ClassVar[int] = 2
    thresholds: tuple[float, ...]
    start_pixels: float = 0.01
    reveal: Revealed = "quantile"
    ties: Ties = "index"
    seed: int = 0
    codec: Codec = field(default_factory=Codec)
    input: Input = "normalised"
    draw: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", floats("protocol.thresholds", self.thresholds))
        choose("protocol.reveal", self.reveal, get_args(Revealed))
        choose("protocol.sic_input", self.input, get_args(Input))

    def reads(self, case: Case) -> np.ndarray | None:
        """The pixels that each threshold reveals; None where each method draws random pixels of its own."""
        return None if self.draw else self._revealed(case)

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Ask the model about the blurred image, K revealed ones and the whole one: [B, K + 2], in this order.

        Costs K forwards a map, and one for the blurred image, which all maps of an image share where its random pixels
        are; a "raw" whole image costs one more an image. side: "bytes" [B, K + 2] of the same images.
        """
        batch, ask = case.batch, partial(predict, raw=True) if self.input == "raw" else predict
        pending = self._restored(batch, self._revealed(case) | self._start(case)[:, None])
        blurred, blurred_bytes = self._shared(case)(
            (self.codec, self.input, "blurred"), lambda: _collect(batch, self._blurred(case), 1, ask)
        )
        whole, whole_bytes = batch.once((self.codec, self.input, "whole"), lambda: self._whole(batch, ask))
        said, sizes = _collect(batch, pending, len(self.thresholds), ask)
        return replace(
            beside(by_image(blurred, 1), by_image(said, len(self.thresholds)), by_image(whole, 1)),
            side={"bytes": torch.cat([blurred_bytes, sizes, whole_bytes], dim=1)},
        )

    def begin(self, case: Case) -> None:
        """Start to restore and encode what `trace` will ask for."""
        self._blurred(case)
        self._sizes(case.batch)
        self._restored(case.batch, self._revealed(case) | self._start(case)[:, None])

    def _restored(self, batch: ImageBatch, known: np.ndarray) -> list[Callable[[], Restored]]:
        """Each image restored from K sets of known pixels [B, K, H, W]: one task a set, the largest set first."""
        tasks: list[Callable[[], Restored]] = []
        for image, sets in zip(pixels(batch), known, strict=True):
            waits = [later(batch.pool, reveal, image, one[None], self.codec) for one in sets[::-1]]
            tasks.append(partial(_joined, waits[::-1]))
        return tasks

    def _shared(self, case: Case) -> Once:
        """Remember what hangs on the random pixels: for all maps of the batch, or for this method's maps alone."""
        once = case.once if self.draw else case.batch.once
        return lambda key, compute: once((self.start_pixels, self.seed, self.draw, *key), compute)

    def _start(self, case: Case) -> np.ndarray:
        purpose = f"start pixels {self.draw} {case.method}" if self.draw else "start pixels"
        draw = partial(start_pixels, case.batch, self.start_pixels, self.seed, purpose)
        return np.asarray(self._shared(case)(("start",), draw))

    def _revealed(self, case: Case) -> np.ndarray:
        """The pixels that each threshold reveals: [B, K, H, W] bool."""
        return np.asarray(case.once(("revealed", self), lambda: self._chosen(case)))

    def _chosen(self, case: Case) -> np.ndarray:
        shares = np.array(self.thresholds)
        if self.reveal == "rank":
            ranks = ranking(case, self.ties, self.seed).cpu().numpy()
            least = [ranks.shape[1] - first(ranks.shape[1], t) for t in self.thresholds]
            chosen = ranks[:, None] >= np.array(least)[None, :, None]
        else:
            maps = case.maps.double().cpu().numpy().reshape(len(case.maps), -1)
            chosen = maps[:, None] >= np.quantile(maps, 1 - shares, axis=1).T[:, :, None]
        return chosen.reshape(len(case.maps), len(shares), *case.maps.shape[1:])

    def _blurred(self, case: Case) -> list[Callable[[], Restored]]:
        """The images restored from the random pixels alone."""
        return list(
            self._shared(case)((self.codec, "blurring"), lambda: self._restored(case.batch, self._start(case)[:, None]))
        )

    def _sizes(self, batch: ImageBatch) -> list[Callable[[], int]]:
        """The bytes of the unaltered images."""
        return list(
            batch.once((self.codec, "encoding"), lambda: [later(batch.pool, self.codec.size, i) for i in pixels(batch)])
        )

    def _whole(self, batch: ImageBatch, ask: Predict) -> tuple[Prediction, Tensor]:
        """What the model says of the unaltered images, and their bytes [B, 1]."""
        said = batch.clean if self.input == "normalised" else ask(_as_input(pixels(batch), batch), batch.targets)
        return said, torch.tensor([[size()] for size in self._sizes(batch)], device=batch.images.device)


def pixels(batch: ImageBatch) -> np.ndarray:
    """The images as [B, H, W, 3] uint8, computed once for the batch."""

    def compute() -> np.ndarray:
        scaled = (batch.images.double() * 255).round().clamp(0, 255).byte()
        return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).cpu().numpy())

    return batch.once("pixels", compute)


def start_pixels(batch: ImageBatch, share: float, seed: int, purpose: str = "start pixels") -> np.ndarray:
    """The random pixels that are known from the start, one set for each image and purpose: [B, H, W] bool."""
    height, width = batch.images.shape[-2:]
    out = np.zeros((len(batch.ids), height * width), dtype=bool)
    for row, image_id in zip(out, batch.ids, strict=True):
        drawn = torch.randperm(row.size, generator=generator(seed, image_id, purpose))
        row[drawn[: first(row.size, share)].numpy()] = True
    return out.reshape(-1, height, width)


def _as_input(restored: np.ndarray, batch: ImageBatch) -> Tensor:
    """Pixels [M, H, W, 3] uint8 as the model's input [M, 3, H, W] in [0, 1]."""
    images = torch.from_numpy(restored).to(batch.images.device).permute(0, 3, 1, 2)
    return images.to(batch.images.dtype) / 255


def _joined(waits: Sequence[Callable[[], Restored]]) -> Restored:
    """What every task gives, one after another."""
    images, sizes = zip(*(wait() for wait in waits), strict=True)
    return np.concatenate(images), np.concatenate(sizes)


def _collect(
    batch: ImageBatch,
    pending: Sequence[Callable[[], Restored]],
    levels: int,
    predict: Predict,
) -> tuple[Prediction, Tensor]:
    """Ask the model about some images' levels while the pool works on the rest: B K rows, and their bytes [B, K]."""
    step = max(1, min(ROWS // levels, -(-len(pending) // 2)))
    said: list[Prediction] = []
    sizes: list[np.ndarray] = []
    for begin in range(0, len(pending), step):
        done = [wait() for wait in pending[begin : begin + step]]
        sizes += [d[1] for d in done]
        targets = batch.targets[begin : begin + step].repeat_interleave(levels)
        said.append(predict(_as_input(np.concatenate([d[0] for d in done]), batch), targets))
    return together(said), torch.from_numpy(np.stack(sizes)).to(batch.images.device)


@dataclass(frozen=True)
class _InformationCurve:
    """What SIC and AIC have in common; their probes are equal where these fields are and the start mask is the image's.

    thresholds, start_pixels, reveal, ties, seed, quality, effort: see `Reveal` and `Codec`. sic_input: see `Reveal`.
    start_mask: whose random pixels: one set for each "image", or one for each "metric", method and image.
    score_class: the class that is scored (see `dix.metrics.classes.scored_class`).
    min_pred_value: the least prediction on the whole image; an image below it is excluded. monotone: whether the curve
    may only rise. aggregate: "median" or "mean" of the images' curves at each x; it changes no stored score.
    constant_maps: "count" and "zero" reveal all pixels at once (or by `ties`), "drop" excludes the image.
    nan_maps: "drop" excludes the image of a map that is not finite, "zero" takes it for a map of zeros.
    """

    higher_is_better: ClassVar[bool | None] = True
    extra: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False
    label: ClassVar[str]

    thresholds: tuple[float, ...]
    min_pred_value: float = 0.5
    start_pixels: float = 0.01
    reveal: Revealed = "quantile"
    ties: Ties = "index"
    monotone: bool = True
    quality: int = 100
    effort: int = 4
    seed: int = 0
    score_class: ScoreClass = "explained"
    sic_input: Input = "normalised"
    start_mask: StartMask = "image"
    constant_maps: ConstantMaps = "count"
    nan_maps: NanMaps = "drop"
    aggregate: Aggregate = field(default="median", metadata={"summary_only": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", floats("protocol.thresholds", self.thresholds))
        check_choices(self)

    @property
    def counts_broken(self) -> bool:
        """Whether a map that is not finite counts, as a map of zeros."""
        return self.nan_maps == "zero"

    @property
    def probe(self) -> Reveal:
        """The same for SIC and AIC, unless each draws its own random pixels."""
        codec = Codec(self.quality, self.effort)
        draw = self.label if self.start_mask == "metric" else ""
        return Reveal(
            self.thresholds, self.start_pixels, self.reveal, self.ties, self.seed, codec, self.sic_input, draw
        )

    @property
    def axis(self) -> Axis:
        """Every image's curve has positions of its own; on this axis they meet."""
        points = GRID[::DRAWN]
        return Axis(
            tuple(points.tolist()),
            "information, 0 blurred to 1 original",
            onto=lambda curve: on_grid(curve, self.monotone)[:, ::DRAWN],
        )

    def _score(self, case: Case, trace: Trace, said: Tensor) -> Scores:
        """said: [B, K + 2] the prediction on the blurred, the revealed and the whole image, as in the trace."""
        sizes, said = trace.side["bytes"].double(), said.double()
        blurred, whole = said[:, 0], said[:, -1]
        why = reasons(
            {
                **flat(case, self.constant_maps),
                "clean prediction below the limit": whole < self.min_pred_value,
                "blurred image is not smaller": sizes[:, 0] >= sizes[:, -1],
                "blurred prediction is not lower": blurred >= whole,
            }
        )
        curve = torch.cat([between(values[:, 1:-1], values[:, 0], values[:, -1]) for values in (sizes, said)], dim=1)
        area = 100 * np.trapezoid(on_grid(curve.cpu().numpy(), self.monotone), GRID, axis=1)
        ends = torch.stack([blurred, whole, sizes[:, 0], sizes[:, -1]], dim=1)
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
    """SIC: the area under the scored class's probability over the image's information, in percent.

    sic_output: "softmax", or the class's "logit" in its place, to which the limit then applies.
    """

    version: ClassVar[int] = 2
    label: ClassVar[str] = "SIC"

    sic_output: Output = "softmax"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The image's own area; curve: [B, 2 K] information, then prediction.

        parts: [B, 4] prediction on the blurred and the whole image, bytes of the blurred and the whole image.
        """
        assert trace is not None
        return self._score(case, trace, reading(case.batch, trace, self.score_class, self.sic_output))


@dataclass(frozen=True)
class Aic(_InformationCurve):
    """AIC: the area under the accuracy (1 where the scored class is predicted) over the information, in percent."""

    version: ClassVar[int] = 2
    label: ClassVar[str] = "AIC"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """The image's own area; curve: [B, 2 K] information, then accuracy.

        parts: [B, 4] accuracy on the blurred and the whole image, bytes of the blurred and the whole image.
        """
        assert trace is not None
        return self._score(case, trace, trace.predicted == scored_class(case.batch, self.score_class).unsqueeze(1))
