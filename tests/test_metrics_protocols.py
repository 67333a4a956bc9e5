"""The protocols `ltx`, `bee` and `pair` against literal replicas of their rules and PAIR's own library, on real photos.

The replicas are written from the facts that docs/protocols.md lists, one image and one level at a time, in double
precision. Where two pixels are equally relevant, nothing says which the releases take first: both sides take ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.pair import Pair, pair
from support.protocols import metrics, settings
from torch import Tensor

from dix.baselines.cam import GradCam, LayerCam
from dix.baselines.controls import Random
from dix.baselines.extras_cam import EigenCam
from dix.baselines.extras_path import InputXGradient
from dix.baselines.path import IntegratedGradients
from dix.bench.run.batch import Maps, maps, predict, prepare
from dix.bench.run.job import Job
from dix.bench.run.scorer import Score, Scorer
from dix.bench.run.settings import Run, ScoreProtocol
from dix.classifier import Classifier
from dix.datasets.loader import Batch, load
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.explainer import Dix, Explainer
from dix.maps import faults
from dix.metrics.api import Case
from dix.metrics.information import pixels, start_pixels
from dix.models.zoo import embedded_efficientnet, embedded_vit_small

MASKING = ("neg", "pos", "ins", "deletion")
SOFT = ("adp", "pic", "add")
#: Tenths of the pixels that are masked. The Transformer is slow in double precision, and its rules are no others.
TENTHS = {"cnn": range(10), "vit": range(0, 10, 3)}
LAYERS = {"last": "bn2", "second": "blocks.4", "third": "blocks.2"}
MAKERS: dict[str, Callable[[], Classifier]] = {
    "cnn": lambda: embedded_efficientnet("efficientnet_lite0", "lite0", LAYERS),
    "vit": lambda: embedded_vit_small("vit_small_embedded"),
}


@cache
def network(kind: str) -> Classifier:
    return MAKERS[kind]().to("cpu", torch.float64)


def job_of(classifier: Classifier, protocol: ScoreProtocol, *names: str) -> Job:
    preprocess = Preprocess(classifier.input_size)
    return Job(classifier, Photos(), preprocess, {}, metrics(protocol, *names), protocol, Run(name="tested"))


@dataclass(frozen=True)
class Scored:
    """What the program makes of some photos and maps under a protocol, and the bytes that SIC and AIC count."""

    case: Case
    scores: dict[str, list[Score]]
    sizes: list[list[int]]


def scored(job: Job, batch: Batch, relevance: Tensor | Explainer, method: str = "made") -> Scored:
    """relevance: maps [B, H, W], or the method that makes them."""
    prepared = prepare(job, batch)
    made = (
        Maps(relevance, tuple(faults(relevance)))
        if isinstance(relevance, Tensor)
        else maps(relevance, prepared.passes, job.protocol.map_resize)
    )
    case = Case(prepared.images, made.sound, method=method)

    def ask(images: Tensor, targets: Tensor, /, *, raw: bool = False) -> object:
        return predict(job.classifier, images, targets, 16, raw)

    scorer = Scorer(made, case, ask)  # type: ignore[arg-type]
    scores = {name: scorer.score(metric) for name, metric in job.metrics.items()}
    return Scored(case, scores, [t.side["bytes"][0].tolist() for t in scorer.traces.values() if "bytes" in t.side])


@dataclass(frozen=True)
class Replica:
    """A release's rules for one image.

    ask: logits [K] of one normalised image. image: [3, H, W] pixels in [0, 1]. mean, std: the normalisation.
    after: whether pixels are blacked out and faded after the normalisation (BEE) or before it (LTX).
    label: the class that is scored and counts as a hit; None: the class predicted for the unaltered image.
    tenths: of the pixels that are masked.
    """

    ask: Callable[[Tensor], Tensor]
    image: Tensor
    mean: Tensor
    std: Tensor
    after: bool
    label: int | None
    tenths: Sequence[int]

    def normalised(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std

    @cached_property
    def own(self) -> int:
        return int(self.ask(self.normalised(self.image)).argmax()) if self.label is None else self.label

    def logits(self, alter: Callable[[Tensor], Tensor]) -> Tensor:
        """Of the image with an alteration, at the release's place."""
        return self.ask(alter(self.normalised(self.image)) if self.after else self.normalised(alter(self.image)))

    def probability(self, alter: Callable[[Tensor], Tensor]) -> float:
        return float(self.logits(alter).softmax(dim=0)[self.own])

    def masked(self, relevance: Tensor, most: bool) -> tuple[list[float], list[float]]:
        """Hits and probabilities while more and more tenths of the pixels are set to zero."""
        flat = relevance.flatten().tolist()
        order = sorted(range(len(flat)), key=lambda i: (flat[i], i), reverse=most)
        hits, probabilities = [], []
        for level in self.tenths:
            gone = order[: level * len(flat) // 10]

            def blacked(image: Tensor, gone: list[int] = gone) -> Tensor:
                out = image.clone().flatten(1)
                out[:, gone] = 0.0
                return out.view_as(image)

            logits = self.logits(blacked)
            hits.append(float(int(logits.argmax()) == self.own))
            probabilities.append(float(logits.softmax(dim=0)[self.own]))
        return hits, probabilities

    def soft(self, relevance: Tensor) -> dict[str, float]:
        """ADP, PIC and ADD, in percent."""
        mask = (relevance - relevance.min()) / (relevance.max() - relevance.min())
        whole = self.probability(lambda image: image)
        kept, lost = (self.probability(lambda image, m=m: image * m) for m in (mask, 1 - mask))  # type: ignore[misc]
        return {
            "adp": 100 * max(0.0, whole - kept) / whole,
            "pic": 100.0 * (kept > whole),
            "add": 100 * max(0.0, whole - lost) / whole,
        }


def area(curve: Sequence[float], tenths: Sequence[int]) -> float:
    """The trapezoid over the masked shares, times 100."""
    return sum(5 * (b - a) * (curve[i] + curve[i + 1]) for i, (a, b) in enumerate(pairwise(tenths)))


@cache
def photos_of(kind: str) -> tuple[Batch, list[int]]:
    """Four labelled photos, one of them not predicted as its label (the ViT is given a wrong label), and the labels."""
    classifier, dataset = network(kind), Photos()
    batch = load(dataset, Preprocess(classifier.input_size), [i for i in range(12) if dataset.labels[i] is not None])
    targets = torch.zeros(len(batch.ids), dtype=torch.int64)
    predicted = predict(classifier, batch.images.double(), targets, 4).predicted
    outputs = classifier.output_of(batch.labels)
    right = (predicted == outputs).nonzero()[:, 0].tolist()
    wrong = (predicted != outputs).nonzero()[:, 0].tolist()
    chosen = [right[0], wrong[0] if wrong else right[3], right[1], right[2]]
    labels = batch.labels[chosen].clone()
    if not wrong:
        labels[1] = batch.labels[right[0]]
    part = Batch(
        ids=tuple(batch.ids[i] for i in chosen),
        images=batch.images[chosen],
        labels=labels,
        masks=None,
        has_mask=torch.zeros(4, dtype=torch.bool),
        contents=[batch.contents[i] for i in chosen],
    )
    return part, classifier.output_of(labels).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ltx", "bee"])
@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_curves_are_those_of_a_literal_replica(kind: str, name: str) -> None:
    classifier, (batch, labels) = network(kind), photos_of(kind)
    tenths = TENTHS[kind]
    job = job_of(classifier, settings(name, dtype="float64", fractions=[k / 10 for k in tenths]), *MASKING, *SOFT)
    method = GradCam() if kind == "cnn" else Dix(depth=1)
    relevance = maps(method, prepare(job, batch).passes, "bilinear").values.clone()
    assert faults(relevance[:2]) == ["", ""]
    relevance[2, 3, 5] = torch.nan
    relevance[3] = 0.25
    got = scored(job, batch, relevance).scores

    def ask(image: Tensor) -> Tensor:
        with torch.no_grad():
            return classifier.network(image[None])[0]

    for i in range(2):
        label = labels[i] if name == "ltx" else None
        mean, std = classifier.mean[0], classifier.std[0]
        replica = Replica(ask, batch.images[i].double(), mean, std, name == "bee", label, tenths)
        for least, soft, most in (("neg", "ins", False), ("pos", "deletion", True)):
            hits, probabilities = replica.masked(relevance[i], most)
            assert list(got[least][i].curve) == hits
            assert list(got[soft][i].curve) == pytest.approx(probabilities, abs=1e-6)
            assert got[least][i].value == pytest.approx(area(hits, tenths), abs=1e-9)
            assert got[soft][i].value == pytest.approx(area(probabilities, tenths), abs=1e-4)
        for metric, value in replica.soft(relevance[i]).items():
            assert got[metric][i].value == pytest.approx(value, abs=1e-4)
    assert got["neg"][1].curve[0] == (0.0 if name == "ltx" else 1.0)  # predicted wrong: never a hit of the label
    for metric in (*MASKING, *SOFT):
        assert got[metric][2].reason == "map is not finite"
        assert math.isnan(got[metric][2].value)
    if name == "ltx":  # min-max turns a constant map into NaN, and NaN is dropped
        assert {got[metric][3].reason for metric in (*MASKING, *SOFT)} == {"constant map"}
    else:
        mean, std = classifier.mean[0], classifier.std[0]
        replica = Replica(ask, batch.images[3].double(), mean, std, True, None, tenths)
        hits, probabilities = replica.masked(relevance[3], False)
        assert list(got["neg"][3].curve) == hits
        assert list(got["ins"][3].curve) == pytest.approx(probabilities, abs=1e-6)


def library(found: Scored, job: Job, row: int, purpose: str, ask: Callable[[Tensor], Tensor]) -> Pair:
    """PAIR's library on one of the photos; ask: logits [M, K] of pixels [M, 3, H, W] in [0, 1]."""
    batch, protocol = found.case.batch, job.protocol
    target = int(batch.targets[row])

    answers: dict[bytes, Tensor] = {}

    def logits(images: np.ndarray) -> Tensor:
        if images.tobytes() not in answers:  # the library asks for SIC, then for AIC
            with torch.no_grad():
                answers[images.tobytes()] = ask(torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255)
        return answers[images.tobytes()]

    def output(images: np.ndarray) -> list[float]:
        values = logits(images)
        return (values.softmax(dim=1) if protocol.sic_output == "softmax" else values)[:, target].tolist()

    mask = start_pixels(batch, protocol.start_pixels, protocol.seed, purpose)[row]
    relevance = found.case.maps[row].double().numpy()
    hits: Callable[[np.ndarray], list[float]] = lambda x: (logits(x).argmax(dim=1) == target).double().tolist()  # noqa: E731
    limit, thresholds = protocol.min_pred_value, protocol.thresholds
    return pair(pixels(batch)[row], relevance, mask, output, hits, thresholds, limit)


def agreement(index: int, method: Explainer, protocol: ScoreProtocol, side: int = 224) -> bool:
    """Whether the library counts a photo under `pair`; asserts that ours says the same, with its bytes and areas."""
    classifier = network("cnn")
    job = job_of(classifier, protocol, "sic", "aic")
    batch = load(Photos(), Preprocess(side), [index])
    found = scored(job, batch, method)
    theirs = library(found, job, 0, "start pixels", classifier.logits)
    assert found.sizes == [theirs.sizes]
    for name, area_of in (("sic", theirs.sic), ("aic", theirs.aic)):
        ours = found.scores[name][0]
        assert (ours.value == pytest.approx(area_of, abs=1e-4)) if area_of is not None else ours.reason
    return theirs.sic is not None


@pytest.mark.slow
@pytest.mark.parametrize(("index", "method"), [(0, GradCam()), (1, InputXGradient())])
def test_pair_gives_the_librarys_bytes_and_areas(index: int, method: Explainer) -> None:
    agreement(index, method, settings("pair", dtype="float64", min_pred_value=0.5))


#: Pixels a side: a twelfth of the pixels of 224 x 224, so that forty pairs take two minutes.
SMALLER = 64
PAIRS = [
    (index, method)
    for index in (0, 1, 2, 3, 5, 8, 9)
    for method in (
        GradCam(), LayerCam(), EigenCam(),  # smooth
        InputXGradient(), IntegratedGradients(steps=2), Random(),  # grainy
    )
]  # fmt: skip


@pytest.mark.slow
def test_pair_gives_the_librarys_bytes_and_areas_on_forty_pairs_of_a_photo_and_a_method() -> None:
    protocol = settings("pair", dtype="float64", min_pred_value=0.0)
    counted = [agreement(index, method, protocol, SMALLER) for index, method in PAIRS]
    assert len(counted) >= 40  # bytes are compared in all of them, areas where the library counts the image
    assert sum(counted) >= 30


@pytest.mark.slow
def test_bee_gives_the_librarys_areas_of_raw_pixels_logits_and_masks_of_its_own() -> None:
    classifier = network("cnn")
    job = job_of(classifier, settings("bee", dtype="float64"), "sic", "aic")
    batch = load(Photos(), Preprocess(classifier.input_size), [0])
    found = scored(job, batch, GradCam(), "gc")
    for name in ("sic", "aic"):
        theirs = library(found, job, 0, f"start pixels {name.upper()} gc", classifier.network)
        area_of, ours = getattr(theirs, name), found.scores[name][0]
        assert (ours.value == pytest.approx(area_of, abs=1e-4)) if area_of is not None else ours.reason


def test_images_without_a_label_are_left_out_by_name_where_the_label_is_explained() -> None:
    classifier = network("cnn")
    quokka = len(Photos().ids) - 1
    batch = load(Photos(), Preprocess(classifier.input_size), [0, quokka])
    for name, reason in (("ltx", ""), ("ltx_label", "no label")):
        prepared = prepare(job_of(classifier, settings(name, dtype="float64"), "ins"), batch)
        assert prepared.silent == ("", reason)  # a run stores that reason for every method and metric


def test_maps_that_are_zeroed_count_in_the_segmentation_metrics() -> None:
    # LTX: a map that is constant or not finite is zero everywhere, so nothing is foreground and the image counts.
    classifier = network("cnn")
    batch = load(Photos(), Preprocess(classifier.input_size), [0, 1])
    masks = torch.zeros(2, 224, 224, dtype=torch.int8)
    masks[:, :56] = 1
    batch = replace(batch, masks=masks, has_mask=torch.ones(2, dtype=torch.bool))
    relevance = torch.full((2, 224, 224), 0.5)
    relevance[1, 0, 0] = torch.inf
    for name, value in (("thesis", 75.0), ("corrected", math.nan)):
        job = job_of(classifier, settings(name, dtype="float64"), "pa", "miou")
        got = scored(job, batch, relevance).scores
        assert [s.value for s in got["pa"]] == pytest.approx([value] * 2, nan_ok=True)
        assert [s.value for s in got["miou"]] == pytest.approx([value / 2] * 2, nan_ok=True)
