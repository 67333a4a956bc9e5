"""One batch on its way from the loader to finished maps: the path that every command takes.

`prepare` turns what the loader read into the evidence that methods draw on and the images that metrics alter;
`maps` lets one method explain them. Runs, forecasts, sanity tests, contracts, `dix explain` and the figures all go
this way, so that a map or a probability of the same images is the same number wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dix.bench.run.job import Job
from dix.classifier import Classifier
from dix.datasets.loader import Batch
from dix.explainer import Explainer
from dix.maps import faults, resize
from dix.metrics.answers import answer, together
from dix.metrics.api import ImageBatch, Prediction
from dix.passes import Passes
from dix.patches import patch_grid, showing

#: Why an image is excluded whose unaltered logits are not all finite.
SILENT = "the network's logits are not finite"
#: Why an image without a label is excluded, where the protocol says so.
NO_LABEL = "no label"
#: Makes the dictionaries in which a batch remembers what was computed once.
Memory = Callable[[], MutableMapping[Hashable, Any]]


@dataclass(frozen=True)
class Prepared:
    """A batch that can be explained and scored.

    passes: what methods draw on. images: what metrics alter. silent: for each image why nothing can be scored (the
    network does not answer, or the protocol drops images without a label), "" where it can. correct: for each labelled
    image with an answer, whether that is its label.
    """

    passes: Passes
    images: ImageBatch
    silent: tuple[str, ...]
    correct: dict[str, bool]

    def answers(self, question: Question, ids: Sequence[str]) -> bool:
        """Whether asking this about these images would prepare the very same again, to the last bit."""
        passes = self.passes
        if passes.ids != list(ids) or (passes.chunk, passes.seed) != (question.chunk, question.seed):
            return False
        same = torch.equal(question.chosen(passes.logits.argmax(dim=1)), passes.targets)
        return same and tuple(_silent(passes.logits, question.labels, question.unlabelled)) == self.silent


@dataclass(frozen=True)
class Maps:
    """One method's maps [B, H, W] of a batch, and what is wrong with each ("", "constant" or "not finite").

    native: [B, h, w] the maps before they were resized; None where they never were.
    """

    values: Tensor
    faults: tuple[str, ...]
    native: Tensor | None = None

    @property
    def sound(self) -> Tensor:
        """The maps with those that are not finite replaced by zeros, so that metrics can compute on."""
        return self._without_broken(self.values)

    @property
    def sound_native(self) -> Tensor | None:
        """The same of the maps before they were resized."""
        return None if self.native is None else self._without_broken(self.native)

    def copy(self) -> Maps:
        """The same with tensors of its own."""
        return Maps(self.values.clone(), self.faults, None if self.native is None else self.native.clone())

    def _without_broken(self, maps: Tensor) -> Tensor:
        broken = torch.tensor([fault == "not finite" for fault in self.faults], device=maps.device)
        return torch.where(broken.view(-1, 1, 1), torch.zeros_like(maps), maps)


def prepare(
    job: Job, batch: Batch, pool: Executor | None = None, *, targets: Tensor | None = None, memory: Memory = dict
) -> Prepared:
    """The clean forward pass of a batch of at least one image, and everything that follows from it.

    targets: [B] outputs to explain; None: as the protocol says.
    """
    return asked(job.classifier, batch, question_of(job, batch, targets), pool, memory)


def question_of(job: Job, batch: Batch, targets: Tensor | None = None) -> Question:
    """What a job asks about a batch. targets: [B] outputs to explain; None: as the protocol says."""
    return Question(
        labels_of(job, batch),
        targets,
        by_label=job.protocol.target == "label",
        unlabelled=job.protocol.unlabelled,
        chunk=job.chunk,
        seed=job.protocol.seed,
    )


@dataclass(frozen=True)
class Question:
    """What is asked about a batch.

    labels: [B] true classes as outputs of the model, -1 where unknown. targets: [B] outputs to explain; None: the
    predicted ones, or the labels where there are some and `by_label`. unlabelled: "drop" scores no image without a
    label, "predicted" does. chunk, seed: see `Passes`.
    """

    labels: Tensor
    targets: Tensor | None = None
    by_label: bool = False
    unlabelled: str = "predicted"
    chunk: int = 32
    seed: int = 0

    def chosen(self, predicted: Tensor) -> Tensor:
        """[B] the outputs to explain, given the predicted ones."""
        if self.targets is not None:
            return self.targets.to(predicted.device, copy=True)
        labels = self.labels.to(predicted.device)
        return torch.where(labels >= 0, labels, predicted) if self.by_label else predicted.clone()


def asked(
    classifier: Classifier, batch: Batch, question: Question, pool: Executor | None = None, memory: Memory = dict
) -> Prepared:
    """A batch of at least one image, shown to a classifier.

    The loader's tensors are copied, never handed out, so that the batch can be prepared again whatever became of the
    copies.
    """
    device = classifier.device
    pixels = batch.images.to(device=device, dtype=classifier.dtype, copy=True)
    passes = Passes(classifier, pixels, ids=batch.ids, chunk=question.chunk, seed=question.seed, memo=memory())
    predicted = passes.logits.argmax(dim=1)
    passes.explain_targets(question.chosen(predicted))
    images = ImageBatch(
        ids=batch.ids,
        images=pixels,
        targets=passes.targets,
        clean=answer(passes.logits, passes.targets, passes.classifier.probability == "sigmoid"),
        labels=question.labels.to(device, copy=True),
        masks=None if batch.masks is None else batch.masks.to(device, copy=True),
        has_mask=batch.has_mask.to(device, copy=True),
        model_mean=classifier.mean.flatten().tolist(),
        patches=patch_grid(classifier),
        pool=pool,
        _memo=memory(),  # type: ignore[arg-type]
    )
    silent = tuple(_silent(passes.logits, images.labels, question.unlabelled))
    return Prepared(passes, images, silent, _correct(images, predicted, silent))


def part(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some images of a batch, in the given order."""
    chosen = list(rows)
    return replace(
        batch,
        ids=tuple(batch.ids[i] for i in chosen),
        images=batch.images[chosen],
        labels=batch.labels[chosen],
        masks=None if batch.masks is None else batch.masks[chosen],
        has_mask=batch.has_mask[chosen],
        contents=[batch.contents[i] for i in chosen],
    )


