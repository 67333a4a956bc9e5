"""Score maps: each probe asked once, every metric's answer made fit to be stored.

This is the one place where a metric's answer becomes a row's number: whatever a metric returns, a row holds either a
plausible number or the reason why it holds none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from dix.bench.run.alike import Answers
from dix.bench.run.batch import Maps
from dix.metrics.api import Case, Metric, Predict, Probe, Scores, Trace

#: Why an image is excluded that the network does not answer for once a probe has altered it.
SILENT_ALTERED = "the network's logits are not finite for an altered image"
BROKEN_MAP = "map is not finite"
UNEXPLAINED = "the metric gives neither a number nor a reason"
NOT_FINITE = "the metric's parts or curve are not finite"
#: No score of any metric is so large; percentages end at 100.
ABSURD = 1e12
NAN = float("nan")

#: ``timing(what)``: a block whose wall time is noted.
Timing = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Score:
    """One image's score as a row holds it: a plausible number, or NaN with the reason. See `dix.metrics.api.Scores`."""

    value: float
    parts: Sequence[float] = ()
    curve: Sequence[float] = ()
    reason: str = ""


@dataclass(frozen=True)
class Scorer:
    """One method's maps of a batch on their way through the metrics.

    case: the images with the sound maps. predict: asks the model. traces: what it said, so that each probe asks once.
    answers: what the model said to probes of other methods' maps.
    """

    maps: Maps
    case: Case
    predict: Predict
    traces: MutableMapping[Any, Trace] = field(default_factory=dict)
    timing: Timing = lambda what: nullcontext()
    answers: Answers = field(default_factory=Answers)

    def begin(self, probe: Probe | None) -> bool:
        """Let a probe start what the batch's pool can do for it; whether it had anything to start."""
        begin = getattr(probe, "begin", None)
        if probe is None or begin is None or probe in self.traces or self.answers.knows(probe, self.case):
            return False
        with self.timing(f"probe {type(probe).__name__}"):
            try:
                begin(self.case)
            except Exception:  # what is wrong is told where the trace is asked for
                return False
        return True

    def score(self, metric: Metric) -> list[Score]:
        """The metric's score of each image. Raises ValueError where the metric does not score every image."""
        trace = self._trace(metric.probe)
        with self.timing("score"):
            given = metric.score(self.case, trace)
        return settled(given, self._excluded(metric, trace))

    def _trace(self, probe: Probe | None) -> Trace | None:
        if probe is None:
            return None
        if probe not in self.traces:
            with self.timing(f"probe {type(probe).__name__}"):
                self.traces[probe] = self.answers.recall(probe, self.case, lambda: probe.trace(self.case, self.predict))
        return self.traces[probe]

    def _excluded(self, metric: Metric, trace: Trace | None) -> list[str]:
        """For each image why the metric cannot score it whatever it says, or ""."""
        why = "" if getattr(metric, "counts_broken", False) else BROKEN_MAP
        altered = silent_in(trace, len(self.maps.faults))
        broken = [why if fault == "not finite" else "" for fault in self.maps.faults]
        return [one or other for one, other in zip(broken, altered, strict=True)]


def silent_in(trace: Trace | None, count: int) -> list[str]:
    """For each image of a trace: SILENT_ALTERED where not every number that the model gave is finite, else ""."""
    if trace is None:
        return [""] * count
    numbers = [trace.probability, *(side for side in trace.side.values() if side.is_floating_point())]
    answered = torch.stack([n.reshape(count, -1).isfinite().all(dim=1) for n in numbers]).all(dim=0)
    return ["" if fine else SILENT_ALTERED for fine in answered.tolist()]


def settled(scores: Scores, excluded: Sequence[str]) -> list[Score]:
    """Each image's score, with a reason wherever there is no number.

    excluded: for each image why it is excluded whatever the metric says, or "".
    """
    count = len(excluded)
    lengths = [len(scores.value), len(scores.parts), len(scores.curve), len(scores.reasons)]
    if lengths != [count] * 4 or (scores.value.ndim, scores.parts.ndim, scores.curve.ndim) != (1, 2, 2):
        raise ValueError(
            f"score: expected value [{count}], parts [{count}, P], curve [{count}, C] and {count} reasons, got "
            f"{list(scores.value.shape)}, {list(scores.parts.shape)}, {list(scores.curve.shape)} and "
            f"{len(scores.reasons)}"
        )
    value, parts, curve = (t.double().cpu().tolist() for t in (scores.value, scores.parts, scores.curve))
    given = map(Score, value, parts, curve, scores.reasons)
    return [Score(NAN, reason=why) if why else _settled(one) for why, one in zip(excluded, given, strict=True)]


def _settled(one: Score) -> Score:
    """The metric's own exclusions keep what was measured; numbers that are none keep nothing."""
    if one.reason:
        return Score(NAN, one.parts, one.curve, one.reason)
    wrong = _wrong(one)
    return Score(NAN, reason=wrong) if wrong else one


def _wrong(one: Score) -> str:
    if math.isnan(one.value):
        return UNEXPLAINED
    if abs(one.value) >= ABSURD:
        return f"the metric gives {one.value:g}, which is no score"
    return "" if all(map(math.isfinite, (*one.parts, *one.curve))) else NOT_FINITE
