"""How many passes through a network a run made, and how long the fastest of them took.

Hooks on the network's convolutions and linear layers count multiplications as they happen, a few microseconds each, so
that a pass through a part of the network counts as its share (see `dix.bench.run.speed`, which counts every operation
and is far too slow for a run). A layer through which gradients are recorded counts twice, once for its way back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

#: Layers whose multiplications are counted; those of attention are left out of passes and of their unit alike.
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
#: A call of the network that makes so much of a whole forward pass is one.
WHOLE = 0.99


@dataclass
class Meter:
    """What was counted so far.

    work: multiplications, forward and back. whole: those of one image's forward pass. fastest: seconds an image of
    the fastest forward pass without gradients, in whatever batch; infinite before there was one.
    """

    work: float = 0.0
    whole: float = 0.0
    fastest: float = float("inf")

    @property
    def passes(self) -> float:
        """Forward passes of one image that would make as many multiplications."""
        return self.work / self.whole if self.whole else 0.0

    def layer(self, module: nn.Module, output: object) -> None:
        """A layer has run; one that hands back what was recorded before (`dix.split`) costs nothing."""
        if isinstance(output, Tensor) and "forward" not in vars(module):
            weight = module.weight
            assert isinstance(weight, Tensor)
            self.work += weight[0].numel() * output.numel() * (2 if output.requires_grad else 1)

    def call(self, rows: int, work: float, seconds: float, graph: bool) -> None:
        """The network has run for `rows` images. work: multiplications. graph: whether gradients were recorded."""
        forward = work / rows / (2 if graph else 1)
        self.whole = max(self.whole, forward)
        if not graph and forward >= WHOLE * self.whole:
            self.fastest = min(self.fastest, seconds / rows)


@contextmanager
def counting(network: nn.Module) -> Iterator[Meter]:
    """Count the network's passes while the block lasts. Its hooks are functions: a copy of the network counts, too."""
    meter = Meter()
    if any(isinstance(module, nn.TransformerEncoderLayer) for module in network.modules()):
        yield meter  # with hooks it would compute in another way, which moves last digits
        return
    begun: list[tuple[float, float]] = []

    def enter(_module: nn.Module, _given: object) -> None:
        begun.append((meter.work, time.perf_counter()))

    def leave(_module: nn.Module, given: tuple[object, ...], output: object) -> None:
        work, start = begun.pop()
        if given and isinstance(given[0], Tensor) and len(given[0]) and isinstance(output, Tensor):
            spent = time.perf_counter() - start
            meter.call(len(given[0]), meter.work - work, spent, torch.is_grad_enabled())

    def ran(module: nn.Module, _given: object, output: object) -> None:
        meter.layer(module, output)

    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, COUNTED):
                stack.enter_context(module.register_forward_hook(ran))
        stack.enter_context(network.register_forward_pre_hook(enter))
        stack.enter_context(network.register_forward_hook(leave))
        yield meter
