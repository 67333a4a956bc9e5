"""Methods on a device (DIX_TEST_DEVICE, the processor by default) against the processor, and what they wait for.

A device is kept busy only while the processor runs ahead of it. Whatever brings a number to the host stops that; the
reads are counted here, on any machine.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from support import engine_jobs
from support.host_reads import HostReads
from support.small_networks import VIT_SIDE, pixels, small_cnn, small_vit
from torch import Tensor

from dix.bench.run.evaluate import evaluate
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.cli.config import composed, options
from dix.cli.construct import many
from dix.explainer import Explainer
from dix.passes import Passes

#: Methods that have to ask, with the most reads and why.
ASKING = {
    "ac": (1, "whether a map that should hold for ties does"),
    "lift": (1, "whether the terms add up"),
    "xrai": (4, "regions are cut and ranked on the processor"),
    "smooth_grad": (4, "noise is drawn on the processor, which has to know for which images and samples of a group"),
}
#: Guided IG's steps end when no image has a feature left to move (Algorithm 1); RISE draws each mask on the processor;
#: each of BEE's draws follows from what came of those before; ViT-CX's masks are clusters, as many as there are.
DATA_DECIDES = {"gig", "rise", "bee", "vit_cx"}
DEVICE = os.environ.get("DIX_TEST_DEVICE", "cpu")
#: Last counts: a class's plain form comes after its variants.
CHOSEN = [name for name in sorted(options("method"), key=len, reverse=True) if name != "score_cam"]
#: Few steps are enough to see what a step does.
FEW = {"steps": 3, "samples": 3, "masks": 8}
#: One of each class, the deepest DIX among them, with few steps.
METHODS: dict[str, Explainer] = {
    name: dataclasses.replace(method, **{key: value for key, value in FEW.items() if hasattr(method, key)})
    for name, method in {
        type(method): (name, method)
        for name, method in many(composed([f"method=[{','.join(CHOSEN)}]"]).method, "method").items()
    }.values()
}


def networks(dtype: torch.dtype) -> dict[str, tuple[Classifier, int]]:
    return {"cnn": (small_cnn("resnet", dtype), 64), "vit": (small_vit(dtype), VIT_SIDE)}


def supported(kind: str, dtype: torch.dtype) -> tuple[Classifier, int, dict[str, Explainer]]:
    made, side = networks(dtype)[kind]
    return made, side, {name: method for name, method in METHODS.items() if not method.unsupported(made)}


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_maps_on_the_device_are_the_processors(kind: str) -> None:
    """In double precision: what is left are some thousands of roundings (1e-15 each), and divisions."""
    made, side, methods = supported(kind, torch.float64)
    images = pixels(2, side)
    here = {name: method.explain(Passes(made, images)) for name, method in methods.items()}
    made.to(DEVICE, torch.float64)
    for name, method in methods.items():
        there: Tensor = method.explain(Passes(made, images.to(DEVICE))).cpu()
        scale = float(here[name].abs().max())
        allowed = 1e-7 * scale + 1e-6 * here[name].abs()
        assert ((there - here[name]).abs() <= allowed).all(), name


def reads(method: Explainer, made: Classifier, side: int, count: int) -> int:
    images = pixels(count, side, torch.float32)
    with HostReads() as read:
        method.explain(Passes(made, images, chunk=64))
    return read.at.total()


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_a_method_asks_for_hardly_a_number_and_for_no_more_with_more_images(kind: str) -> None:
    """At most one read for each tail of a ViT, whose points of the path are counted on the processor anyway."""
    made, side, methods = supported(kind, torch.float32)
    for name in methods.keys() - DATA_DECIDES:
        methods[name].explain(Passes(made, pixels(1, side, torch.float32)))  # what a classifier prepares once
        few, many_images = (reads(methods[name], made, side, count) for count in (2, 4))
        assert few == many_images, name
        assert few <= ASKING.get(name, (4 if kind == "vit" else 0, ""))[0], name


def test_scoring_asks_for_no_more_with_more_images(tmp_path: Path) -> None:
    """A batch's rows cross to the host once for each metric and method, not once for each image."""

    def of_a_batch(count: int) -> int:
        job = engine_jobs.job(dataset=engine_jobs.Made(count), batch_size=count)
        evaluate(job, ResultStore(tmp_path / f"warm{count}"))
        with HostReads() as read:
            evaluate(job, ResultStore(tmp_path / str(count)))
        print(read.at)
        return read.at.total()

    assert of_a_batch(3) == of_a_batch(6)
