"""Maps from the attention matrices of a Vision Transformer: GAE and attention rollout.

Both read what the clean pass has: attention matrices and their gradients cost no further pass of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from dix.attention import between_all
from dix.classifier import Classifier
from dix.explainer import Rollout
from dix.hierarchy import CarriedAttention, lacks_way
from dix.passes import Passes

Heads = Literal["mean", "max", "min"]

HEADS: Mapping[Heads, Callable[[Tensor], Tensor]] = {
    "mean": lambda a: a.mean(dim=1),
    "max": lambda a: a.amax(dim=1),
    "min": lambda a: a.amin(dim=1),
}


def lacks_attention(classifier: Classifier) -> str:
    """Why there are no attention matrices between all patches, or ""."""
    if classifier.kind == "vit":
        return ""
    return f"needs attention matrices between all patches; {classifier.lacks_attention or 'this model shows none'}"


@dataclass(frozen=True)
class Gae:
    """Generic Attention Explainability (Chefer et al. 2021b, Eq. 5 and 6, self-attention); 0 F beside the clean pass.

    R = I, then R <- R + E_b R block by block, with E_b = mean over heads of ReLU(dA_b A_b); the row of CLS. Unrolled,
    that is the product of (E_b + I), later blocks on the left.
    """

    version: ClassVar[int] = 1
    label: str = "GAE"
    extra: bool = False

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return lacks_attention(classifier)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch."""
        layers = passes.classifier.attention_layers
        e = [(passes.gradient(name) * passes.activation(name)).relu().mean(dim=1) for name in layers]
        return Rollout(normalise_rows=False).patches(passes, between_all(passes.classifier, e))


@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout (Abnar & Zuidema 2020, Eq. 1), the same for every class; 0 F beside the clean pass.

    The product of the row-normalised (A_b + I), later blocks on the left; the row of CLS. heads: how a block's heads
    become one matrix.
    """

    version: ClassVar[int] = 1
    heads: Heads = "mean"
    label: str = "Rollout"
    extra: bool = True

    def __post_init__(self) -> None:
        if self.heads not in HEADS:
            raise ValueError(f"heads: expected one of {', '.join(HEADS)}, got {self.heads!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return lacks_attention(classifier)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch."""
        a = [HEADS[self.heads](passes.activation(name)) for name in passes.classifier.attention_layers]
        return Rollout().patches(passes, between_all(passes.classifier, a))


@dataclass(frozen=True)
class CarriedGae:
    """GAE for hierarchies of attention: R <- R + E_b R, carried through windows, pooling and merging to the pixels.

    See `dix.hierarchy`; about 9 F beside the clean pass. On a plain Vision Transformer it is GAE, a patch's relevance
    shared by its pixels.
    """

    version: ClassVar[int] = 1
    label: str = "GAE-C"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        return lacks_way(classifier)

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps at the images' resolution."""
        return passes.get(CarriedAttention())
