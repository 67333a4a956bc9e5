"""Run only the part of a network that comes after a layer, with the network's own code.

Nothing is re-sliced or rewritten. A recording run notes which modules had finished when the layer returned. To run the
tail, those modules hand back what they returned before, the layer hands back the activation under study, and every
line of the network's own ``forward`` that lies behind the layer runs for real.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dix.layout import CHANNELS_FIRST, Layout


@dataclass(frozen=True)
class Context:
    """What the tail of a batch needs besides the layer's activation (nothing, where the layer is a bottleneck).

    kept: outputs of earlier modules that the tail reads, by their position in the recording, each [B, ...], whichever
        axis the modules keep the batch in.
    prefix: [B, p, C] what the layer itself returned that lies nowhere in the image (a class token), or None.
    """

    kept: dict[int, Tensor] = field(default_factory=dict)
    prefix: Tensor | None = None


@dataclass
class _Recording:
    """Calls that had finished, outermost only, when the layer returned; and what the layer returned.

    calls: modules with what they returned, as a tree. outputs: the tensors of these trees, one after another.
    """

    calls: list[tuple[nn.Module, object]]
    outputs: list[Tensor]
    activation: Tensor
    overwritten: bool


class Split:
    """The part of `network` after the module named `layer`.

    network: maps [M, 3, H, W] to logits [M, K]; its parameters are frozen.
    layer: a module's dotted name; the module runs once in a forward pass and returns one tensor.
    example: [1, 3, H, W] a normalised image to record the order of calls with.
    layout: how what the layer returns lies over the image; activations are taken and given in the form of its maps.

    Raises ValueError where the layer does not exist or does not return one tensor exactly once.
    """

    def __init__(self, network: nn.Module, layer: str, example: Tensor, layout: Layout = CHANNELS_FIRST) -> None:
        self.network = network
        self.layer = layer
        self.layout = layout
        self.module = module_named(network, layer)
        self.example = example[:1].detach()
        self._copies = False  # True where in-place code before the layer writes into what modules returned
        self._overwrites: tuple[bool, ...] = ()  # which replayed tensors in-place code behind the layer writes into
        recording = self._record(self.example)
        if recording.overwritten:
            self._copies = True
            recording = self._record(self.example)
        self.calls = [(module, with_tensors(tree, iter(()))) for module, tree in recording.calls]
        self.templates = list(recording.outputs)  # of one image
        self.second = tuple(map(_is_second, recording.outputs))
        self.needed = self._needed(recording)
        self.prefixed = layout.prefix(recording.activation) is not None

    @property
    def is_bottleneck(self) -> bool:
        """True where the activation alone determines the logits."""
        return not self.needed and not self.prefixed

    def record(self, images: Tensor, graph: bool = False) -> tuple[Tensor, Context]:
        """The activation [B, ...] of normalised images [B, 3, H, W], and the context of their tails.

        The network runs up to the layer and no further. graph: keep what is needed to differentiate the context.
        """
        recording = self._record(images, stop=True, graph=graph)
        kept = {i: self._turned(recording.outputs[i], i) for i in self.needed}
        raw, layout = recording.activation, self.layout
        return layout.to_map(raw), Context(kept, layout.prefix(raw))

    def logits(self, activation: Tensor, context: Context | None = None, rows: Tensor | None = None) -> Tensor:
        """Logits [M, K] of the network where the layer returned `activation` [M, ...].

        context: from `record`, for B images; may be left out where the layer is a bottleneck.
        rows: [M] the image of each row, 0..B-1; None: row i belongs to image i.
        """
        if not self.is_bottleneck and context is None:
            raise ValueError(f"layer {self.layer!r} is bypassed by other paths: its tail needs the images' context")
        prefix = context.prefix if context is not None else None
        raw = self.layout.to_raw(activation, prefix if prefix is None or rows is None else prefix[rows])
        return self._run(raw, self._replays(len(activation), context, rows), len(activation))

    def _record(self, images: Tensor, stop: bool = False, graph: bool = False) -> _Recording:
        with torch.set_grad_enabled(graph):
            return _record(self.network, self.module, self.layer, images, stop, self._copies)

    def _replays(self, count: int, context: Context | None, rows: Tensor | None) -> list[Tensor]:
        kept = context.kept if context is not None else {}
        found = []
        for i, template in enumerate(self.templates):
            one = self._turned(template, i)
            if i in kept:
                of_rows = kept[i] if rows is None else _of_images(kept[i], rows, len(one))
            else:
                of_rows = _repeated(one, count)
            found.append(self._turned(of_rows, i))
        return found

    def _turned(self, output: Tensor, index: int) -> Tensor:
        """What a module returned before the layer, with its batch in the first axis; and back again."""
        return output.transpose(0, 1) if self.second[index] else output

    def _run(self, activation: Tensor, replays: list[Tensor], count: int) -> Tensor:
        # The input itself is never looked at: what would have read it hands back its recorded output. It only has to
        # have the right number of images. A module that runs several times has one queue, in the order of its calls.
        dummy = self.example.to(activation).expand(count, *self.example.shape[1:])
        queues: dict[nn.Module, deque[object]] = {}
        values = [*replays, activation]
        safe = (v.clone() if o else v for v, o in zip(values, self._overwrites or [False] * len(values), strict=True))
        for module, tree in [*self.calls, (self.module, HOLE)]:
            queues.setdefault(module, deque()).append(with_tensors(tree, safe))
        with replaying(queues):
            return self.network(dummy)

    def _needed(self, recording: _Recording) -> tuple[int, ...]:
        """The recorded outputs that the logits depend on, found by differentiating the tail."""
        # A leaf that the logits do not depend on gets no gradient, whatever its value. The network runs on clones: code
        # that writes into a tensor raises the clone's version, which tells what must be copied before each replay.
        leaves = [output.detach().requires_grad_() for output in recording.outputs]
        shown = [leaf.clone() for leaf in [*leaves, recording.activation.detach().requires_grad_()]]
        with torch.enable_grad():
            logits = self._run(shown[-1], shown[:-1], 1)
        self._overwrites = tuple(tensor._version > 0 for tensor in shown)
        if not leaves or not logits.requires_grad:
            return ()
        grads = torch.autograd.grad(logits.sum(), leaves, allow_unused=True)
        return tuple(i for i, grad in enumerate(grads) if grad is not None)


def _of_images(kept: Tensor, images: Tensor, each: int) -> Tensor:
    """The rows of some images, of which each has `each` rows in `kept`, one image's after another's."""
    return kept[images] if each == 1 else kept.unflatten(0, (-1, each))[images].flatten(0, 1)


def _repeated(template: Tensor, count: int) -> Tensor:
    """One image's rows for `count` images."""
    if len(template) == 1:
        return template.expand(count, *template.shape[1:])
    return template.repeat(count, *[1] * (template.ndim - 1))


