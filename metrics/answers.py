"""Predictions about many altered images, put together and laid out as traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dix.metrics.api import Prediction, Trace


def probabilities(logits: Tensor, independent: bool) -> Tensor:
    """Of logits [..., C]: each class's sigmoid, or the shares of a softmax."""
    return logits.sigmoid() if independent else logits.softmax(dim=-1)


def answer(logits: Tensor, targets: Tensor, independent: bool = False) -> Prediction:
    """What logits [M, C] say about targets [M], in single precision or better whatever the network's.

    independent: whether each class has a probability of its own.

    A row whose logits are not all finite says nothing: its numbers are NaN, its class -1.
    """
    wide = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
    silent = ~wide.isfinite().all(dim=1)
    wide = wide.masked_fill(silent[:, None], torch.nan)
    probability = probabilities(wide, independent).gather(1, targets[:, None])[:, 0]
    return Prediction(probability, wide.argmax(dim=1).masked_fill(silent, -1), wide, independent)


def together(said: Sequence[Prediction]) -> Prediction:
    """Several predictions as one, row after row; with logits where all of them have some."""
    probability, predicted, logits = zip(*((s.probability, s.predicted, s.logits) for s in said), strict=True)
    whole = _all(logits, lambda rows: torch.cat(tuple(rows)))
    return Prediction(torch.cat(probability), torch.cat(predicted), whole, said[0].independent)


def by_image(said: Prediction, levels: int) -> Trace:
    """Rows that hold all levels of one image, then all of the next: [B, V]."""
    return _laid_out(said, lambda rows: rows.unflatten(0, (-1, levels)))


def by_level(said: Prediction, images: int) -> Trace:
    """Rows that hold one level of all images, then the next level of all: [B, V]."""
    return _laid_out(said, lambda rows: rows.unflatten(0, (-1, images)).transpose(0, 1))


def beside(*traces: Trace) -> Trace:
    """Traces of the same images as one, level after level; what they measured besides is left behind."""
    probability, predicted, logits = zip(*((t.probability, t.predicted, t.logits) for t in traces), strict=True)

    def join(columns: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(columns), dim=1)

    return Trace(join(probability), join(predicted), logits=_all(logits, join), independent=traces[0].independent)


def chosen(where: Tensor, one: Prediction, other: Prediction) -> Prediction:
    """The rows of `one` where `where` [M] says so, and else of `other`."""
    logits = None
    if one.logits is not None and other.logits is not None:
        logits = torch.where(where.unsqueeze(1), one.logits.to(other.logits), other.logits)
    probability = torch.where(where, one.probability.to(other.probability), other.probability)
    return Prediction(probability, torch.where(where, one.predicted, other.predicted), logits, one.independent)


def _laid_out(said: Prediction, layout: Callable[[Tensor], Tensor]) -> Trace:
    logits = None if said.logits is None else layout(said.logits)
    return Trace(layout(said.probability), layout(said.predicted), logits=logits, independent=said.independent)


def _all(logits: Sequence[Tensor | None], join: Callable[[Sequence[Tensor]], Tensor]) -> Tensor | None:
    there = [part for part in logits if part is not None]
    return join(there) if len(there) == len(logits) else None
