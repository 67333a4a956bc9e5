"""What a metric and a probe are: the only types that the engine and a new metric must agree on.

A *probe* decides which altered images the model must see for a map; a *metric* turns what the model said into a
score for each image. Probes are frozen value objects: metrics that name an equal probe read one trace, so the
model sees the altered images once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dix.metrics.axis import Axis as Axis

T = TypeVar("T")


class Predict(Protocol):
    """Ask the model; the engine splits the rows into chunks that fit the device and counts each as one forward."""

    def __call__(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        """What the model says of images about targets.

        Args:
            images: [M, 3, H, W] pixels in [0, 1].
            targets: [M] outputs whose probability is wanted.
            raw: Hand the pixels to the network as they are, without the normalisation that it was trained with.
            kept: [M, n] the patches that are fed to it, by their number in the grid, row by row; None feeds all.
        """
        ...


@dataclass(frozen=True)
class Prediction:
    """What the model said about M images.

    Attributes:
        probability: [M] probability of each row's target class, in [0, 1].
        predicted: [M] class of the largest logit.
        logits: [M, C] of all C classes; None where whoever asked gave only the above, and no other class can be scored.
        independent: Whether each class has a probability of its own, its logit's sigmoid, instead of a softmax's share.
    """

    probability: Tensor
    predicted: Tensor
    logits: Tensor | None = None
    independent: bool = False


@dataclass
class ImageBatch:
    """Everything about a batch of images that does not depend on an explanation map.

    Attributes:
        ids: B image ids, unique in the data set; seeds derive from them, never from the position in the batch.
        images: [B, 3, H, W] pixels in [0, 1], before the model's normalisation.
        targets: [B] explained class (an index into the model's outputs).
        clean: The model's prediction on `images` for `targets`.
        labels: [B] true class as an index into the model's outputs, -1 where unknown.
        masks: [B, H, W] truth mask (1 object, 0 background, -1 void), or None where the data set has none.
        has_mask: [B] False where an image has no truth mask although the data set has some.
        model_mean: The colour that the model's normalisation takes to 0, a pixel value for each channel; None if
            unknown.
        patches: Rows and columns of the patches that the model takes an image apart into; None: none can be left out.
        pool: Worker processes for CPU work besides the model's forwards, or None: work in this process.
    """

    ids: Sequence[str]
    images: Tensor
    targets: Tensor
    clean: Prediction
    labels: Tensor
    masks: Tensor | None = None
    has_mask: Tensor | None = None
    model_mean: Sequence[float] | None = None
    patches: tuple[int, int] | None = None
    pool: Executor | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a value that all maps of this batch share, the first time it is asked for.

        Args:
            key: What the value is; equal keys share it.
            compute: Gives the value.
        """
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]


