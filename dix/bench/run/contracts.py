"""What every method, metric, data set and model must hold, checked on a user's own before it is trusted with a run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from dix.bench.run.batch import Prepared, Question, asked, maps, predict
from dix.bench.run.guard import Guard, Handed, HandedBatch, Watched, isolated, told
from dix.bench.run.seals import Memory
from dix.classifier import Classifier
from dix.datasets.api import Dataset, content_of
from dix.datasets.loader import Batch
from dix.explainer import Explainer
from dix.identity import describe
from dix.layout import CHANNELS_FIRST
from dix.maps import faults
from dix.metrics.api import Case, Metric, Predict, Prediction, Scores

T = TypeVar("T")
#: Largest difference of a tail's logits, relative to the largest logit.
TAIL_TOLERANCE = 1e-5
#: Largest difference of a map between batches, relative to the map's range.
MAP_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Finding:
    """One clause of a contract. problem: "" where it holds."""

    clause: str
    problem: str = ""


#: Clauses about a method that was tried, and what to do where one does not hold.
RAISES, SHAPE, SOUND = (
    "explains without an error",
    "returns one map [h, w] an image",
    "gives finite maps that are not constant",
)
MODEL, BATCH, PROCESS = "leaves the model as it was", "leaves the batch as it was", "leaves the process as it was"
RANDOM, ALIKE, TWICE = (
    "draws no shared random numbers",
    "explains an image alike in any batch",
    "gives the same map twice",
)
PLAIN = "is a frozen dataclass of plain values"
#: What to do where a clause does not hold; one that ends with a space is the beginning of several.
ADVICE = {
    PLAIN: "write @dataclass(frozen=True) above the class; its fields are numbers, texts, tuples or such dataclasses",
    SHAPE: "return a tensor [B, h, w], one row for each image of `passes.images`",
    SOUND: "a map that says nothing is excluded from every score: look for a division by 0, or a gradient that is 0",
    ALIKE: "use nothing of other images, such as a maximum over the batch",
    TWICE: "draw from `passes.generator(index, purpose)`; sort with stable=True",
    "scores without an error": "raise nothing for maps of any content: NaN with a reason excludes an image",
    "scores every image": "return `Scores.of(value)` with one value for each image of `case.batch`",
    "says why an image is excluded, and only then": "give `reasons`: a text for each NaN, and an empty one elsewhere",
    "scores an image alike in any batch": "use nothing of other images; pool over images in `summary`",
    "summarises with weights as without": "return a function of weights [W, n], or of None, as `mean_summary` does",
    "has images": "look at its root, and what `dix data check` says",
    "names every image once": "take the path below the root for an id, not the bare name of a file",
    "names images in text that can be stored": "escape the characters, as `dix.datasets` does with names of files",
    "labels every image, or says None": "`labels` has an entry for each id, None where the class is not known",
    "has a steady fingerprint": "hash names, sizes and settings in a fixed order, and no time of day",
    "reads ": "open the file with Pillow: it is damaged, or no picture, or its mask has another size",
    "knows an image by its content": "hash the bytes that `read` opens, or leave `content` out",
    "is frozen and in evaluation mode": "call network.eval() and requires_grad_(False), and switch nothing back",
    "gives finite logits": "look at the weights, and at mean and std of the normalisation",
    "has a layer to explain": "name one: layers: {last: NAME}; `dix.wrap(module).describe()` shows what was found",
    "splits at ": "name another layer: what follows this one must hang on its output alone",
    MODEL: "use `dix.capture.capturing`, remove hooks in a `finally`, and write into no weight",
    BATCH: "write into copies: `passes.images.clone()`",
    PROCESS: "use settings in a `with` block that puts them back",
    RANDOM: "draw from `passes.generator(index, purpose)`",
    RAISES: "raise nothing for images of any content; say in `unsupported` which models cannot be explained",
}


def explainer_contract(explainer: Explainer, classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """Clauses for a method, tried on images [B, 3, S, S] in [0, 1] with B of at least 2.

    Every clause is reported, and the model and the process are left as they were, whatever the method does.
    """
    yield _holds(PLAIN, lambda: _plain(explainer))
    with Guard(classifier) as guard:
        able = _tried(guard, None, lambda: explainer.unsupported(classifier))
        yield from _effects(able, "asking `unsupported` ")
        if able.result:
            yield Finding(f"cannot explain {classifier.name}: {able.result}")
            return
        everyone = range(len(images))
        first = _explained(guard, explainer, classifier, images, everyone)
        yield _advised(RAISES, first.error)
        yield from _effects(first)
        yield _holds(SHAPE, lambda: _differs(tuple(_map_of(first).shape[:1]), (len(images),)))
        yield _holds(SOUND, lambda: ", ".join(sorted(set(faults(_map_of(first))) - {""})))
        alone = [_explained(guard, explainer, classifier, images, [i]) for i in everyone]
        yield _holds(ALIKE, lambda: _alone(first, alone))
        again = _explained(guard, explainer, classifier, images, everyone)
        yield _holds(TWICE, lambda: "" if torch.equal(_map_of(first), _map_of(again)) else "two runs differ")


@dataclass(frozen=True)
class _Tried(Generic[T]):
    """What came of code of a method or metric. error: what it raised. model, batch, process: what it changed."""

    result: T | None
    error: str
    model: list[str]
    batch: list[str]
    process: list[str]
    drew: bool


def _tried(guard: Guard, handed: Watched | None, act: Callable[[], T], *more: Watched) -> _Tried[T]:
    """Call it, note what it raised, drew and changed, and put everything right again."""
    result, error, drew = None, "", False

    def watched() -> T:
        nonlocal drew
        before = _random_states()
        try:
            return act()
        finally:
            drew = _random_states() != before

    try:
        result = isolated(watched, seed=0)
    except Exception as failed:
        error = f"{type(failed).__name__}: {failed}"
    batch = [what for each in (handed, *more) if each is not None for what in each.changed()]
    model, process = guard.network.changed(), guard.process.changed()
    guard.restore()
    return _Tried(result, error, model, batch, process, drew)


def _random_states() -> tuple[Any, ...]:
    """The states of the generators that everybody shares, comparable."""
    return torch.get_rng_state().tolist(), str(np.random.get_state(legacy=False)), random.getstate()  # noqa: NPY002


def _effects(tried: _Tried[Any], when: str = "") -> Iterator[Finding]:
    """Whether it left everything alone."""
    for clause, changes in ((MODEL, tried.model), (BATCH, tried.batch), (PROCESS, tried.process)):
        yield _advised(clause, when + told(changes) if changes else "")
    yield _advised(RANDOM, f"{when}it draws from torch's, NumPy's or Python's own generators" if tried.drew else "")


def _advised(clause: str, problem: str) -> Finding:
    """A clause with what is wrong, and what to do about it."""
    advice = next((text for about, text in ADVICE.items() if clause.startswith(about)), "")
    return Finding(clause, "; ".join(filter(None, (problem, advice))) if problem else "")


def _explained(
    guard: Guard, explainer: Explainer, classifier: Classifier, images: Tensor, chosen: Sequence[int]
) -> _Tried[Tensor]:
    """Maps of some of the images; ids are given, since random numbers derive from them."""
    prepared = _prepared(classifier, images, chosen)
    return _tried(guard, HandedBatch.of(prepared), lambda: maps(explainer, prepared.passes, "bilinear").values)


def _map_of(tried: _Tried[Tensor]) -> Tensor:
    if tried.result is None:
        raise ValueError(f"there is no map to look at ({tried.error})")
    return tried.result


def metric_contract(metric: Metric, classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """Clauses for a metric, tried with made maps on images [B, 3, S, S] in [0, 1] with B of at least 2.

    Every clause is reported, and the model and the process are left as they were, whatever the metric does.
    """
    yield _holds(PLAIN, lambda: _plain(metric))
    with Guard(classifier) as guard:
        tried = _scores(guard, metric, classifier, images, range(len(images)))
        yield _advised("scores without an error", tried.error)
        yield from _effects(tried)
        yield _holds("scores every image", lambda: _differs(tuple(_scores_of(tried).value.shape), (len(images),)))
        yield _holds("says why an image is excluded, and only then", lambda: _reasons(_scores_of(tried)))
        each = [_scores(guard, metric, classifier, images, [i]) for i in range(len(images))]
        yield _holds("scores an image alike in any batch", lambda: _scores_alike(tried, each))
        yield _holds("summarises with weights as without", lambda: _summaries(metric, _scores_of(tried)))


def _scores_of(tried: _Tried[Scores]) -> Scores:
    if tried.result is None:
        raise ValueError(f"there is no score to look at ({tried.error})")
    return tried.result


def _scores_alike(together: _Tried[Scores], each: Sequence[_Tried[Scores]]) -> str:
    whole = _scores_of(together).value
    alone = torch.cat([_scores_of(one).value for one in each])
    close = torch.allclose(whole, alone, rtol=0, atol=1e-3, equal_nan=True)
    return "" if close else f"{whole.tolist()} or {alone.tolist()}"


def dataset_contract(dataset: Dataset, most: int = 20) -> Iterator[Finding]:
    """Clauses for a data set; at most so many images are read. Every clause is reported, whatever reading raises."""
    first = range(min(most, len(dataset.ids)))
    yield _holds("has images", lambda: "" if dataset.ids else "no ids")
    yield _holds("names every image once", lambda: "" if len(set(dataset.ids)) == len(dataset.ids) else "an id twice")
    yield _holds("names images in text that can be stored", lambda: _unstorable(dataset.ids))
    yield _holds("labels every image, or says None", lambda: _differs(len(dataset.labels), len(dataset.ids)))
    yield _holds("has a steady fingerprint", lambda: _differs(dataset.fingerprint(), dataset.fingerprint()))
    read = {index: _holds(f"reads {dataset.ids[index]}", partial(_record_of, dataset, index)) for index in first}
    yield from (found for found in read.values() if found.problem)
    sound = [index for index, found in read.items() if not found.problem]
    if len(sound) == len(read):
        yield Finding(f"reads its first {len(first)} images with masks of their size")
    yield _holds("knows an image by its content", lambda: _unsteady(dataset, sound))


def _unsteady(dataset: Dataset, first: Sequence[int]) -> str:
    """The first image with two digests, as it is read and without being decoded, as a problem, or ""."""
    for index in first:
        if content_of(dataset, index, dataset.read(index)) != content_of(dataset, index):
            return f"two digests of {dataset.ids[index]}"
    return ""


def _unstorable(ids: Sequence[str]) -> str:
    """The first id that is no printable UTF-8 text, as a problem, or ""."""
    return next((f"{name!r} is not printable" for name in ids if not name.isprintable()), "")


def classifier_contract(classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """Clauses for a model: frozen, with finite logits, and every named layer splits it exactly."""
    frozen = not any(p.requires_grad for p in classifier.network.parameters()) and not classifier.network.training
    yield _advised("is frozen and in evaluation mode", "" if frozen else "it is not")
    yield _holds("gives finite logits", lambda: "" if _logits(classifier, images).isfinite().all() else "it does not")
    yield _advised("has a layer to explain", "" if classifier.layers else "none is named and none is found")
    for alias, name in classifier.layers.items():
        where = str(classifier.layouts.get(name, "tokens" if classifier.kind == "vit" else CHANNELS_FIRST))
        yield _holds(f"splits at {alias} ({name}, {where})", partial(_splits, classifier, name, images))


def _logits(classifier: Classifier, images: Tensor) -> Tensor:
    return classifier.logits(images.to(classifier.mean)).detach()


def _splits(classifier: Classifier, name: str, images: Tensor) -> str:
    logits, tail = _logits(classifier, images), classifier.tail(name)
    found = tail.logits(*tail.record(classifier.normalise(images.to(classifier.mean)))).detach()
    error = float((found - logits).abs().max()) / max(float(logits.abs().max()), 1e-12)
    return "" if error <= TAIL_TOLERANCE else f"logits differ by {error:.1e}"


def _holds(clause: str, check: Callable[[], str]) -> Finding:
    try:
        return _advised(clause, isolated(check, seed=0))
    except Exception as error:
        return _advised(clause, f"{type(error).__name__}: {error}")


def _plain(thing: object) -> str:
    """Nothing, or an exception where the object cannot be described or hashed."""
    describe(thing)
    hash(thing)
    return ""


def _differs(got: object, expected: object) -> str:
    return "" if got == expected else f"expected {expected}, got {got}"


def _alone(together: _Tried[Tensor], each: Sequence[_Tried[Tensor]]) -> str:
    """Compare maps of a batch with those of each image by itself."""
    for i, (made, one) in enumerate(zip(_map_of(together), each, strict=True)):
        span = float(made.max() - made.min())
        error = float((_map_of(one)[0] - made).abs().max()) / max(span, 1e-12)
        if error > MAP_TOLERANCE:
            return f"alone, image {i} differs by {error:.1e} of its map's range"
    return ""


def _prepared(classifier: Classifier, images: Tensor, chosen: Sequence[int]) -> Prepared:
    """Some of the images as a run would prepare them, with a made mask; the predicted class is the true one."""
    index = list(chosen)
    pixels = images[index]
    height, width = pixels.shape[-2:]
    masks = torch.zeros(len(index), height, width, dtype=torch.int8)
    masks[:, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    labels = predict(classifier, pixels.to(classifier.mean), torch.zeros(len(index), dtype=torch.int64), 32).predicted
    batch = Batch(
        ids=tuple(str(i) for i in index),
        images=pixels,
        labels=labels,
        masks=masks,
        has_mask=torch.ones(len(index), dtype=torch.bool),
        contents=[""] * len(index),
    )
    return asked(classifier, batch, Question(labels), memory=Memory)


def _scores(
    guard: Guard, metric: Metric, classifier: Classifier, images: Tensor, chosen: Sequence[int]
) -> _Tried[Scores]:
    prepared = _prepared(classifier, images, chosen)
    batch = prepared.images
    grey = batch.images.mean(dim=1)
    case = Case(
        batch,
        grey,
        explain=lambda altered: altered.mean(dim=1),
        explain_as=lambda targets: grey * targets.view(-1, 1, 1),
    )

    def score() -> Scores:
        probe = metric.probe
        return metric.score(case, None if probe is None else probe.trace(case, _asking(classifier)))

    return _tried(guard, HandedBatch.of(prepared), score, Handed.of("the maps", case.maps))


def _asking(classifier: Classifier) -> Predict:
    def ask(images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None) -> Prediction:
        return predict(classifier, images, targets, 32, raw, kept)

    return ask


def _reasons(scores: Scores) -> str:
    for value, reason in zip(scores.value.tolist(), scores.reasons, strict=True):
        if np.isnan(value) != bool(reason):
            return f"value {value} with reason {reason!r}"
    return ""


def _summaries(metric: Metric, scores: Scores) -> str:
    value, parts, curve = (t.double().cpu().numpy() for t in (scores.value, scores.parts, scores.curve))
    summary = metric.summary(value, parts, curve)
    plain, weighted = summary(), summary(np.ones((2, len(value))))
    same = np.allclose(plain, weighted, equal_nan=True) and plain.shape == (1,) and weighted.shape == (2,)
    return "" if same else f"{plain} without weights, {weighted} with ones"


def _record_of(dataset: Dataset, index: int) -> str:
    """What is wrong with a record, or ""."""
    record, name = dataset.read(index), dataset.ids[index]
    if record.id != name:
        return f"its record is called {record.id!r}"
    if record.mask is not None and record.mask.shape != (record.image.height, record.image.width):
        return f"mask {record.mask.shape}, image {(record.image.height, record.image.width)}"
    return "" if record.image.mode == "RGB" else f"mode {record.image.mode}, not RGB"
