"""TokenTM: attention weighed by how much each token is transformed before it is mixed (Wu et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dix.baselines.blocks import block_names, lacks_alike_blocks, on_patches
from dix.baselines.operations import forms
from dix.classifier import Classifier
from dix.look import spotted
from dix.passes import Passes, halving
from dix.split import module_named

SUMS = forms("add", "__add__", "__radd__")


class Parts(NamedTuple):
    """Tokens [B, T, C] around the two parts of a block: what each part reads from the skip connection, and adds to it.

    mixed: what attention adds. settled: the tokens with that added. passed: what the second part adds.
    """

    given: Tensor
    mixed: Tensor
    settled: Tensor
    passed: Tensor


class Weights(NamedTuple):
    """By block, how much attention's values [B, blocks, T] and the second part [B, blocks, T] transform each token.

    lengths: [B, T] of the tokens that the first block is given.
    """

    attention: Tensor
    second: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class TokenTm:
    """TokenTM (Wu et al. 2024): R = (I + W2_B)(I + T_B) ... (I + W2_1)(I + T_1) L_1, the row of CLS.

    T_b = mean over heads of A_b, its columns times W1_b, times the mean over heads of ReLU(dA_b); L_1 are the lengths
    of the first block's tokens. A token x that a part of a block transforms to y has W = |y| / |x| times
    NECC = exp(cos(x, y)) / sum over tokens of exp(cos(x, y)). For attention, y is what its weights mix (the token's
    value, projected as the block adds it: what it returns where each token attends to itself alone); for the part
    behind it, what that adds. About 2 F beside the clean pass and its gradient: the blocks run twice.

    No code by the paper's authors was found. LibraGrad's authors, who compare with TokenTM, take for y the sum on the
    skip connection behind each part (their `transform_TokenTM`); the identity in (I + T) is that skip, so that it would
    be counted twice. How heads and gradients are combined follows their code.
    """

    version: ClassVar[int] = 1
    label: str = "TokenTM"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""; runs the network on an image."""
        if reason := lacks_alike_blocks(classifier):
            return reason
        try:
            _weights(classifier, spotted(classifier.input_size)[:1].sigmoid().to(classifier.mean))
        except NotImplementedError as error:
            return str(error)
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch."""
        weights = passes.get(Transformations())
        row = torch.zeros_like(weights.lengths)
        row[:, list(passes.classifier.readout)] = 1 / len(passes.classifier.readout)
        for block, layer in reversed([*enumerate(passes.classifier.attention_layers)]):
            row = row + row * weights.second[:, block]
            attention, gradient = passes.activation(layer).mean(dim=1), passes.gradient(layer).relu().mean(dim=1)
            row = row + torch.einsum("bt,bts->bs", row, attention * gradient) * weights.attention[:, block]
        return on_patches(passes, row * weights.lengths)


@dataclass(frozen=True)
class Transformations:
    """How much each block transforms each token."""

    def compute(self, passes: Passes) -> Weights:
        """The weights of all blocks and images. Raises NotImplementedError for blocks of another kind."""
        return halving(lambda chunk: self._computed(passes, chunk), passes.chunk)

    def _computed(self, passes: Passes, chunk: int) -> Weights:
        parts = [_weights(passes.classifier, images) for images in passes.images.split(max(1, chunk))]
        return Weights(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _weights(classifier: Classifier, images: Tensor) -> Weights:
    watching = _Watching(classifier)
    with torch.no_grad(), watching.hooked(), watching:
        classifier.logits(images)
    clean, alone = watching.clean, watching.alone
    attention = torch.stack([_weight(one.given, other.mixed) for one, other in zip(clean, alone, strict=True)], dim=1)
    second = torch.stack([_weight(one.settled, one.passed) for one in clean], dim=1)
    return Weights(attention, second, clean[0].given.norm(dim=-1))


def _weight(before: Tensor, after: Tensor) -> Tensor:
    """W [B, T] of tokens [B, T, C] before and after a transformation."""
    length = before.norm(dim=-1).clamp(min=torch.finfo(before.dtype).tiny)
    return after.norm(dim=-1) / length * F.cosine_similarity(before, after, dim=-1).softmax(dim=-1)


@dataclass
class _Run:
    """The sums of tokens in one run of a block."""

    given: Tensor
    sums: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def parts(self, returned: object) -> Parts:
        """Raises NotImplementedError where the block is not two sums, each of what it has and what a part makes."""
        settled, mixed = self._added_to(self.given)
        end, passed = self._added_to(settled)
        if end is not returned:
            raise _unlike()
        return Parts(self.given, mixed, settled, passed)

    def _added_to(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The sum that has `tokens` as a term, and its other term."""
        found = [(total, b if a is tokens else a) for a, b, total in self.sums if a is tokens or b is tokens]
        if len(found) != 1:
            raise _unlike()
        return found[0]


def _unlike() -> NotImplementedError:
    return NotImplementedError(
        "needs blocks that add to their tokens what attention makes, then what one other part makes"
    )


class _Watching(TorchFunctionMode):
    """While entered, every block that runs is run again with attention of each token to itself, and both are noted."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.clean: list[Parts] = []
        self.alone: list[Parts] = []
        self.run: _Run | None = None
        self.again = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation, and note sums of tokens."""
        result = func(*args, **(kwargs or {}))
        if func in SUMS and self.run and _are_tokens(args, self.run.given):
            self.run.sums.append((args[0], args[1], result))
        return result

    def hooked(self) -> ExitStack:
        """Hooks on the blocks and on their attention, for as long as this is entered."""
        stack, network = ExitStack(), self.classifier.network
        for name in block_names(self.classifier):
            block = module_named(network, name)
            stack.enter_context(block.register_forward_pre_hook(self._enter))
            stack.enter_context(block.register_forward_hook(self._leave))
        for name in self.classifier.attention_layers:
            stack.enter_context(module_named(network, name).register_forward_hook(self._attend))
        return stack

    def _enter(self, _block: nn.Module, args: tuple[Any, ...]) -> None:
        if not args or not isinstance(args[0], Tensor):
            raise _unlike()
        self.run = _Run(args[0])

    def _leave(self, block: nn.Module, args: tuple[Any, ...], returned: object) -> None:
        assert self.run is not None
        (self.alone if self.again else self.clean).append(self.run.parts(returned))
        self.run = None
        if not self.again:
            self.again = True
            block(*args)
            self.again = False

    def _attend(self, _layer: nn.Module, _args: object, matrices: Tensor) -> Tensor | None:
        return torch.eye(matrices.shape[-1]).to(matrices).expand_as(matrices) if self.again else None


def _are_tokens(terms: Sequence[Any], like: Tensor) -> bool:
    return len(terms) == 2 and all(isinstance(term, Tensor) and term.shape == like.shape for term in terms)
