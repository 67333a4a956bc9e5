"""Decode batches ahead of the model, in order and in bounded memory.

Threads, not processes: Pillow decodes and resizes with the interpreter's lock released, nothing is pickled, and no
child process is started inside a launcher's worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import Literal

import torch

from dix.datasets.api import VOID, CorruptSample, Dataset, content_of
from dix.datasets.index import unique
from dix.datasets.preprocess import Preprocess


@dataclass(frozen=True)
class Batch:
    """Preprocessed samples, and those that could not be read.

    ids: B names, in the order asked for, without the skipped.
    images: [B, 3, size, size] float32 in [0, 1].
    labels: [B] int64 in the data set's label space; -1 for none.
    masks: [B, size, size] int8 (all VOID where a sample has none), or None where no sample of the batch has one.
    has_mask: [B] bool.
    contents: B digests of what was read for each image, to tell whether stored scores are still its own.
    skipped: (id, reason) of each sample left out.
    """

    ids: tuple[str, ...]
    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None
    has_mask: torch.Tensor
    contents: list[str]
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Sample:
    id: str
    image: torch.Tensor
    label: int
    mask: torch.Tensor | None
    content: str


@dataclass(frozen=True)
class _Failure:
    id: str
    reason: str


OnError = Literal["stop", "skip"]


def load(dataset: Dataset, preprocess: Preprocess, indices: Sequence[int], on_error: OnError = "stop") -> Batch:
    """Read one batch here and now. Raises CorruptSample, unless on_error is "skip"."""
    samples = [_sample(dataset, preprocess, index, _checked(on_error)) for index in indices]
    return _collate(samples, preprocess.size)


def contents(dataset: Dataset, indices: Sequence[int], workers: int = 2) -> dict[str, str]:
    """Digests by id, hashed without decoding: what tells whether stored scores are still those of their images.

    An image that cannot be read has none and is left out. Raises ValueError where an id occurs twice.
    """
    ids = dataset.ids
    names = unique([ids[index] for index in indices], f"dataset {dataset.name}")
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="hash") as pool:
        digests: Iterable[str] = (pool.map if workers else map)(partial(_content, dataset), indices)
        return {name: content for name, content in zip(names, digests, strict=True) if content}


def _decoders(count: int) -> ThreadPoolExecutor:
    """Threads in which torch computes alone, so that it keeps its own threads for the model.

    Else each would have OpenMP start a team for it, and with more threads than processors all of OpenMP's threads go to
    sleep between two operations: passes of many small ones, like Guided IG's, took three times as long.
    """
    started, threads = Barrier(count + 1), torch.get_num_threads()

    def begin() -> None:
        torch.set_num_threads(1)  # of this thread, and of such as first ask for their number from now on
        torch.get_num_threads()  # this one has asked
        with suppress(BrokenBarrierError):
            started.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="decode", initializer=begin)
    try:
        for _ in range(count):
            pool.submit(int)  # a thread starts with a task for which none is idle
        started.wait()
    except RuntimeError as error:  # what a thread that cannot be started raises
        pool.shutdown(wait=False)
        raise OSError(f"run.workers: the system starts no {count} threads to decode images ({error})") from error
    finally:
        started.abort()  # whatever happened, no thread waits here for ever
        torch.set_num_threads(threads)
    return pool


def _content(dataset: Dataset, index: int) -> str:
    """One image's digest, or "" where it cannot be read."""
    try:
        return content_of(dataset, index)
    except CorruptSample:
        return ""


@dataclass(frozen=True)
class Loader:
    """Iterate batches in order while threads decode the next ones. Raises ValueError where an id occurs twice.

    batches: indices into dataset.ids, batch by batch.
    workers: decoding threads; 0 decodes in the caller's thread, when a batch is asked for.
    on_error: what a CorruptSample does: "stop" raises it, "skip" records it in the batch.
    ahead: batches decoded or being decoded beyond the one handed out; bounds the memory.
    """

    dataset: Dataset
    preprocess: Preprocess
    batches: Sequence[Sequence[int]]
    workers: int = 2
    on_error: OnError = "stop"
    ahead: int = field(default=2)

    def __post_init__(self) -> None:
        """Raise ValueError where a parameter is outside its range."""
        _checked(self.on_error)
        unique(self.dataset.ids, f"dataset {self.dataset.name}")
        if self.workers < 0 or self.ahead < 1:
            raise ValueError(f"run.workers: expected workers >= 0 and ahead >= 1, got {self.workers} and {self.ahead}")

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield every batch once, in order. Raises CorruptSample, unless on_error is "skip"."""
        return self._threaded() if self.workers else self._inline()

    def _inline(self) -> Iterator[Batch]:
        for indices in self.batches:
            yield load(self.dataset, self.preprocess, indices, self.on_error)

    def _threaded(self) -> Iterator[Batch]:
        waiting: deque[list[Future[_Sample | _Failure]]] = deque()
        coming = iter(self.batches)
        pool = _decoders(self.workers)
        try:
            for _ in range(self.ahead):
                self._submit(pool, coming, waiting)
            while waiting:
                self._submit(pool, coming, waiting)
                yield _collate([future.result() for future in waiting.popleft()], self.preprocess.size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        coming: Iterator[Sequence[int]],
        waiting: deque[list[Future[_Sample | _Failure]]],
    ) -> None:
        """Queue the next batch's samples, if there is a next batch."""
        for indices in coming:
            waiting.append(
                [pool.submit(_sample, self.dataset, self.preprocess, index, self.on_error) for index in indices]
            )
            return


def _checked(on_error: OnError) -> OnError:
    if on_error not in ("stop", "skip"):
        raise ValueError(f"run.on_error: expected stop or skip, got {on_error!r}")
    return on_error


def _sample(dataset: Dataset, preprocess: Preprocess, index: int, on_error: OnError) -> _Sample | _Failure:
    """Read and preprocess one image. Only CorruptSample is ever skipped; any other exception is a defect."""
    try:
        record = dataset.read(index)
        mask = None if record.mask is None else preprocess.mask(record.mask)
        label = -1 if record.label is None else record.label
        content = content_of(dataset, index, record)
        return _Sample(record.id, preprocess.image(record.image), label, mask, content)
    except CorruptSample as error:
        if on_error == "stop":
            raise
        return _Failure(dataset.ids[index], str(error))


def _collate(samples: Sequence[_Sample | _Failure], size: int) -> Batch:
    good = [sample for sample in samples if isinstance(sample, _Sample)]
    void = torch.full((size, size), VOID, dtype=torch.int8)
    masks = [void if sample.mask is None else sample.mask for sample in good]
    has_mask = torch.tensor([sample.mask is not None for sample in good], dtype=torch.bool)
    return Batch(
        ids=tuple(sample.id for sample in good),
        images=torch.stack([sample.image for sample in good]) if good else torch.zeros(0, 3, size, size),
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        masks=torch.stack(masks) if bool(has_mask.any()) else None,
        has_mask=has_mask,
        contents=[sample.content for sample in good],
        skipped=tuple((sample.id, sample.reason) for sample in samples if isinstance(sample, _Failure)),
    )
