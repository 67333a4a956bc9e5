"""Show a Vision Transformer some of an image's patches and never feed it the others (Jain et al. 2022).

The class and other prefix tokens and the patches that are shown keep their own position embeddings and go through the
blocks alone, so nothing stands in the place of what is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dix.classifier import Classifier
from dix.seeding import generator

#: timm's module behind the position embeddings and before the first block: all tokens pass through it.
GATE = "patch_drop"
#: Largest difference of logits that ought to be equal, relative to the largest logit.
TOLERANCE = 1e-5


def patch_grid(classifier: Classifier) -> tuple[int, int] | None:
    """Rows and columns of the patches that an image is taken apart into; None where none could be left out."""
    network = classifier.network
    size = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if classifier.kind != "vit" or size is None or not isinstance(getattr(network, GATE, None), nn.Module):
        return None
    return int(size[0]), int(size[1])


@contextmanager
def showing(classifier: Classifier, kept: Tensor | None) -> Iterator[None]:
    """Within the block the network sees these patches alone: [M, n] by number, row by row; None shows them all."""
    grid = patch_grid(classifier)
    if kept is None or grid is None:
        yield
        return
    rows = torch.arange(len(kept), device=kept.device).unsqueeze(1)

    def gate(_module: nn.Module, _arguments: object, tokens: Tensor) -> Tensor:
        first = tokens.shape[1] - grid[0] * grid[1]
        return torch.cat([tokens[:, :first], tokens[rows, first + kept]], dim=1)

    handle = classifier.network.get_submodule(GATE).register_forward_hook(gate)
    try:
        yield
    finally:
        handle.remove()


def cannot_leave_out(classifier: Classifier) -> str:
    """Why a network cannot do without some of its patches, found out by trying on an image of noise; "" where it can.

    Leaving out nothing must give the ordinary logits. With half of the patches left out the blocks must see so many
    tokens fewer, and what the missing pixels are must not matter.
    """
    grid = patch_grid(classifier)
    if grid is None:
        kind = "a CNN, which convolves over the whole picture" if classifier.kind == "cnn" else "no Transformer of timm"
        return f"it is {kind}: it has no patch tokens that could be left out"
    images, count = _noise(classifier), grid[0] * grid[1]
    drawn = torch.randperm(count, generator=generator(0, "patches")).to(images.device)
    half = drawn[: count // 2].sort().values
    whole, all_tokens = _seen(classifier, images, None)
    everything, _ = _seen(classifier, images, drawn.sort().values)
    if not _alike(everything, whole):
        return "with no patch left out it gives other logits than it does ordinarily"
    some, tokens = _seen(classifier, images, half)
    if tokens != all_tokens - count + len(half):
        return f"its blocks see {tokens} tokens where {len(half)} patches are shown"
    changed, _ = _seen(classifier, torch.where(_pixels_of(half, grid, images), images, 1 - images), half)
    return "" if _alike(changed, some) else "its logits depend on the pixels of patches that are left out"


def _noise(classifier: Classifier) -> Tensor:
    side = classifier.input_size
    return torch.rand(1, 3, side, side, generator=generator(0, "noise")).to(classifier.mean)


def _seen(classifier: Classifier, images: Tensor, kept: Tensor | None) -> tuple[Tensor, int]:
    """Logits [1, K] of an image of which the patches `kept` [n] are shown, and how many tokens the first block saw."""
    tokens: list[int] = []
    first = classifier.network.get_submodule("blocks.0")
    handle = first.register_forward_hook(lambda _m, arguments, _o: tokens.append(arguments[0].shape[1]))
    try:
        with torch.no_grad(), showing(classifier, None if kept is None else kept.unsqueeze(0)):
            logits = classifier.logits(images)
            return logits, tokens[0]
    finally:
        handle.remove()


def _pixels_of(kept: Tensor, grid: tuple[int, int], images: Tensor) -> Tensor:
    """The pixels of some patches, as a mask [1, 1, H, W]."""
    shown = torch.zeros(grid[0] * grid[1], dtype=torch.bool, device=kept.device)
    shown[kept] = True
    height, width = images.shape[-2] // grid[0], images.shape[-1] // grid[1]
    return shown.view(1, 1, *grid).repeat_interleave(height, dim=2).repeat_interleave(width, dim=3)


def _alike(one: Tensor, other: Tensor) -> bool:
    limit = TOLERANCE * float(other.abs().max().nan_to_num())
    return torch.allclose(one, other, rtol=0, atol=limit, equal_nan=True)
