"""What decides how far each cell of a job is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from dix.bench.run.plan import Step
from dix.bench.store.columns import Row


class Watch(Protocol):
    """Sees every row of a job and says what is still needed; see `dix.bench.run.until.UntilDecided`."""

    def over(self, step: Step) -> bool:
        """Whether nothing is needed from this batch on."""
        ...

    def wanted(self, step: Step) -> Mapping[str, Sequence[str]]:
        """What is still to be computed of a batch: the metrics of each method, as in `Step`."""
        ...

    def add(self, rows: Iterable[Row]) -> None:
        """Rows that were computed."""
        ...

    def leave_out(self, images: Iterable[str]) -> None:
        """Images that cannot be read."""
        ...

    def ends(self) -> dict[str, dict[str, int]]:
        """For the job's record: "needed" and "kept", as `dix.bench.store.ledger.Ledger` has them."""
        ...


class ToTheEnd:
    """Everything is computed."""

    def over(self, step: Step) -> bool:
        """Not before the end."""
        return False

    def wanted(self, step: Step) -> Mapping[str, Sequence[str]]:
        """All that the batch lacks."""
        return step.wanted

    def add(self, rows: Iterable[Row]) -> None:
        """Nothing depends on them."""

    def leave_out(self, images: Iterable[str]) -> None:
        """Nothing depends on them."""

    def ends(self) -> dict[str, dict[str, int]]:
        """Every cell needs every image."""
        return {}
