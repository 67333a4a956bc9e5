"""One method's mischief must not become another's number.

Methods and metrics, a stranger's among them, share one process, one network and one batch. After each of them the
guard compares what they share with what it was: settings of the process, hooks and modes of the network, the images,
the evidence that was computed for all. What was changed is put right, and the caller names the culprit, drops its rows
and goes on with a batch prepared anew. Once a batch the look is a thorough one, which reads every weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from dix.bench.run.batch import Prepared
from dix.bench.run.network import Network
from dix.bench.run.process import Process
from dix.bench.run.seals import Memory, Seal, seal
from dix.bench.run.termination import Terminated
from dix.classifier import Classifier
from dix.seeding import own_random_numbers

T = TypeVar("T")
#: How many of the things that were changed are told.
TOLD = 3


class Left(Exception):
    """Code of a method or metric asked for the end of the process, which is not its to end."""


class Tampering(Exception):
    """Something was changed that others rely on; the message says what."""


class Watched(Protocol):
    """Something that was handed out."""

    def changed(self) -> list[str]:
        """What of it is another now, in words."""
        ...


@dataclass(frozen=True)
class Handed:
    """A value that was handed out under a name: maps, for one."""

    name: str
    value: Any
    seal: Seal

    @staticmethod
    def of(name: str, value: Any) -> Handed:
        """As it is now."""
        return Handed(name, value, seal(value))

    def changed(self) -> list[str]:
        """Its name, if any tensor in it was written into."""
        return [self.name] if seal(self.value) != self.seal else []


@dataclass(frozen=True)
class HandedBatch:
    """A prepared batch that was handed out: its fields, and what was computed once for all."""

    prepared: Prepared
    ids: list[str]
    fields: tuple[tuple[object, str, object], ...]
    values: Handed

    @staticmethod
    def of(prepared: Prepared) -> HandedBatch:
        """As it is now."""
        fields = [
            (owner, key, value)
            for owner in (prepared.images, prepared.passes)
            for key, value in vars(owner).items()
            if key not in ("_memo", "targets")
        ]
        fields += [(owner, "targets", owner.targets) for owner in (prepared.images, prepared.passes)]
        shown = {key: value for key, value in vars(prepared.images).items() if key != "_memo"}
        return HandedBatch(
            prepared, list(prepared.passes.ids), tuple(fields), Handed.of("the images or targets", shown)
        )

    def changed(self) -> list[str]:
        """What was written into or replaced."""
        return [*self.values.changed(), *self._replaced(), *self._memories()]

    def _replaced(self) -> Iterator[str]:
        for owner, key, value in self.fields:
            if vars(owner).get(key) is not value:
                yield f"{key} of the batch"
        if self.prepared.passes.ids != self.ids:
            yield "ids of the batch"

    def _memories(self) -> Iterator[str]:
        for owner, what in ((self.prepared.passes, "evidence"), (self.prepared.images, "a shared value")):
            memory = vars(owner)["_memo"]
            if isinstance(memory, Memory):
                yield from (f"{what} ({name})" for name in memory.changed())


class Guard:
    """Watches one classifier and the process for as long as the block lasts, and leaves both as they were."""

    def __init__(self, classifier: Classifier) -> None:
        self.network = Network(classifier)
        self.process = Process()

    def __enter__(self) -> Guard:
        self.process = Process()  # signal handlers and such may have been set meanwhile, by whoever runs the job
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.changed(thorough=True):
            self.restore()

    def changed(self, *watched: Watched, thorough: bool = False) -> list[str]:
        """What is not as it was, in words; nothing where all is well."""
        found = self.process.changed() + self.network.changed(thorough)
        return found + [what for each in watched for what in each.changed()]

    def restore(self) -> None:
        """Put process and network right; a batch that was handed out is to be prepared anew."""
        self.process.restore()
        self.network.restore()


def isolated(act: Callable[[], T], seed: int) -> T:
    """The result of code of a method or metric.

    It draws shared random numbers that are its own, seeded anew. Raises Left where it asks for the process's end; a
    user's interruption and a termination from outside go through.
    """
    try:
        with own_random_numbers(seed):
            return act()
    except Terminated:
        raise
    except SystemExit as error:
        raise Left(f"SystemExit({error.code!r})") from error


def told(changes: list[str]) -> str:
    """What was changed, for people."""
    more = f" and {len(changes) - TOLD} more" if len(changes) > TOLD else ""
    return f"it changed what others rely on: {', '.join(changes[:TOLD])}{more}"
