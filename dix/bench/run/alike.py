"""Work that several methods ask for alike: answers about equal maps, and evidence about a second class."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from dix.bench.run.batch import Prepared
from dix.bench.run.seals import Memory
from dix.metrics.api import Trace
from dix.passes import Passes

#: How many methods' maps and answers are remembered; bounds memory.
REMEMBERED = 16


@dataclass
class Answers:
    """What the network said about the maps of the latest methods, for those whose maps are equal to the last bit.

    Only the traces of probes that follow from the maps alone (`maps_alone` in `dix.metrics.api.Probe`) are remembered.
    """

    _kept: deque[tuple[Prepared, Tensor, Mapping[Any, Trace]]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def of(self, prepared: Prepared, maps: Tensor) -> Memory:
        """A memory of all that is known about maps [B, H, W] of a batch, with tensors of its own."""
        known = (traces for of, kept, traces in self._kept if of is prepared and _equal(kept, maps))
        memory = Memory()
        for probe, trace in next(known, {}).items():
            memory[probe] = _copy(trace)
        return memory

    def keep(self, prepared: Prepared, maps: Tensor, traces: Mapping[Any, Trace]) -> None:
        """Remember what was said about maps [B, H, W]; nobody may write into either any more."""
        lasting = {probe: trace for probe, trace in traces.items() if getattr(probe, "maps_alone", False)}
        self._kept.append((prepared, maps, lasting))


@dataclass
class Others:
    """Evidence about classes other than the explained ones, computed once for all methods that are asked for them."""

    _kept: list[tuple[Tensor, Tensor, Memory]] = field(default_factory=list)

    def about(self, passes: Passes, targets: Tensor) -> Passes:
        """The images of a batch with other targets [B], and all that is known about these."""
        known = (kept for images, of, kept in self._kept if images is passes.images and torch.equal(of, targets))
        memory = next(known, None)
        if memory is None:
            memory = Memory()
            self._kept.append((passes.images, targets.clone(), memory))
        chunk, seed, ids = passes.chunk, passes.seed, passes.ids
        return Passes(passes.classifier, passes.images, targets, ids=ids, chunk=chunk, seed=seed, memo=memory)

    def changed(self) -> list[str]:
        """What of it was written into, as in `dix.bench.run.guard.Watched`."""
        return [f"evidence ({name})" for _, _, memory in self._kept for name in memory.changed()]


def _equal(one: Tensor, other: Tensor) -> bool:
    """Equal to the last bit: 0 and -0 are two."""
    return one.dtype == other.dtype and torch.equal(one, other) and torch.equal(one.signbit(), other.signbit())


def _copy(trace: Trace) -> Trace:
    own = {f.name: value.clone() for f in fields(trace) if isinstance(value := getattr(trace, f.name), Tensor)}
    return replace(trace, **own, side={name: tensor.clone() for name, tensor in trace.side.items()})
