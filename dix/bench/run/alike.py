"""Work that several methods ask for alike: answers about equally altered images, and evidence about another class."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dix.bench.run.seals import Memory
from dix.metrics.api import Case, ImageBatch, Probe, Trace
from dix.passes import Passes

#: How many traces are remembered; bounds memory.
REMEMBERED = 64


@dataclass
class Answers:
    """What the network said to probes of the latest maps, for those that ask the very same.

    Only probes that tell what they take from the maps (`reads` in `dix.metrics.api.Probe`) are remembered.
    """

    _kept: deque[tuple[ImageBatch, Probe, bytes, Trace]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def recall(self, probe: Probe, case: Case, ask: Callable[[], Trace]) -> Trace:
        """A probe's trace of some maps, with tensors of its own: remembered, or what `ask` gives."""
        content = _read(probe, case)
        if content is None:
            return ask()
        known = self._known(probe, case, content)
        if known is not None:
            return _copy(known)
        trace = ask()
        self._kept.append((case.batch, probe, content, _copy(trace)))
        return trace

    def knows(self, probe: Probe, case: Case) -> bool:
        """Whether the trace is remembered."""
        content = _read(probe, case)
        return content is not None and self._known(probe, case, content) is not None

    def _known(self, probe: Probe, case: Case, content: bytes) -> Trace | None:
        return next((t for batch, p, c, t in self._kept if batch is case.batch and c == content and p == probe), None)


def _read(probe: Probe, case: Case) -> bytes | None:
    """A digest of all that the probe's trace takes from the maps; None where it does not tell."""
    reads = getattr(probe, "reads", None)
    read = reads(case) if reads is not None else None
    if read is None:
        return None
    raw = torch.as_tensor(read).cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(raw.numpy().tobytes()).digest()


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


def _copy(trace: Trace) -> Trace:
    return replace(
        trace,
        probability=trace.probability.clone(),
        predicted=trace.predicted.clone(),
        logits=None if trace.logits is None else trace.logits.clone(),
        side={name: tensor.clone() for name, tensor in trace.side.items()},
    )
