"""Runs of a Vision Transformer while one block's attention matrices are replaced.

Only what is behind the replaced matrices runs once a path point. What is before them is the same at every point: it
runs once an image, and each point's gradient is pulled back through that one graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dix.capture import capturing, gradients
from dix.classifier import Classifier
from dix.passes import Passes, Score
from dix.split import Context, Split


class BlockAttention(NamedTuple):
    """One block's attention matrices [b, heads, T, T] and the gradient of the score by them."""

    attention: Tensor
    gradient: Tensor


def between_all(classifier: Classifier, blocks: Sequence[Tensor]) -> Tensor:
    """[M, blocks, T, T] between all tokens, of the last blocks' matrices [M, Q, K] as they lie among them.

    What a block does not see it leaves as it is: zeros.
    """
    places = classifier.attention.places if classifier.attention else ()
    if not places:
        return torch.stack(list(blocks), dim=1)
    places = places[len(places) - len(blocks) :]
    count = max(column + block.shape[-1] for (_, column), block in zip(places, blocks, strict=True))
    made = blocks[0].new_zeros(len(blocks[0]), len(blocks), count, count)
    for i, ((row, column), block) in enumerate(zip(places, blocks, strict=True)):
        made[:, i, row : row + block.shape[-2], column : column + block.shape[-1]] = block
    return made


def attention_runs(
    passes: Passes, block: int, times: Tensor, chunk: int, score: Score = "logit", source: int | None = None
) -> Iterator[tuple[int, slice, list[BlockAttention]]]:
    """Every block's attention and gradient while `block` returns t times the attention of block `source`.

    block: index of the block, 0 for the first. times: [points] the values of t. source: None for `block` itself.
    chunk: the most rows (images times points) behind the block at once. score: what is differentiated.
    Yields the index of a point, the images of a group, and their blocks' attention, first block first.
    """
    names = passes.classifier.attention_layers
    injected = passes.activation(names[block if source is None else source])
    for first in range(0, len(injected), max(1, chunk)):
        images = slice(first, min(first + max(1, chunk), len(injected)))
        before = _Before(passes, block, images)
        count = images.stop - images.start
        for points in torch.arange(len(times)).split(max(1, chunk // count)):
            r = torch.cat([time * injected[images] for time in times[points.to(times.device)]])
            behind = _Behind(passes, block, images, r, before.context, score)
            for i, point in enumerate(points.tolist()):
                rows = slice(i * count, (i + 1) * count)
                yield point, images, [*before.pull(behind.incoming(rows)), *behind.blocks(rows)]


class _Before:
    """The blocks before `block` for some images, with the graph from their attention to what `block` reads."""

    def __init__(self, passes: Passes, block: int, images: slice) -> None:
        classifier = passes.classifier
        names = classifier.attention_layers
        pixels = classifier.normalise(passes.images[images])
        with capturing(classifier.network, names[:block]) as captured:
            _, self.context = classifier.tail(names[block]).record(pixels, graph=True)
        self.attention = [captured[name] for name in names[:block]]

    def pull(self, incoming: Sequence[Tensor]) -> list[BlockAttention]:
        """The blocks' attention with its gradient, given the score's gradients by the context's tensors."""
        if not self.attention:
            return []
        outputs = list(self.context.kept.values())
        found = torch.autograd.grad(outputs, self.attention, incoming, retain_graph=True)
        return [BlockAttention(a.detach(), g) for a, g in zip(self.attention, found, strict=True)]


class _Behind:
    """The network from `block`'s attention to the score, run and differentiated for some rows, points outermost."""

    def __init__(self, passes: Passes, block: int, images: slice, r: Tensor, context: Context, score: Score) -> None:
        tail: Split = passes.classifier.tail(passes.classifier.attention_layers[block])
        points = len(r) // (images.stop - images.start)
        kept = {i: torch.cat([value.detach()] * points).requires_grad_() for i, value in context.kept.items()}
        row_images = torch.arange(images.start, images.stop, device=r.device).repeat(points)
        later = passes.classifier.attention_layers[block + 1 :]
        with torch.enable_grad(), capturing(passes.classifier.network, later) as captured:
            logits = tail.logits(r.requires_grad_(), Context(kept))
            total = passes.score(logits, row_images, score).sum()
        self.attention = [r.detach(), *(captured[name].detach() for name in later)]
        found = gradients(total, [*kept.values(), r, *(captured[name] for name in later)])
        self.kept_gradients, self.gradients = found[: len(kept)], found[len(kept) :]

    def incoming(self, rows: slice) -> list[Tensor]:
        """The score's gradients by what the blocks before hand over."""
        return [g[rows] for g in self.kept_gradients]

    def blocks(self, rows: slice) -> list[BlockAttention]:
        """Attention and gradient of `block` and of those behind it."""
        return [BlockAttention(a[rows], g[rows]) for a, g in zip(self.attention, self.gradients, strict=True)]
