"""Which class of a prediction is scored: apart from the class that is explained, and from what counts as a hit."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from dix.metrics.answers import probabilities
from dix.metrics.api import ImageBatch, Prediction, Trace
from dix.metrics.options import Hit, Output, ScoreClass, choose


def reference_class(batch: ImageBatch, hit: Hit) -> Tensor:
    """The class that counts as a hit: [B].

    hit: "label" is the data set's label, and the class predicted for the unmasked image where there is none;
    "predicted" is the class predicted for the unmasked image.
    """
    return scored_class(batch, hit)


def scored_class(batch: ImageBatch, which: ScoreClass) -> Tensor:
    """The class whose probability is scored: [B].

    which: "explained" is the class that the maps explain; "label" and "predicted" as in `reference_class`.
    """
    choose("protocol.score_class", which, get_args(ScoreClass))
    if which == "explained":
        return batch.targets
    if which == "predicted":
        return batch.clean.predicted
    return torch.where(batch.labels >= 0, batch.labels, batch.clean.predicted)


def reading(batch: ImageBatch, said: Prediction | Trace, which: ScoreClass, output: Output = "softmax") -> Tensor:
    """The scored class's probability ("softmax") or logit: [B] of a prediction about the batch, [B, V] of a trace.

    Where the network does not answer there is no class, and the logits say so: NaN.
    Raises ValueError where that needs logits which the prediction does not hold.
    """
    choose("protocol.sic_output", output, get_args(Output))
    if which == "explained" and output == "softmax":
        return said.probability
    if said.logits is None:
        raise ValueError(f"protocol.score_class: {which!r} with output {output!r} needs a model that gives all logits")
    values = probabilities(said.logits, said.independent) if output == "softmax" else said.logits
    classes = scored_class(batch, which).clamp(min=0).view(-1, *[1] * (values.ndim - 1))
    return values.gather(-1, classes.expand(*values.shape[:-1], 1)).squeeze(-1)
