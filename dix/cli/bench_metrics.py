"""Time every metric per map, and SIC and AIC against PAIR's implementation on the same maps in the same run.

CPU seconds of this process on one thread; the model is a formula that costs next to nothing, so the time is the
metrics' own. Run with OMP_NUM_THREADS=1: BLAS threads slow both sides down by waiting for each other.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from skimage import data
from threadpoolctl import threadpool_limits
from torch import Tensor

from dix.extras import optional
from dix.metrics.api import Case, ImageBatch, Metric, Prediction, Scores, Trace
from dix.metrics.confidence import Adp, Pic
from dix.metrics.faithfulness import Del, Ins, Neg, Pos
from dix.metrics.information import Aic, Sic, pixels, start_pixels
from dix.metrics.scattered import Codec, restore
from dix.metrics.segmentation import ImageF1, MeanAp, MeanIou, PixelAccuracy, RowF1

FRACTIONS = tuple(k / 10 for k in range(10))
#: Times that a piece of work is timed; the least counts, since whatever else runs can only add to it.
REPEATS = 3
THRESHOLDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75)


@dataclass
class Closeness:
    """P(target) falls with the distance from the target's own image; a target is the number of an image."""

    originals: Tensor

    def __call__(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        """The prediction for each row."""
        distance = (images - self.originals[targets]).abs().mean(dim=(1, 2, 3))
        probability = torch.exp(-12 * distance)
        return Prediction(probability, torch.where(probability > 0.6, targets, targets + 1))


def photos(side: int) -> Tensor:
    """Photographs that scikit-image carries: [3, 3, side, side] in [0, 1]."""
    pictures = [Image.fromarray(d).resize((side, side)) for d in (data.astronaut(), data.chelsea(), data.coffee())]
    return torch.from_numpy(np.stack([np.array(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255


def maps_of(kind: str, count: int, side: int) -> Tensor:
    """Maps as class activation methods give them (7 x 7, enlarged), or as gradients at the pixels do."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 7, 7, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[:, 0]
    return smooth if kind == "cam" else smooth * torch.randn(count, side, side, generator=draw).abs()


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds that a piece of work takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def library(case: Case, masks: np.ndarray, model: Closeness) -> list[tuple[float, list[int]]]:
    """AUC and bytes that PAIR's code finds for SIC, then AIC, of every map."""
    pic = optional("saliency.metrics.pic", "bench")

    def rows(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255

    found: list[tuple[float, list[int]]] = []
    for i, image in enumerate(pixels(case.batch)):
        target = case.batch.targets[i : i + 1]
        for answer in (
            lambda x, target=target: model(rows(x), target).probability.tolist(),
            lambda x, target=target: (model(rows(x), target).predicted == target).double().tolist(),
        ):
            result = pic.compute_pic_metric(image, case.maps[i].double().numpy(), masks[i], answer, THRESHOLDS, 0.5)
            found.append((result.auc, [_webp(b) for b in result.blurred_images] if len(found) % 2 == 0 else []))
    return found


def _webp(image: np.ndarray) -> int:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="webp", lossless=True, quality=100)
    return buffer.tell()


def against_library(kind: str, count: int, side: int) -> str:
    """Two lines: this project's SIC + AIC and the library's, per map, how far the results are apart, and how the time
    here compares with that of the encoder alone, below which nothing that counts bytes can go.
    """
    images = photos(side)[:count]
    model, maps = Closeness(images), maps_of(kind, count, side)
    targets = torch.arange(count)
    batch = ImageBatch([str(i) for i in range(count)], images, targets, model(images, targets), targets)
    sic, aic = Sic(THRESHOLDS), Aic(THRESHOLDS)
    kept: list[tuple[Trace, list[Scores]]] = []

    def ours() -> None:
        trace = sic.probe.trace(Case(batch, maps), model)
        kept.append((trace, [metric.score(Case(batch, maps), trace) for metric in (sic, aic)]))

    once = cpu(ours)
    shared = min(cpu(ours) for _ in range(REPEATS))
    trace, scores = kept[0]
    masks = start_pixels(batch, 0.01, 0)
    theirs: list[tuple[float, list[int]]] = []
    slow = cpu(lambda: theirs.extend(library(Case(batch, maps), masks, model)))
    counted = cpu(lambda: [_webp(i) for _ in range(len(THRESHOLDS) + 2) for i in pixels(batch)])
    slow -= counted  # the bytes that the comparison itself counts
    bytes_apart = max(
        float(np.abs(trace.side["bytes"][i, 1:-1].numpy() / np.array(theirs[2 * i][1][1:-1]) - 1).max())
        for i in range(count)
    )
    auc_apart = max(
        abs(float(score.value[i]) / 100 - theirs[2 * i + k][0]) for k, score in enumerate(scores) for i in range(count)
    )
    restored: list[np.ndarray] = []
    fill = cpu(lambda: restored.extend(r for i in range(count) for r in _restored(batch, maps, masks, i)))
    encode = min(cpu(lambda: [Codec().size(r) for r in restored]) for _ in range(REPEATS))
    return (
        f"{kind:7s} library {slow / count:6.2f} s   here {shared / count:5.2f} s (first map of an image"
        f" {once / count:5.2f})   1/{slow / shared:.1f}   interpolation {fill / count:5.2f} s,"
        f" encoder {encode / count:5.2f} s   bytes apart {100 * bytes_apart:.2f} %   AUC apart {auc_apart:.4f}\n"
        f"{'':7s} {shared / encode:.2f} times the encoder alone"
    )


def _restored(batch: ImageBatch, maps: Tensor, masks: np.ndarray, i: int) -> list[np.ndarray]:
    values, image = maps[i].double().numpy(), pixels(batch)[i]
    return [restore(image, (values >= np.quantile(values, 1 - t)) | masks[i]) for t in THRESHOLDS]


def _times(metric: Metric, batch: ImageBatch, maps: Tensor, model: Closeness) -> tuple[float, float]:
    """CPU seconds of the metric's probe, if it has one, and of its score."""
    case, probe = Case(batch, maps), metric.probe
    trace = None if probe is None else probe.trace(case, model)
    asked = 0.0 if probe is None else cpu(lambda: probe.trace(Case(batch, maps), model))
    return asked, cpu(lambda: metric.score(case, trace))


def each_metric(side: int) -> list[str]:
    """One line a metric: CPU milliseconds a map, with a model that costs next to nothing."""
    images, maps = photos(side), maps_of("cam", 3, side)
    model, targets = Closeness(images), torch.arange(3)
    truth = (maps.flip(2) > 0.5).to(torch.int8)
    batch = ImageBatch(["a", "b", "c"], images, targets, model(images, targets), targets, truth)
    metrics: list[Metric] = [Neg(FRACTIONS), Pos(FRACTIONS), Ins(FRACTIONS), Del(FRACTIONS), Adp(), Pic()]
    metrics += [PixelAccuracy(), MeanIou(), MeanAp(), ImageF1(), RowF1(), Sic(THRESHOLDS), Aic(THRESHOLDS)]
    lines = []
    for metric in metrics:
        asked, scored = _times(metric, batch, maps, model)
        lines.append(f"{metric.label:12s} probe {1e3 * asked / 3:8.1f} ms   score {1e3 * scored / 3:6.1f} ms")
    return lines


def report(side: int, images: int) -> int:
    """Print the tables for images of `side` pixels."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # the library calls np.trapz
    print("SIC + AIC, CPU seconds a map;", ", ".join(f"{k} {v}" for k, v in Codec().provenance().items()))
    with threadpool_limits(1):
        for kind in ("cam", "grainy"):
            print(against_library(kind, images, side), flush=True)
        print("\nEach metric, CPU milliseconds a map (equal probes are asked once in a run)")
        print(*each_metric(side), sep="\n")
    return 0
