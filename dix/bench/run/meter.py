"""How many passes through a network a run made, and how long the fastest of them took.

One pass of one image tells how many multiplications lie in each part of the network, cut at the layers that methods
explain at. From then on one layer of each part says that it ran: a few hooks a pass, so that a run is not slower for
being counted. A part through which gradients are recorded counts twice, once for its way back. (Every operation is
counted by `dix.bench.run.speed`, which is far too slow for a run.)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dix.classifier import Classifier

#: Layers whose multiplications are counted; those of attention are left out of passes and of their unit alike.
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
#: Networks with fewer weights are so fast that a hook would be felt.
LEAST_WEIGHTS = 1_000_000
#: A call of the network that makes so much of a whole forward pass is one.
WHOLE = 0.99


@dataclass
class Meter:
    """What was counted so far.

    passes: forward passes of one image that would make as many multiplications, forward and back. fastest: seconds an
    image of the fastest forward pass without gradients, in whatever batch; infinite before there was one.
    """

    passes: float = 0.0
    fastest: float = float("inf")

    def ran(self, module: nn.Module, output: Tensor, share: float) -> None:
        """A part has run for a batch, `share` passes for each number in its output.

        A layer that hands back what was recorded before (see `dix.split`) costs nothing.
        """
        if "forward" not in vars(module):
            self.passes += share * output.numel() * (2 if output.requires_grad else 1)

    def called(self, rows: int, passes: float, seconds: float) -> None:
        """The network has run for `rows` images, with no gradients recorded."""
        if passes >= WHOLE * rows:
            self.fastest = min(self.fastest, seconds / rows)


@dataclass
class _Parts:
    """The parts of a network as one image goes through it: multiplications by layer, in order, a Counter a part."""

    parts: list[Counter[nn.Module]] = field(default_factory=lambda: [Counter()])
    outputs: dict[nn.Module, int] = field(default_factory=dict)

    def layer(self, module: nn.Module, _given: object, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        self.parts[-1][module] += weight[0].numel() * output.numel()
        self.outputs[module] = self.outputs.get(module, 0) + output.numel()

    def cut(self, *_: object) -> None:
        self.parts.append(Counter())

    def shares(self) -> dict[nn.Module, float]:
        """By the last layer of each part, the part's share of a pass for each number that the layer gives."""
        whole = sum(part.total() for part in self.parts)
        last = [(next(reversed(part)), part.total()) for part in self.parts if part]
        return {module: work / whole / self.outputs[module] for module, work in last}


def _shares(classifier: Classifier) -> dict[nn.Module, float]:
    """See `_Parts.shares`; nothing for a network that is not to be counted, or that cannot take a black image."""
    network, found = classifier.network, _Parts()
    layers = [module for module in network.modules() if isinstance(module, COUNTED)]
    if classifier.device.type != "cpu" or sum(layer.weight.numel() for layer in layers) < LEAST_WEIGHTS:
        return {}
    if any(isinstance(module, nn.TransformerEncoderLayer) for module in network.modules()):
        return {}  # with hooks it would compute in another way, which moves last digits
    cuts = dict.fromkeys([*classifier.layers.values(), *classifier.attention_layers])
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer.register_forward_hook(found.layer))
        for name in cuts:
            stack.enter_context(network.get_submodule(name).register_forward_hook(found.cut))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        size = classifier.input_size
        try:
            classifier.logits(torch.zeros(1, 3, size, size).to(classifier.mean))
        except Exception:  # whatever is wrong with the network is told where its images go through it
            return {}
    return found.shares()


@contextmanager
def counting(classifier: Classifier) -> Iterator[Meter]:
    """Count the passes of a network on a CPU while the block lasts; its copies count, too.

    Nothing is counted on a GPU, where the end of a pass is not seen without waiting for it, and of small networks.
    """
    meter, begun = Meter(), [(0.0, 0.0)]
    shares = _shares(classifier)

    def enter(_module: nn.Module, _given: object) -> None:
        begun.append((meter.passes, time.perf_counter()))

    def leave(_module: nn.Module, given: tuple[object, ...], _output: object) -> None:
        passes, start = begun.pop()
        if given and isinstance(given[0], Tensor) and len(given[0]) and not torch.is_grad_enabled():
            meter.called(len(given[0]), meter.passes - passes, time.perf_counter() - start)

    with ExitStack() as stack:
        for module, share in shares.items():
            stack.enter_context(module.register_forward_hook(_hook(meter, share)))
        if shares:
            stack.enter_context(classifier.network.register_forward_pre_hook(enter))
            stack.enter_context(classifier.network.register_forward_hook(leave))
        yield meter


def _hook(meter: Meter, share: float) -> Callable[[nn.Module, object, Tensor], None]:
    """A function, not a method: copying a network copies what its hooks are bound to, and a copy counts here, too."""
    return lambda module, _given, output: meter.ran(module, output, share)
