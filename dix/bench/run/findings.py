"""What a batch gave one job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dix.bench.store.columns import Row


@dataclass(frozen=True)
class Failure:
    """A method that failed on a batch. message: what went wrong. error: what it raised, if it raised something."""

    method: str
    message: str
    error: BaseException | None = None


@dataclass
class Findings:
    """What a batch gave.

    rows: of all methods that did not fail. pictures: what keeps each method's pictures. failures: the others.
    silent: why an image is set aside for all methods, by image. correct: whether the clean prediction is the label, by
    image.
    """

    rows: list[Row] = field(default_factory=list)
    pictures: list[Callable[[], None]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    correct: dict[str, bool] = field(default_factory=dict)
