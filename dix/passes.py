"""The evidence about a batch that explanation methods draw on, each piece computed at most once.

A method asks for a value (an activation, a gradient, a path integral) by describing it with a frozen dataclass. Two
methods that describe the same value get the same tensor: work is shared because it is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from dix.capture import capturing, gradients
from dix.classifier import Classifier
from dix.recording import Lean
from dix.seeding import generator
from dix.split import Context

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Score = Literal["logit", "probability"]


class Evidence(Protocol[T_co]):
    """A value about a batch, described by a hashable object that can compute it."""

    def __hash__(self) -> int: ...

    def compute(self, passes: Passes) -> T_co:
        """Compute the value; called once per batch.

        Args:
            passes: The batch.
        """
        ...


@dataclass(frozen=True)
class Captured:
    """One clean forward pass: logits [B, K] and what each layer returned, with the graph to differentiate them."""

    logits: Tensor
    activations: dict[str, Tensor]


class Passes:
    """A batch under explanation.

    Args:
        classifier: The network.
        images: [B, 3, S, S] pixels in [0, 1] on the classifier's device.
        targets: [B] outputs to explain; None: the predicted ones.
        ids: B image ids, which random numbers derive from; None: "0", "1", ...
        chunk: The largest number of rows (images times path points) in one forward pass of a tail or a path.
        seed: Of everything random.
        memo: Where evidence is kept once it is computed; None: a dictionary of its own.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        ids: Sequence[str] | None = None,
        chunk: int = 32,
        seed: int = 0,
        memo: MutableMapping[Hashable, Any] | None = None,
    ) -> None:
        self.classifier = classifier
        self.images = images
        self.ids = list(ids) if ids is not None else [str(i) for i in range(len(images))]
        self.chunk = chunk
        self.seed = seed
        self._targets = targets
        self._memo: MutableMapping[Hashable, Any] = {} if memo is None else memo

    def get(self, evidence: Evidence[T]) -> T:
        """The value that `evidence` describes; equal descriptions share it."""
        if evidence not in self._memo:
            self._memo[evidence] = evidence.compute(self)
        return self._memo[evidence]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, and so of finished maps."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def logits(self) -> Tensor:
        """[B, K] logits of the unaltered images."""
        return self.get(CLEAN).logits.detach()

    @cached_property
    def targets(self) -> Tensor:
        """[B] the outputs being explained."""
        return self.logits.argmax(dim=1) if self._targets is None else self._targets

    def explain_targets(self, targets: Tensor) -> None:
        """Set [B] the outputs to explain, before anything that depends on them was asked for."""
        assert "targets" not in self.__dict__, "the targets were asked for already"
        assert not set(self._memo) - {CLEAN}, "evidence about other targets exists already"
        self._targets = targets

    def score(self, logits: Tensor, rows: Tensor | None = None, kind: Score = "logit") -> Tensor:
        """[M] the target's logit or probability in logits [M, K]; `rows` [M] gives each row's image."""
        targets = self.targets if rows is None else self.targets[rows]
        values = self.classifier.probabilities(logits) if kind == "probability" else logits
        return values.gather(1, targets[:, None])[:, 0]

    def activation(self, layer: str) -> Tensor:
        """x [B, ...]: what `layer` (an alias or a module name) returns for the unaltered images."""
        name = self.classifier.layer(layer)
        return self.get(self._pass_of(name)).activations[name].detach()

    def gradient(self, layer: str) -> Tensor:
        """[B, ...] gradient of the target's logit by what `layer` returns."""
        name = self.classifier.layer(layer)
        return self.get(_Gradients(self._pass_of(name)))[name]

    def context(self, layer: str) -> Context:
        """What the tail of `layer` needs besides its activation."""
        tail = self.classifier.tail(layer)
        if tail.is_bottleneck:
            return Context()
        return self.get(_TailContext(self.classifier.layer(layer)))

    def generator(self, index: int, purpose: str) -> torch.Generator:
        """Random numbers for one image and purpose, the same in every batch, shard and run."""
        return generator(self.seed, self.ids[index], purpose)

    def noise(self, shape: Sequence[int], purpose: str) -> Tensor:
        """[B, *shape] uniform numbers in [0, 1), a stream of its own for each image."""
        rows = [torch.rand(*shape, generator=self.generator(i, purpose)) for i in range(len(self.ids))]
        return torch.stack(rows).to(self.images)

    def _pass_of(self, name: str) -> ForwardPass:
        """The pass that captures a layer: the clean one, or one of its own where the classifier does not name it."""
        return CLEAN if name in self.get(CLEAN).activations else ForwardPass((name,))


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass of the unaltered images that captures `layers`; none: all that the classifier names."""

    layers: tuple[str, ...] = ()

    def compute(self, passes: Passes) -> Captured:
        """The logits and activations, with the graph that leads from these to those."""
        classifier = passes.classifier
        layers = self.layers or dict.fromkeys([*classifier.layers.values(), *classifier.attention_layers])
        capture = capturing(classifier.network, list(layers), classifier.layouts)
        with torch.enable_grad(), Lean(), capture as activations:
            return Captured(classifier.logits(passes.images), activations)


#: The pass that every batch begins with.
CLEAN = ForwardPass()


@dataclass(frozen=True)
class _Gradients:
    """Gradients of the target's logit by everything that a forward pass captured."""

    forward: ForwardPass

    def compute(self, passes: Passes) -> dict[str, Tensor]:
        captured = passes.get(self.forward)
        found = gradients(passes.score(captured.logits).sum(), list(captured.activations.values()))
        return dict(zip(captured.activations, found, strict=True))


@dataclass(frozen=True)
class _TailContext:
    layer: str

    def compute(self, passes: Passes) -> Context:
        return passes.classifier.tail(self.layer).record(passes.classifier.normalise(passes.images))[1]


@dataclass(frozen=True)
class Rows:
    """Some path points of some images, to go through a network together, points outermost.

    points: [p] indices of path points. images: [b] indices of images. M = p * b rows.
    """

    points: Tensor
    images: Tensor

    @property
    def image_of_row(self) -> Tensor:
        """[M] the image of each row."""
        return self.images.repeat(len(self.points))

    def spread(self, values: Tensor) -> Tensor:
        """Per-point values [all points] as a tensor [p, 1, 1, ...] that broadcasts against [p, b, ...]."""
        return values[self.points].view(-1, *[1] * 4)


def rows(points: int, batch: int, chunk: int, device: torch.device) -> Iterator[Rows]:
    """Cut points x batch into groups of at most `chunk` rows, every image's points in order; nothing of no points."""
    if not points:
        return
    for images in torch.arange(batch, device=device).split(max(1, chunk)):
        for group in torch.arange(points, device=device).split(max(1, chunk // len(images))):
            yield Rows(group, images)


def halving(run: Callable[[int], T], chunk: int) -> T:
    """`run(chunk)`, with half the chunk as often as the device runs out of memory."""
    while True:
        try:
            return run(chunk)
        except torch.OutOfMemoryError:
            if chunk <= 1:
                raise
            chunk //= 2
            torch.cuda.empty_cache()