def module_named(network: nn.Module, name: str) -> nn.Module:
    """The submodule with that dotted name. Raises ValueError that lists names which exist."""
    try:
        return network.get_submodule(name)
    except AttributeError:
        near = [known for known, _ in network.named_modules() if known and known.count(".") <= 1]
        raise ValueError(
            f"no layer {name!r} in {type(network).__name__}; some that exist: {', '.join(near[:30])}"
        ) from None


@contextmanager
def replaying(queues: dict[nn.Module, deque[object]]) -> Iterator[None]:
    """Let each module return its queued outputs first and compute for real once its queue is empty."""
    with ExitStack() as stack:
        for module, queue in queues.items():
            stack.enter_context(_replayed_forward(module, queue))
        yield


@contextmanager
def _replayed_forward(module: nn.Module, queue: deque[object]) -> Iterator[None]:
    original = module.forward
    shadowed = module.__dict__.get("forward")

    def forward(*args: object, **kwargs: object) -> object:
        return queue.popleft() if queue else original(*args, **kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if shadowed is None:
            del module.__dict__["forward"]
        else:
            module.forward = shadowed


class _Call(NamedTuple):
    """A finished call: what the module returned, and how often that had been written into by then."""

    module: nn.Module
    output: object
    versions: list[int]


class _Reached(Exception):
    """The layer has returned: what comes after it need not run."""


def _record(network: nn.Module, module: nn.Module, name: str, images: Tensor, stop: bool, copies: bool) -> _Recording:
    """Run the network and note which outermost calls had finished when `module` returned.

    stop: end there. copies: keep what modules return as it was then, whatever is written into it later.
    """
    finished: list[_Call] = []
    starts: list[int] = []
    result: list[_Recording] = []

    def enter(_: nn.Module, args: object) -> None:
        starts.append(len(finished))

    def leave(caller: nn.Module, args: object, output: object) -> None:
        del finished[starts.pop() :]  # calls inside this one are part of it
        if caller is not module:
            tensors = tensors_in(output)
            kept = with_tensors(output, iter([t.clone() for t in tensors])) if copies else output
            finished.append(_Call(caller, kept, [t._version for t in tensors]))
        elif result:
            raise ValueError(f"layer {name!r} runs more than once in a forward pass")
        else:
            rows = int(getattr(network, "rows_per_image", 1))
            result.append(_finish(finished, output, name, len(images), rows))
            if stop:
                raise _Reached

    with ExitStack() as stack:
        for each in dict.fromkeys(network.modules()):
            if each is not network:
                stack.enter_context(each.register_forward_pre_hook(enter))
                stack.enter_context(each.register_forward_hook(leave))
        with suppress(_Reached):
            network(images)
    if not result:
        raise ValueError(f"layer {name!r} does not run in a forward pass")
    return result[0]


def _is_second(output: Tensor) -> bool:
    """Whether what a module returned for one image are tokens [T, 1, C], before the batch."""
    return output.ndim == 3 and len(output) > 1 and output.shape[1] == 1


def _has_rows(output: Tensor, images: int, each: int = 1) -> bool:
    """Whether there is a row for each image, or `each`; tokens [T, B, C] may come before the batch."""
    second = output.ndim == 3 and output.shape[1] == images
    return output.ndim > 0 and (second or len(output) in (images, each * images))


def _finish(finished: Sequence[_Call], activation: object, name: str, images: int, rows: int) -> _Recording:
    """rows: as many rows as one image may have in what a module returns, where it is taken apart on the way."""
    if not isinstance(activation, Tensor):
        raise ValueError(f"layer {name!r} does not return one tensor")
    tensors = [tensor for call in finished for tensor in tensors_in(call.output)]
    if not _has_rows(activation, images) or not all(_has_rows(tensor, images, rows) for tensor in tensors):
        raise ValueError(f"a module before layer {name!r} returns a tensor that has no row for each image")
    versions = [version for call in finished for version in call.versions]
    overwritten = any(t._version > version for t, version in zip(tensors, versions, strict=True))
    return _Recording([(call.module, call.output) for call in finished], tensors, activation, overwritten)


#: Stands where a tensor is to be put.
HOLE = object()


def tensors_in(tree: object) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts, in their order."""
    if isinstance(tree, Tensor):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ()
    return [tensor for part in inner for tensor in tensors_in(part)]


def with_tensors(tree: object, tensors: Iterator[Tensor]) -> object:
    """The same nest with the next of `tensors` wherever a tensor or a hole was; a hole where they have run out."""
    if isinstance(tree, Tensor) or tree is HOLE:
        return next(tensors, HOLE)
    if isinstance(tree, dict):
        return type(tree)((key, with_tensors(part, tensors)) for key, part in tree.items())
    if isinstance(tree, tuple | list):
        parts = [with_tensors(part, tensors) for part in tree]
        kind: Any = type(tree)
        return kind(*parts) if hasattr(tree, "_fields") else kind(parts)
    return tree
