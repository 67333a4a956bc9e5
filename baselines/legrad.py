"""LeGrad: how sensitive each block's own answer is to its attention (Bousselham et al., ICCV 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dix.baselines.attention import lacks_attention
from dix.baselines.blocks import block_names, lacks_batch_first
from dix.capture import capturing
from dix.classifier import Classifier
from dix.look import output_shapes
from dix.maps import grid
from dix.passes import Passes, halving


@dataclass(frozen=True)
class LeGrad:
    """LeGrad (Bousselham et al. 2025, Sec. 3): the mean over blocks l, heads and queries of ReLU(ds_l / dA_l).

    s_l is the target's logit where the network's last normalisation and head read z_l, the mean of all tokens that
    block l returns, instead of what its last block returns. So each block is asked for what the answer would be if the
    network ended there, and gradients never run through more than one block. Of the keys' values, those of the patches
    are the map; it is never negative. About 1.7 F beside the clean pass: a forward pass, and of the backward pass what
    lies between each block's output and its attention.

    start_layer: the first block of the mean, counted from 0. The paper takes all blocks; its published code, made for
    CLIP, by default the last two, and cosines of features instead of logits. The paper's other form, for networks
    whose tokens are pooled by a query, is not here: such networks are refused.
    """

    version: ClassVar[int] = 1
    start_layer: int = 0
    label: str = "LeGrad"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.start_layer < 0:
            raise ValueError(f"start_layer: expected the index of a block, from 0, got {self.start_layer}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if reason := lacks_attention(classifier) or lacks_batch_first(classifier):
            return reason
        if self.start_layer >= len(classifier.attention_layers):
            return f"has {len(classifier.attention_layers)} blocks, none with index start_layer={self.start_layer}"
        blocks = block_names(classifier)
        shapes = output_shapes(classifier.network, classifier.input_size, blocks)
        if any(len(shape) != 2 for shape in shapes.values()) or len({shape[-1] for shape in shapes.values()}) > 1:
            return "needs blocks that return tokens of equal channels, which its head can read one like another"
        return "layers of the model are blocks without their first tokens" if {*blocks} & {*classifier.layouts} else ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch."""
        return halving(lambda chunk: self._explained(passes, chunk), passes.chunk)

    def _explained(self, passes: Passes, chunk: int) -> Tensor:
        images = torch.arange(len(passes.images), device=passes.images.device)
        values = torch.cat([self._values(passes, part) for part in images.split(max(1, chunk))])
        return grid(values, passes.size)

    def _values(self, passes: Passes, images: Tensor) -> Tensor:
        """[b, patches] of some images."""
        classifier = passes.classifier
        blocks, layers = (names[self.start_layer :] for names in (block_names(classifier), classifier.attention_layers))
        with torch.enable_grad(), capturing(classifier.network, [*layers, *blocks]) as captured:
            classifier.logits(passes.images[images])
        like, found = captured[blocks[-1]], []
        for (_, column), block, layer in zip(self._places(classifier), blocks, layers, strict=True):
            score = self._score(passes, images, captured[block], like)
            [gradient] = torch.autograd.grad(score.sum(), [captured[layer]])
            found.append(gradient.relu().mean(dim=(1, 2))[:, classifier.prefix_tokens - column :])
        return torch.stack(found).mean(dim=0)

    def _score(self, passes: Passes, images: Tensor, tokens: Tensor, like: Tensor) -> Tensor:
        """s [b]: the target's logit where every token [b, T, C] that the last block returns is the mean of `tokens`."""
        last = block_names(passes.classifier)[-1]
        with torch.enable_grad():
            feature = tokens.mean(dim=1, keepdim=True).expand(-1, like.shape[1], -1)
            logits = passes.classifier.tail(last).logits(feature, passes.context(last), images)
            return passes.score(logits, images)

    def _places(self, classifier: Classifier) -> tuple[tuple[int, int], ...]:
        """The first row and column of each block's matrices among all tokens."""
        places = classifier.attention.places if classifier.attention else ()
        return (places or ((0, 0),) * len(classifier.attention_layers))[self.start_layer :]
