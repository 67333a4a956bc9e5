"""DIX for hierarchies of attention: Swin, PVT, MaxViT, Hiera, MViT and whatever else multiplies a softmax with values.

GAE and DIX of a Vision Transformer multiply matrices (E_b + I) over one set of tokens. In a hierarchy each block has
tokens of its own, so the same products are taken by carrying a row of relevance backwards through the network's own
code (`dix.carrying`), from the logit to the pixels: R(E_1, ..., E_B). What came by skips alone, R(0, ..., 0), says
nothing of the image and is taken off, as the class token's own entry is in a Vision Transformer. The equations are in
docs/dix-hierarchical.md, with when to prefer the maps of `dix.explainer.Dix` over feature maps, the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from dix.attention import BlockAttention
from dix.capture import gradients
from dix.carrying import Carrying, Numbering, Seeing, explicit, origin
from dix.classifier import Classifier
from dix.explainer import NORMALISE, PROPOSED, PathIntegral
from dix.integrate import PHI, Phi, quadrature
from dix.look import spotted
from dix.passes import Passes, Score, halving
from dix.precision import evaluator


@dataclass(frozen=True)
class Reach:
    """Which products of attention with values are between places; those between channels only scale relevance; 2 F."""

    def compute(self, passes: Passes) -> tuple[int, ...]:
        """Indices of products, in their order. Raises NotImplementedError where relevance cannot be carried."""
        random = torch.rand(1, 1, *passes.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        numbers = random.expand(1, 3, -1, -1).to(passes.images.device).requires_grad_()
        with torch.enable_grad(), Numbering() as numbering, explicit():
            logits = evaluator(passes.classifier, "double")(numbers)
        _check(logits)
        return tuple(i for i, between in enumerate(numbering.between_places) if between)


def _check(logits: Tensor) -> None:
    """Raise NotImplementedError that names the first operation without a rule on the way to the logits."""
    if not logits.requires_grad:
        raise NotImplementedError(f"relevance cannot be carried back through {origin(logits).lost or 'the answer'}")


def attention_of(
    passes: Passes, images: Tensor, replaced: Mapping[int, Tensor] | None = None, score: Score = "logit"
) -> list[BlockAttention]:
    """Attention [...] of every product with values, with the score's gradient, first product first; 3 F.

    images: [b] indices. replaced: by a product's index, the matrices that are used instead of its attention. The first
    axes are the network's own (images, windows, heads), the last two queries and keys.
    """
    with torch.enable_grad(), Seeing(replaced) as seen, explicit():
        logits = passes.classifier.network(passes.classifier.normalise(passes.images[images]).requires_grad_())
    if not seen.found:
        return []
    found = gradients(passes.score(logits, images, score).sum(), seen.found)
    return [BlockAttention(a.detach(), g) for a, g in zip(seen.found, found, strict=True)]


class _Way:
    """The way back from the targets' logits to the pixels of some images, with matrices in place of attention.

    In double precision: what attention moves may be a millionth of what the skips carry.
    Raises NotImplementedError that names the first operation on the way that has no rule.
    """

    def __init__(self, passes: Passes, images: Tensor, matrices: Sequence[Tensor]) -> None:
        self.pixels = passes.classifier.normalise(passes.images[images]).double().requires_grad_()
        with torch.enable_grad(), Carrying(matrices) as self.carrying, explicit():
            logits = evaluator(passes.classifier, "double")(self.pixels)
        _check(logits)
        self.score = passes.score(logits, images).sum()

    def back(self, on: set[int]) -> Tensor:
        """Relevance [b, H, W] of the pixels, where the products `on` hand it on by their matrices."""
        self.carrying.on = on
        found = torch.autograd.grad(self.score, [self.pixels], retain_graph=True)
        return found[0].sum(dim=1)


def carried(passes: Passes, images: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """R(E) - R(0) [b, H, W] for matrices E, one for each product; 6 F, in double precision."""
    way = _Way(passes, images, matrices)
    return (way.back(set(range(len(matrices)))) - way.back(set())).to(passes.images.dtype)


def lacks_way(classifier: Classifier, count: int = 1) -> str:
    """Why relevance cannot be carried through `count` products with attention between places, or ""; 2 F."""
    passes = Passes(classifier, spotted(classifier.input_size)[:1].sigmoid().to(classifier.mean))
    try:
        found = len(passes.get(Reach()))
    except NotImplementedError as error:
        return str(error)
    if found >= count:
        return ""
    return f"needs {count} softmax attentions between places; this model shows {found or 'none'}"


@dataclass(frozen=True)
class CarriedAttention:
    """R(E) - R(0), E = the mean over steps of ReLU(phi(A(n), dA(n))) while one product's A runs from zero to itself.

    product: the index of that product; None: no path, the clean run alone (GAE's E).
    """

    product: int | None = None
    phi: Phi = "product"
    path: PathIntegral = field(default_factory=PathIntegral)

    def compute(self, passes: Passes) -> Tensor:
        """[B, H, W] relevance of the pixels."""
        return halving(lambda chunk: self._run(passes, chunk), passes.chunk)

    def _run(self, passes: Passes, chunk: int) -> Tensor:
        parts = torch.arange(len(passes.images), device=passes.images.device).split(max(1, chunk))
        return torch.cat([carried(passes, part, self._matrices(passes, part)) for part in parts])

    def _matrices(self, passes: Passes, images: Tensor) -> list[Tensor]:
        """E of every product."""
        clean = attention_of(passes, images)
        if self.product is None:
            return [self._weighted(run) for run in clean]
        total = [torch.zeros_like(run.attention) for run in clean]
        for t, weight in zip(*quadrature(self.path.rule, self.path.steps), strict=True):
            r = {self.product: (float(t) * clean[self.product].attention).requires_grad_()}
            for sums, run in zip(total, attention_of(passes, images, r, self.path.score), strict=True):
                sums += float(weight) * self._weighted(run)
        return total

    def _weighted(self, run: BlockAttention) -> Tensor:
        return PHI[self.phi](run.attention, run.gradient).relu()


@dataclass(frozen=True)
class CarriedDix:
    """DIX over the last `depth` attentions between places of a hierarchy: m = the mean of m^l, each over its maximum.

    m^l = R(E^l) - R(0), where E^l is gathered for all attentions of the network while attention l runs from zero to
    itself, as in a Vision Transformer (thesis Sec. 4.1). About depth (3 N + 9) F.
    """

    version: ClassVar[int] = 1
    role: ClassVar[str] = PROPOSED
    depth: int = 3
    phi: Phi = "product"
    path: PathIntegral = field(default_factory=PathIntegral)
    label: str = "DIX3-C"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth: expected at least 1, got {self.depth}")
        if self.phi not in PHI:
            raise ValueError(f"phi: expected one of {', '.join(PHI)}, got {self.phi!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return lacks_way(classifier, self.depth)

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps at the images' resolution."""
        products = passes.get(Reach())[-self.depth :]
        maps = [passes.get(CarriedAttention(product, self.phi, self.path)) for product in products]
        return torch.stack([NORMALISE["positive"](each) for each in maps]).mean(dim=0)
