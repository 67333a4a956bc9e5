"""Grad-ECLIP: the class token's gradient with the values it could have attended to (Zhao et al., ICML 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dix.baselines.attention import lacks_attention
from dix.baselines.blocks import on_patches
from dix.baselines.operations import forms
from dix.classifier import Classifier
from dix.look import spotted
from dix.maps import min_max
from dix.passes import Passes, halving
from dix.split import module_named

PRODUCTS = forms("matmul", "__matmul__", "bmm")


@dataclass(frozen=True)
class GradEclip:
    """Grad-ECLIP (Zhao et al. 2024, Sec. 3): patch i gets ReLU(sum over channels c of w_c lambda_i v_ic).

    All of the last block: w is the gradient of the target's logit by what its heads gather for the class token, before
    they are projected; v_i are patch i's values in all heads; lambda_i, the paper's loosened attention, is the cosine
    of the class token's query and patch i's key over all heads, scaled to [0, 1] over the image's patches, in place of
    a softmax, which leaves most patches nothing. About 1 F beside the clean pass.

    The published code, made for CLIP, runs the last block with one head instead of the network's own and takes the
    cosine behind the output projection. Here the network stays what it is, and queries and keys meet as they do in it.
    """

    version: ClassVar[int] = 1
    label: str = "Grad-ECLIP"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""; runs the network on an image."""
        if reason := lacks_attention(classifier):
            return reason
        if classifier.readout != (0,) or not classifier.prefix_tokens:
            return "needs a class token that its head reads"
        try:
            self.explain(Passes(classifier, spotted(classifier.input_size)[:1].sigmoid().to(classifier.mean)))
        except NotImplementedError as error:
            return str(error)
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch. Raises NotImplementedError where the last attention is of another kind."""
        values = halving(lambda chunk: self._explained(passes, chunk), passes.chunk)
        return on_patches(passes, values)

    def _explained(self, passes: Passes, chunk: int) -> Tensor:
        images = torch.arange(len(passes.images), device=passes.images.device)
        return torch.cat([self._values(passes, part) for part in images.split(max(1, chunk))])

    def _values(self, passes: Passes, images: Tensor) -> Tensor:
        """[b, T], of which only the patches' values are meant."""
        watching = _Watching(passes.classifier)
        with torch.enable_grad(), watching.hooked(), watching:
            logits = passes.classifier.logits(passes.images[images])
        query, keys, values, mixed = watching.last()
        [gradient] = torch.autograd.grad(passes.score(logits, images).sum(), [mixed])
        before = passes.classifier.prefix_tokens
        cosine = F.cosine_similarity(_joined(query)[:, :1], _joined(keys), dim=2)
        loosened = torch.cat([cosine[:, :before], min_max(cosine[:, before:])], dim=1)
        return ((_joined(gradient)[:, :1] * _joined(values)).sum(dim=2) * loosened).relu()


def _joined(heads: Tensor) -> Tensor:
    """[B, T, heads C] of [B, heads, T, C]."""
    return heads.transpose(1, 2).flatten(2).detach()


class _Watching(TorchFunctionMode):
    """While entered, note the products of matrices in the last attention; what it mixes becomes a leaf of the graph."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.inside = False
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        result = func(*args, **(kwargs or {}))
        if not self.inside or func not in PRODUCTS:
            return result
        if len(self.found) == 1:
            result = result.detach().requires_grad_(torch.is_grad_enabled())
        self.found.append((args[0], args[1], result))
        return result

    def hooked(self) -> ExitStack:
        """Hooks on the module that computes the last attention, for as long as this is entered."""
        stack = ExitStack()
        module = module_named(self.classifier.network, self.classifier.attention_layers[-1].rpartition(".")[0])
        stack.enter_context(module.register_forward_pre_hook(lambda *_: self._step(True)))
        stack.enter_context(module.register_forward_hook(lambda *_: self._step(False)))
        return stack

    def _step(self, inside: bool) -> None:
        self.inside = inside

    def last(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values and what is mixed of them [B, heads, T, C].

        Raises NotImplementedError where these are not the factors of two products.
        """
        if len(self.found) == 2 and all(len(each.shape) == 4 for pair in self.found for each in pair):
            (query, keys, scores), (shares, values, mixed) = self.found
            if scores.shape == shares.shape and scores.shape[-1] == scores.shape[-2]:
                return query, keys.transpose(-2, -1), values, mixed
        raise NotImplementedError("needs a last block whose attention is one product of queries and keys, by heads")
