"""LibraGrad: gradients of a Vision Transformer whose terms add up to the logit (Mehri et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from dix.baselines.backward import COMMON, Changed, Rule, constant
from dix.baselines.blocks import block_names, lacks_alike_blocks, on_patches, tokens_given
from dix.baselines.complete import incomplete, kept
from dix.baselines.fullgrad import EXPLICIT, BiasTap
from dix.baselines.operations import Operation, forms
from dix.classifier import Classifier
from dix.passes import Passes, halving

Layers = Literal["all", "first"]

#: Attention is held fixed; what it mixes is not.
LIBRA: Mapping[Operation, Rule] = {**COMMON, **dict.fromkeys(forms("softmax"), constant)}


class Terms(NamedTuple):
    """Terms of the logit. inputs: [B, blocks, T], x df/dx of the tokens that each block is given, summed over channels.

    biases: [B, T], b df/db of all biases behind them that a token has. rest: [B], of those that no token has.
    """

    inputs: Tensor
    biases: Tensor
    rest: Tensor


@dataclass(frozen=True)
class LibraGrad:
    """Libra FullGrad+ (Mehri et al. 2025, Sec. 2 and 3.5): sum over blocks of x df/dx, plus b df/db of all biases.

    x are the tokens that a block is given; both are summed over channels, token by token, and signed. df/d is the
    gradient of the logit while attention, the gates of activations (GELU(x) is x times its gate) and the divisors of
    layer norms are held fixed, and a product of two branches gives each half: with these the first block's x df/dx and
    the biases add up to the logit, which plain gradients of a Transformer do not. About 2 F beside the clean pass.

    layers: "all", FullGrad+; "first": the first block's x alone, which is the paper's FullGrad and complete. The
    paper's code adds the position embedding to x, as here. Biases that belong to no token (the head's) are in the sum
    but not in the map. Maps are NaN where the terms miss more than 1 % of the logit, and such networks are refused.
    """

    version: ClassVar[int] = 1
    layers: Layers = "all"
    label: str = "LibraGrad"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.layers not in ("all", "first"):
            raise ValueError(f"layers: expected all or first, got {self.layers!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""; runs the network on two images."""
        return lacks_alike_blocks(classifier) or incomplete(self, classifier)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch."""
        terms = passes.get(LibraTerms())
        inputs = terms.inputs.sum(dim=1) if self.layers == "all" else terms.inputs[:, 0]
        return kept(on_patches(passes, inputs + terms.biases), self.residual(passes), passes)

    def residual(self, passes: Passes) -> Tensor:
        """[B] sum of the complete decomposition's terms less the target's logit: zero, up to rounding."""
        terms = passes.get(LibraTerms())
        return terms.inputs[:, 0].sum(dim=1) + terms.biases.sum(dim=1) + terms.rest - passes.score(passes.logits)


@dataclass(frozen=True)
class LibraTerms:
    """The terms of the target's logit, one forward and one backward pass for all of them."""

    def compute(self, passes: Passes) -> Terms:
        """Raises NotImplementedError for an operation that has no rule."""
        return halving(lambda chunk: self._computed(passes, chunk), passes.chunk)

    def _computed(self, passes: Passes, chunk: int) -> Terms:
        images = torch.arange(len(passes.images), device=passes.images.device)
        parts = [_terms(passes, part) for part in images.split(max(1, chunk))]
        return Terms(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _terms(passes: Passes, images: Tensor) -> Terms:
    classifier = passes.classifier
    biases: list[Tensor] = []
    blocks = block_names(classifier)
    with (
        torch.enable_grad(),
        tokens_given(classifier.network, blocks) as given,
        Changed(LIBRA),
        BiasTap(EXPLICIT, lambda term, channel: biases.append(term.sum(dim=channel))),
    ):
        logits = classifier.logits(passes.images[images])
    if len(images) == given[0].shape[1] > 1:  # [T, B] and [B, T] would look alike
        both = (_terms(passes, part) for part in images.split((len(images) + 1) // 2))
        return Terms(*(torch.cat(each) for each in zip(*both, strict=True)))
    found = torch.autograd.grad(passes.score(logits, images).sum(), given)
    inputs = torch.stack([(x * g).sum(dim=2) for x, g in zip(given, found, strict=True)], dim=1).detach()
    shape = inputs[:, 0].shape
    biases = [term.T if term.shape == shape[::-1] else term for term in biases]  # nn.MultiheadAttention's are [T, B]
    on_tokens = [term for term in biases if term.shape == shape]
    others = [term.reshape(len(term), -1).sum(dim=1) for term in biases if term.shape != shape]
    return Terms(inputs, sum(on_tokens, torch.zeros_like(inputs[:, 0])), sum(others, inputs[:, 0, 0].mul(0)))
