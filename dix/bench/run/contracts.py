"""What every method, metric, data set and model must hold, checked on a user's own before it is trusted with a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dix.bench.run.batch import Prepared, Question, asked, maps, predict
from dix.classifier import Classifier
from dix.datasets.api import Dataset, Record, content_of
from dix.datasets.loader import Batch
from dix.explainer import Explainer
from dix.identity import describe
from dix.maps import faults
from dix.metrics.api import Case, Metric, Predict, Prediction, Scores

#: Largest difference of a tail's logits, relative to the largest logit.
TAIL_TOLERANCE = 1e-5
#: Largest difference of a map between batches, relative to the map's range.
MAP_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Finding:
    """One clause of a contract. problem: "" where it holds."""

    clause: str
    problem: str = ""


def explainer_contract(explainer: Explainer, classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """Clauses for a method, tried on images [B, 3, S, S] in [0, 1] with B of at least 2."""
    yield _holds("is a frozen dataclass of plain values", lambda: _plain(explainer))
    reason = explainer.unsupported(classifier)
    if reason:
        yield Finding(f"cannot explain {classifier.name}: {reason}")
        return
    before = classifier.logits(images).detach().clone()
    maps = _maps(explainer, classifier, images)
    yield _holds("returns one map [h, w] an image", lambda: _differs(tuple(maps.shape[:1]), (len(images),)))
    yield _holds("gives finite maps that are not constant", lambda: ", ".join(sorted(set(faults(maps)) - {""})))
    yield _holds("leaves the model as it was", lambda: _unchanged(classifier, images, before))
    yield _holds("explains an image alike in any batch", lambda: _alone(explainer, classifier, images, maps))
    again = _maps(explainer, classifier, images)
    yield _holds("gives the same map twice", lambda: "" if torch.equal(maps, again) else "two runs differ")


def metric_contract(metric: Metric, classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """Clauses for a metric, tried with made maps on images [B, 3, S, S] in [0, 1] with B of at least 2."""
    yield _holds("is a frozen dataclass of plain values", lambda: _plain(metric))
    scores = _scores(metric, classifier, images, range(len(images)))
    yield _holds("scores every image", lambda: _differs(tuple(scores.value.shape), (len(images),)))
    yield _holds("says why an image is excluded, and only then", lambda: _reasons(scores))
    alone = torch.cat([_scores(metric, classifier, images, [i]).value for i in range(len(images))])
    close = torch.allclose(scores.value, alone, rtol=0, atol=1e-3, equal_nan=True)
    yield Finding("scores an image alike in any batch", "" if close else f"{scores.value.tolist()} or {alone.tolist()}")
    yield _holds("summarises with weights as without", lambda: _summaries(metric, scores))


def dataset_contract(dataset: Dataset, most: int = 20) -> Iterator[Finding]:
    """Clauses for a data set; at most so many images are read."""
    ids = list(dataset.ids)
    yield Finding("has images", "" if ids else "no ids")
    yield Finding("names every image once", "" if len(set(ids)) == len(ids) else "an id occurs twice")
    yield Finding("names images in text that can be stored", _unstorable(ids))
    labels = len(dataset.labels)
    yield Finding("labels every image, or says None", "" if labels == len(ids) else f"{labels} for {len(ids)}")
    fingerprints = {dataset.fingerprint() for _ in range(2)}
    yield Finding("has a steady fingerprint", "" if len(fingerprints) == 1 else "two calls differ")
    for index in range(min(most, len(ids))):
        problem = _record(dataset.read(index), ids[index])
        if problem:
            yield Finding(f"reads {ids[index]}", problem)
            return
    yield Finding(f"reads its first {min(most, len(ids))} images with masks of their size")
    differing = [ids[i] for i in range(min(most, len(ids))) if _contents(dataset, i) > 1]
    yield Finding("knows an image by its content", f"two digests of {differing[0]}" if differing else "")


def _unstorable(ids: Sequence[str]) -> str:
    """The first id that is no printable UTF-8 text, as a problem, or ""."""
    return next((f"{name!r} is not printable" for name in ids if not name.isprintable()), "")


def _contents(dataset: Dataset, index: int) -> int:
    """How many digests an image has: as it is read, and without being decoded."""
    return len({content_of(dataset, index, dataset.read(index)), content_of(dataset, index)})


def classifier_contract(classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """Clauses for a model: frozen, and every named layer splits it exactly."""
    frozen = not any(p.requires_grad for p in classifier.network.parameters()) and not classifier.network.training
    yield Finding("is frozen and in evaluation mode", "" if frozen else "it is not")
    logits = classifier.logits(images).detach()
    scale = float(logits.abs().max())
    for alias, name in classifier.layers.items():
        tail = classifier.tail(name)
        found = tail.logits(*tail.record(classifier.normalise(images))).detach()
        error = float((found - logits).abs().max()) / max(scale, 1e-12)
        yield Finding(f"splits at {alias} ({name})", "" if error <= TAIL_TOLERANCE else f"logits differ by {error:.1e}")


def _holds(clause: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(clause, check())
    except Exception as error:
        return Finding(clause, f"{type(error).__name__}: {error}")


def _plain(thing: object) -> str:
    """Nothing, or an exception where the object cannot be described or hashed."""
    describe(thing)
    hash(thing)
    return ""


def _differs(got: object, expected: object) -> str:
    return "" if got == expected else f"expected {expected}, got {got}"


def _unchanged(classifier: Classifier, images: Tensor, before: Tensor) -> str:
    modules = list(classifier.network.modules())
    hooked = [m for m in modules if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
    if hooked:
        return f"a hook is left on {type(hooked[0]).__name__}"
    return "" if torch.equal(classifier.logits(images), before) else "the logits changed"


def _alone(explainer: Explainer, classifier: Classifier, images: Tensor, maps: Tensor) -> str:
    """Compare with maps of each image by itself; ids are given, since random numbers derive from them."""
    for i in range(len(images)):
        alone = _maps(explainer, classifier, images, [i])[0]
        span = float(maps[i].max() - maps[i].min())
        error = float((alone - maps[i]).abs().max()) / max(span, 1e-12)
        if error > MAP_TOLERANCE:
            return f"alone, image {i} differs by {error:.1e} of its map's range"
    return ""


def _maps(
    explainer: Explainer, classifier: Classifier, images: Tensor, chosen: range | list[int] | None = None
) -> Tensor:
    prepared = _prepared(classifier, images, range(len(images)) if chosen is None else chosen)
    return maps(explainer, prepared.passes, "bilinear").values


def _prepared(classifier: Classifier, images: Tensor, chosen: range | list[int]) -> Prepared:
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
    return asked(classifier, batch, Question(labels))


def _scores(metric: Metric, classifier: Classifier, images: Tensor, chosen: range | list[int]) -> Scores:
    batch = _prepared(classifier, images, chosen).images
    case = Case(batch, batch.images.mean(dim=1), explain=lambda altered: altered.mean(dim=1))
    probe = metric.probe
    trace = None if probe is None else probe.trace(case, _asking(classifier))
    return metric.score(case, trace)


def _asking(classifier: Classifier) -> Predict:
    def ask(images: Tensor, targets: Tensor, /, *, raw: bool = False) -> Prediction:
        return predict(classifier, images, targets, 32, raw)

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


def _record(record: Record, name: str) -> str:
    if record.id != name:
        return f"its record is called {record.id!r}"
    if record.mask is not None and record.mask.shape != (record.image.height, record.image.width):
        return f"mask {record.mask.shape}, image {(record.image.height, record.image.width)}"
    return "" if record.image.mode == "RGB" else f"mode {record.image.mode}, not RGB"
