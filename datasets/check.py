"""Say whether a data set on disk is complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dix.datasets import coco, imagenet, imagenet_seg, mnist, voc
from dix.datasets.api import CorruptSample, Dataset, LeftOut, MissingData
from dix.datasets.folder import Folder
from dix.datasets.photos import Photos
from dix.datasets.text import text_id

_NAMED = 3  #: examples of what is left out for one reason
_SHOWN = 5  #: problems printed in full


@dataclass(frozen=True)
class Report:
    """What was found of a data set.

    found, expected: counts, by what is counted. missing: what is not there, with the layout and the source.
    problems: what is there and wrong, one line each. left_out: what is there and not used, which is no fault.
    index_hash: the data set's fingerprint, or "".
    """

    name: str
    root: str
    found: Mapping[str, int] = field(default_factory=dict)
    expected: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    problems: Sequence[str] = ()
    left_out: Sequence[LeftOut] = ()
    index_hash: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing or wrong and every expected count is met."""
        short = any(self.found.get(what) != count for what, count in self.expected.items())
        return not (self.missing or self.problems or short)

    def __str__(self) -> str:
        """The report as lines of text."""
        lines = [f"{self.name}: {'complete' if self.complete else 'NOT complete'} ({self.root})"]
        lines += [f"  {what}: {count:,}{self._wanted(what)}" for what, count in self.found.items()]
        lines += _shortened("missing", self.missing) + _shortened("problem", self.problems) + self._unused()
        return "\n".join(lines + ([f"  index: {self.index_hash}"] if self.index_hash else []))

    def _unused(self) -> list[str]:
        """One line for each reason why something is not used, with the first names."""
        return [f"  left out: {text}" for text in by_reason(self.left_out)]

    def _wanted(self, what: str) -> str:
        return f" of {self.expected[what]:,}" if what in self.expected else ""


def by_reason(left_out: Iterable[LeftOut]) -> list[str]:
    """What is not used of a data set, a text for each reason: how many, why, and the first names."""
    names: dict[str, list[str]] = defaultdict(list)
    for entry in left_out:
        names[entry.reason].append(entry.name)
    return [f"{len(found):,} x {reason} ({_first(found)})" for reason, found in sorted(names.items())]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _shortened(kind: str, lines: Sequence[str]) -> list[str]:
    shown = [f"  {kind}: {line}" for line in lines[:_SHOWN]]
    return shown + ([f"  {kind}: and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else [])


@dataclass(frozen=True)
class _Known:
    """How to look at one data set. count: what its index says; files: names of absent files."""

    open: Callable[..., Any]
    expected: Mapping[str, int]
    count: Callable[[Any], Mapping[str, int]]
    files: Callable[[Any], Iterable[str]] = lambda dataset: ()


def check(name: str, root: str | None = None, decode: bool = False, labels_file: str | None = None) -> Report:
    """Look at a data set on disk.

    root: its folder; None: $DIX_DATA/<name>. decode: also read every image and mask. labels_file: as the data set's
    setting of that name.
    Raises ValueError for an unknown name or one that has no such setting; everything else is in the report.
    """
    known = _KNOWN.get(name)
    if known is None:
        raise ValueError(f"data set: expected one of {', '.join(_KNOWN)}, got {name!r}")
    if labels_file is not None and name not in _LABELLED:
        raise ValueError(f"--labels-file: only {' and '.join(_LABELLED)} have a label file, {name} has none")
    dataset = known.open(root) if labels_file is None else known.open(root, labels_file=labels_file)
    try:
        return _report(name, known, dataset, decode)
    except MissingData as error:
        return Report(name, str(root or "root not found"), {}, known.expected, [str(error)])
    except ValueError as error:
        return Report(name, _where(dataset), {}, known.expected, (), [str(error)])


def _report(name: str, known: _Known, dataset: Any, decode: bool) -> Report:
    found = {"images": len(dataset.ids), **known.count(dataset)}
    missing = list(known.files(dataset))
    problems = []
    if decode:
        read = [_read(dataset, index) for index in range(len(dataset.ids))]
        problems = [outcome for outcome in read if isinstance(outcome, str)]
        found |= {"unreadable": len(problems), "without an object": sum(outcome is False for outcome in read)}
    left_out = getattr(dataset, "left_out", ())
    return Report(name, _where(dataset), found, known.expected, missing, problems, left_out, dataset.fingerprint())


def _read(dataset: Dataset, index: int) -> bool | str:
    """Whether an image's mask, if it has one, has an object; or why the image cannot be read."""
    try:
        mask = dataset.read(index).mask
    except CorruptSample as error:
        return str(error)
    return mask is None or bool((mask == 1).any())


def _where(dataset: Any) -> str:
    folder = getattr(dataset, "folder", None) or getattr(dataset, "path", None)
    return text_id(str(folder)) if folder else "inside installed packages"


def _classes(dataset: Any) -> dict[str, int]:
    return {"classes": len({label for label in dataset.labels if label is not None})}


def _imagenet_counts(dataset: imagenet.ImageNet) -> dict[str, int]:
    return {"images": len(dataset.ids) - len(dataset.absent), **_classes(dataset)}


def _coco_counts(dataset: coco.Coco) -> dict[str, int]:
    return {"annotated": len(coco.Coco(dataset.root).ids)}


def _coco_files(dataset: coco.Coco) -> Iterable[str]:
    return [f"{dataset.part}/{name}" for name in dataset.absent]


def _voc_files(dataset: voc.Voc) -> Iterable[str]:
    names = [f"JPEGImages/{name}.jpg" for name in dataset.ids]
    names += [f"SegmentationClass/{name}.png" for name in dataset.ids]
    return [name for name in names if not (dataset.folder / name).is_file()]


def _nothing_more(dataset: Any) -> dict[str, int]:
    return {}


def _masked(dataset: Photos) -> dict[str, int]:
    return {"masks": sum(bool(dataset.outlines(index)[0]) for index in range(len(dataset.ids))), **_classes(dataset)}


_KNOWN: Mapping[str, _Known] = {
    "imagenet": _Known(imagenet.ImageNet, imagenet.LAYOUT.expected, _imagenet_counts, lambda dataset: dataset.absent),
    "imagenet_seg": _Known(imagenet_seg.ImageNetSeg, imagenet_seg.LAYOUT.expected, _nothing_more),
    "coco": _Known(lambda root: coco.Coco(root, unannotated="keep"), coco.LAYOUT.expected, _coco_counts, _coco_files),
    "voc": _Known(voc.Voc, voc.LAYOUT.expected, _nothing_more, _voc_files),
    "mnist": _Known(lambda root: mnist.Mnist("idx", root), mnist.LAYOUT.expected, _classes),
    "photos": _Known(lambda root: Photos(), {"images": 25, "masks": 25}, _masked),
    "folder": _Known(Folder, {}, _nothing_more),
}
#: Data sets whose labels may come from a file.
_LABELLED = ("imagenet", "folder")
