"""`dix.explain`: maps of images at hand, from the path on which scores are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dix.api.explanations import Explanation, Explanations
from dix.api.images import Picture, pictures
from dix.api.parts import folders, model_of, several
from dix.bench.run.batch import Prepared, maps, prepare
from dix.bench.run.job import Job
from dix.classifier import Classifier
from dix.cli.construct import Given
from dix.cli.given import job_here, ordinary
from dix.cli.options import search_path
from dix.cli.targets import Target, output_of
from dix.datasets.loader import Batch
from dix.explainer import Explainer
from dix.models.wrap import wrap


def explain(
    model: str | Classifier | nn.Module,
    images: Any,
    method: str | Explainer | Callable[..., Any] = "dix3",
    target: Target | Sequence[Target] | None = None,
    config_dir: str | Path | None = None,
) -> Explanations:
    """Which parts of images a network's answer rests on.

    May be called within `torch.no_grad()` and `torch.inference_mode()`. A classifier stays on its device. Nothing is
    stored.

    Args:
        model: A name of `dix list model`, a classifier (`dix.wrap`), or a bare network, which then takes pixels in
            [0, 1] as they are.
        images: One or several of: paths, PIL images, arrays [H, W, 3] or [H, W] (8 bits, or numbers in [0, 1]),
            tensors [3, H, W], [1, H, W] or [B, ...] in [0, 1]. Their size is the network's own afterwards; the
            normalisation is the classifier's business.
        method: A name of `dix list method`, a method, or a function f(model, images, targets) -> maps.
        target: The class to explain, a label or a name, one for all images or one for each; None: the predicted one.
        config_dir: A folder of your own configurations.

    Returns:
        The maps [B, S, S] at the network's input size, larger where more relevant, with what they explain.

    Raises:
        ValueError: It says what is wrong with an argument, or why the method cannot explain the network.

    Examples:
        >>> import dix, numpy
        >>> maps = dix.explain("lenet5", numpy.zeros((32, 32)), method="gc", target=3)
        >>> maps.maps.shape, maps[0].label
        ((1, 32, 32), 'class 3')
    """
    with ordinary():
        classifier = _classifier(model, images)
        own = folders(config_dir)
        words, given = several(method, "method")
        model_words, known = model_of(classifier)
        base = ["metric=[]", "dataset=photos", *search_path(own)]
        job = job_here([*model_words, *words, *base], Given(model=known, methods=given))
        name = _only(job)
        found = pictures(images, job.preprocess)
        targets = _targets(job.classifier, target, len(found))
        return Explanations(tuple(_explained(job, name, found, targets)), job.methods[name].label)


def _classifier(model: str | Classifier | nn.Module, images: Any) -> str | Classifier:
    """A bare network is wrapped for the size of the images that it is shown."""
    if not isinstance(model, nn.Module):
        return model
    side = images.shape[-1] if isinstance(images, Tensor) else 224
    return wrap(model, size=int(side))


def _only(job: Job) -> str:
    """The job's one method, if it can explain the model. Raises ValueError where it cannot, or there are several."""
    if len(job.methods) != 1:
        raise ValueError(f"method: expected one, got {', '.join(job.methods) or 'none'}")
    [name] = job.methods
    reason = job.unsupported().get(name)
    if reason:
        raise ValueError(f"method: {name} cannot explain {job.classifier.name}: {reason}")
    return name


def _explained(job: Job, name: str, found: Sequence[Picture], targets: Sequence[int | None]) -> list[Explanation]:
    """All pictures, some together at a time."""
    size, done = job.run.batch_size, []
    for start in range(0, len(found), size):
        part = found[start : start + size]
        batch = _batch(part)
        prepared = _prepared(job, batch, targets[start : start + size])
        values = maps(job.methods[name], prepared.passes, job.protocol.map_resize).values.cpu().numpy()
        chosen = prepared.passes.targets.tolist()
        shares = job.classifier.probabilities(prepared.passes.logits.double())
        for row, (picture, output) in enumerate(zip(part, chosen, strict=True)):
            label, share = job.classifier.class_name(output), float(shares[row, output])
            done.append(Explanation(picture.name, values[row], picture.photo, label, output, share))
    return done


def _prepared(job: Job, batch: Batch, targets: Sequence[int | None]) -> Prepared:
    """The clean pass; the predicted class stands for a target that is None."""
    wanted = torch.tensor([-1 if output is None else output for output in targets])
    first = prepare(job, batch, targets=None if bool((wanted < 0).all()) else wanted)
    for name, silent in zip(batch.ids, first.silent, strict=True):
        if silent:
            raise ValueError(f"{name}: {silent}")
    return first


def _batch(part: Sequence[Picture]) -> Batch:
    count = len(part)
    pixels = torch.stack([picture.pixels for picture in part])
    labels, masked = torch.full((count,), -1), torch.zeros(count, dtype=torch.bool)
    return Batch(tuple(picture.name for picture in part), pixels, labels, None, masked, [""] * count)


def _targets(classifier: Classifier, target: Target | Sequence[Target] | None, images: int) -> list[int | None]:
    """For each image the output to explain, or None for all."""
    if target is None:
        return [None] * images
    given = [target] * images if isinstance(target, int | str | np.integer) else list(target)
    if len(given) != images:
        raise ValueError(f"target: expected one class, or one for each of {images} images, got {len(given)}")
    return [output_of(classifier, each) for each in given]