@dataclass
class Case:
    """One batch of images together with one method's maps.

    Attributes:
        batch: The images.
        maps: [B, H, W] explanation maps at the images' resolution, finite, in any scale; larger means more relevant.
            A map that was not finite is handed over as zeros.
        explain: Gives the same method's maps [B, H, W] of altered images [B, 3, H, W] for the same targets, or None
            where the maps come without a method; metrics of a method's steadiness need it.
        method: The name of the method that made the maps, "" where there is none.
        native: [B, h, w] the same maps as the method gave them, before they were resized to the images; None: `maps`.
        explain_as: Gives the same method's maps [B, H, W] of the same images for other targets [B], or None as for
            `explain`.
    """

    batch: ImageBatch
    maps: Tensor
    explain: Callable[[Tensor], Tensor] | None = None
    method: str = ""
    native: Tensor | None = None
    explain_as: Callable[[Tensor], Tensor] | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a value that all probes and metrics of these maps share (ranks, for one), once.

        Args:
            key: What the value is; equal keys share it.
            compute: Gives the value.
        """
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]


@dataclass(frozen=True)
class Trace:
    """What the model said about a probe's V altered images of each of B images.

    Attributes:
        probability: [B, V] probability of the target class.
        predicted: [B, V] class of the largest logit.
        side: What the probe measured besides, by name: [B, V] or [B] (encoded bytes, for one).
        logits: [B, V, C] of all C classes, from which metrics that score other classes read; None as in `Prediction`.
        independent: As in `Prediction`.
    """

    probability: Tensor
    predicted: Tensor
    side: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    independent: bool = False


@runtime_checkable
class Probe(Protocol):
    """Which altered images the model must see. Implementations are frozen dataclasses of hyper-parameters.

    A probe may also have `needs_patches` (bool): True where it leaves patches out, which a Vision Transformer can do
    without and other networks cannot. And a method `reads(case)`, which gives all that its trace takes from the maps as
    one tensor or array (the pixels' ranks, for one): methods whose maps agree in it share the trace. None: they do not.
    And `begin(case)`, which gives the batch's pool the very work that `trace` will ask it for, and waits for nothing:
    the pool works while the model explains the next maps.
    """

    def trace(self, case: Case, predict: Predict) -> Trace:
        """Alter the case's images by its maps, and ask the model.

        Args:
            case: Images and maps.
            predict: Asks the model.

        Returns:
            What it said.
        """
        ...


@dataclass(frozen=True)
class Scores:
    """A metric's result for B images: all that a table will ever need of them.

    Attributes:
        value: [B] the image's own score in the metric's printed unit (percent, mostly); NaN where it is excluded.
        parts: [B, P] sufficient statistics, where the summary is not the mean of `value` (P = 0 otherwise).
        curve: [B, C] the curve behind the score (C = 0 if there is none).
        reasons: B strings: why the image is excluded, "" where it is not.
    """

    value: Tensor
    parts: Tensor
    curve: Tensor
    reasons: Sequence[str]

    @staticmethod
    def of(
        value: Tensor,
        *,
        parts: Tensor | None = None,
        curve: Tensor | None = None,
        reasons: Sequence[str] | None = None,
    ) -> Scores:
        """Scores with the parts that a metric does not have filled in as empty.

        Args:
            value: As in the class, and so are the rest.
            parts: None: no statistics.
            curve: None: no curve.
            reasons: None: no image is excluded.
        """
        empty = value.new_zeros((len(value), 0), dtype=torch.float64)
        return Scores(
            value=value.double(),
            parts=empty if parts is None else parts.double(),
            curve=empty if curve is None else curve.double(),
            reasons=[""] * len(value) if reasons is None else list(reasons),
        )


class Summary(Protocol):
    """A data set's score as a function of how often each of its images counts."""

    def __call__(self, weights: np.ndarray | None = None, /) -> np.ndarray:
        """The scores of R resamples of n images.

        Args:
            weights: [R, n] how often each image counts; None: every image once, and R is 1.

        Returns:
            [R] scores; NaN where no image counts.
        """
        ...


@runtime_checkable
class Metric(Protocol):
    """A score of explanation maps. Implementations are frozen dataclasses of hyper-parameters.

    A metric whose curves belong on an axis of their own has an `Axis` by the name `axis` besides; the curves of one
    that has none are drawn at even steps.
    A metric whose score is the mean of its images' values, none of which can lie outside two ends, has these ends as
    `bounds` (low, high): verdicts while a run goes on then hold at every image; see `dix.bench.tables.sequential`.
    A metric may also have `counts_broken` (bool): True where a map that was not finite counts as a map of zeros;
    elsewhere such images are excluded.

    Attributes:
        label: The name that tables print (``DEL``, ``mIoU``).
        higher_is_better: The direction of improvement; None for a description without one.
        extra: True for metrics that the thesis's tables do not have.
        probe: What the model must be asked, or None where the map alone (and the truth) is enough.
        needs_mask: True where the metric compares with truth masks; images without one are excluded by reason.
    """

    @property
    def label(self) -> str: ...
    @property
    def higher_is_better(self) -> bool | None: ...
    @property
    def extra(self) -> bool: ...
    @property
    def probe(self) -> Probe | None: ...
    @property
    def needs_mask(self) -> bool: ...

    def score(self, case: Case, trace: Trace | None) -> Scores:
        """Score each image of a case.

        Args:
            case: Images and maps.
            trace: What the model said to `self.probe`; None where there is no probe.

        Returns:
            A score for each image, or the reason why it does not count.
        """
        ...

    def summary(self, value: np.ndarray, parts: np.ndarray, curve: np.ndarray) -> Summary:
        """How n images reduce to the data set's score; excluded images (NaN in `value`) count nowhere.

        Args:
            value: [n] as stored.
            parts: [n, P] as stored.
            curve: [n, C] as stored.

        Returns:
            The score as a function of how often each image counts.
        """
        ...


def mean_summary(value: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The (weighted) mean of the images that count.

    Args:
        value: [n] with NaN where excluded.
        weights: [R, n] how often each image counts; None: every image once, and R is 1.

    Returns:
        [R] means; NaN where no image counts.
    """
    kept = ~np.isnan(value)
    weight = np.ones((1, len(value))) if weights is None else np.asarray(weights, dtype=float)
    total = weight[:, kept].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return weight[:, kept] @ value[kept] / total
