"""What the parts of a job cost, as a calibration measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dix.metrics.api import Probe


@dataclass(frozen=True)
class Price:
    """What something costs for one image: seconds outside the model, and rows that go through the model."""

    seconds: float = 0.0
    rows: float = 0.0


@dataclass(frozen=True)
class Prices:
    """Everything that a calibration measured.

    start: seconds of starting a job. forward: seconds of one row in a full chunk. read, clean: of one image.
    explain: by method. first, more: by probe, for the first map of an image and for each further one (some probes
    share work between the maps of an image). score: seconds by metric. again: by metric, altered images that are
    explained for each map. file_bytes, row_bytes: of the store;
    picture_bytes: of the pictures that reports show. memory: peak in bytes, for a whole batch.
    """

    start: float = 0.0
    forward: float = 0.0
    read: float = 0.0
    clean: float = 0.0
    explain: Mapping[str, Price] = field(default_factory=dict)
    first: Mapping[Probe, Price] = field(default_factory=dict)
    more: Mapping[Probe, Price] = field(default_factory=dict)
    score: Mapping[str, float] = field(default_factory=dict)
    again: Mapping[str, float] = field(default_factory=dict)
    file_bytes: float = 0.0
    row_bytes: float = 0.0
    picture_bytes: float = 0.0
    memory: float = 0.0