def labels_of(job: Job, batch: Batch) -> Tensor:
    """The images' labels as outputs of the model [B]; -1 where the model has no such output."""
    if job.dataset.label_space is None or job.dataset.label_space != job.classifier.label_space:
        return torch.full_like(batch.labels, -1)
    return job.classifier.output_of(batch.labels)


def _silent(logits: Tensor, labels: Tensor, unlabelled: str) -> Iterator[str]:
    for finite, label in zip(logits.isfinite().all(dim=1).tolist(), labels.tolist(), strict=True):
        yield SILENT if not finite else NO_LABEL if label < 0 and unlabelled == "drop" else ""


def _correct(images: ImageBatch, predicted: Tensor, silent: Sequence[str]) -> dict[str, bool]:
    hits = (predicted == images.labels).tolist()
    known = zip(images.ids, images.labels.tolist(), hits, silent, strict=True)
    return {image: hit for image, label, hit, why in known if label >= 0 and not why}


def maps(method: Explainer, passes: Passes, map_resize: str) -> Maps:
    """A method's maps at the images' resolution, in float32 or better, detached from any graph.

    Raises ValueError where the method does not give one map an image.
    """
    return enlarged(method, passes, [map_resize])[map_resize]


def enlarged(method: Explainer, passes: Passes, resizes: Sequence[str]) -> dict[str, Maps]:
    """The same, made once and enlarged in several ways: the maps by `map_resize`."""
    made = method.explain(passes)
    count = len(passes.ids)
    if not isinstance(made, Tensor) or made.ndim != 3 or len(made) != count:
        got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"explain: expected a tensor of maps [{count}, h, w], got {got}")
    wide = made.detach() if made.dtype == torch.float64 else made.detach().float()
    found = {}
    for way in dict.fromkeys(resizes):
        values = resize(wide, passes.size, way)  # type: ignore[arg-type]
        found[way] = Maps(values, tuple(faults(values)), wide)
    return found


def altered(method: Explainer, passes: Passes, images: Tensor, map_resize: str) -> Tensor:
    """The method's maps [B, H, W] of altered images [B, 3, H, W] for the targets of the unaltered ones."""
    again = Passes(passes.classifier, images, passes.targets, ids=passes.ids, chunk=passes.chunk, seed=passes.seed)
    return maps(method, again, map_resize).values


def predict(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    chunk: int,
    raw: bool = False,
    kept: Tensor | None = None,
) -> Prediction:
    """What the model says of images [M, 3, H, W] about targets [M], in forwards of at most `chunk` rows.

    raw: hand the pixels to the network without its normalisation. kept: [M, n] the patches that it sees; None: all.
    """
    ask = classifier.network if raw else classifier.logits
    said = []
    for begin in range(0, len(images), chunk):
        rows = slice(begin, begin + chunk)
        with torch.no_grad(), showing(classifier, None if kept is None else kept[rows]):
            said.append(answer(ask(images[rows]), targets[rows], classifier.probability == "sigmoid"))
    return together(said)
