"""Turn what a user downloaded from the official sources into the layout that the readers expect."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dix.datasets import coco, imagenet, imagenet_seg, mnist, voc
from dix.datasets.check import Report, check
from dix.datasets.labels import image_number, read_devkit
from dix.datasets.layout import ROOT_VARIABLE, Layout
from dix.datasets.unpack import Unpacked, copy_file, unpack
from dix.files import write_atomic


@dataclass(frozen=True)
class Source:
    """A file that the official source offers.

    file: pattern of its name. members: pattern of the members to unpack; group 1 is the place below the root.
        None: the file is copied as it is.
    below: folder below the root.
    """

    file: str
    members: str | None = None
    below: str = ""

    def place(self, member: str) -> str | None:
        """Where a member goes, or None to leave it out."""
        found = re.fullmatch(self.members or "", member)
        return f"{self.below}{found.group(1)}" if found else None


@dataclass(frozen=True)
class Recipe:
    """The sources of one data set, and what is to be done after unpacking."""

    layout: Layout
    sources: Sequence[Source]
    finish: Callable[[Path], None] = lambda root: None


@dataclass(frozen=True)
class Prepared:
    """done: what happened to each source file. report: the check of the result."""

    done: Mapping[str, Unpacked]
    report: Report

    def __str__(self) -> str:
        """The report as lines of text."""
        lines = [f"{file}: {n.written:,} files written, {n.kept:,} were there" for file, n in self.done.items()]
        return "\n".join([*lines, str(self.report)])


def prepare(name: str, source: str | Path, root: str | Path | None = None) -> Prepared:
    """Unpack or copy what was downloaded, then check the result.

    source: one downloaded file, or a folder that holds some or all of them. root: where to; None: $DIX_DATA/<name>.
    A second call goes on where the first ended. Raises ValueError where no file of the data set is in `source`, or an
    archive is broken or unsafe.
    """
    recipe = _RECIPES.get(name)
    if recipe is None:
        raise ValueError(f"data set: expected one of {', '.join(_RECIPES)}, got {name!r}")
    target = _target(recipe.layout, root)
    done = {}
    for path, entry in _found(recipe, Path(source)):
        done[path.name] = unpack(path, target, entry.place) if entry.members else copy_file(path, target / path.name)
    recipe.finish(target)
    return Prepared(done, check(name, str(target)))


def _target(layout: Layout, root: str | Path | None) -> Path:
    base = os.environ.get(ROOT_VARIABLE)
    if root is None and not base:
        raise layout.missing(f"neither a folder to write to nor the environment variable {ROOT_VARIABLE} is given")
    target = Path(root) if root is not None else Path(str(base)) / layout.name
    target.mkdir(parents=True, exist_ok=True)
    return target


def _found(recipe: Recipe, source: Path) -> list[tuple[Path, Source]]:
    """The downloaded files with what to do with each."""
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    found = [(p, entry) for p in paths for entry in recipe.sources if p.is_file() and re.fullmatch(entry.file, p.name)]
    if not found:
        names = ", ".join(entry.file.replace("\\", "") for entry in recipe.sources)
        raise recipe.layout.missing(f"{source} is or holds none of {names}")
    return found


def _write_imagenet_labels(root: Path) -> None:
    """val.txt from the devkit, where both the devkit and images are there and val.txt is not."""
    truth, meta = root / "devkit" / "ILSVRC2012_validation_ground_truth.txt", root / "devkit" / "meta.mat"
    if (root / "val.txt").exists() or not (truth.is_file() and meta.is_file()):
        return
    labels = read_devkit(truth, meta)
    lines = [f"ILSVRC2012_val_{number:08d}.JPEG {label}\n" for number, label in sorted(labels.items())]
    assert all(image_number(line) for line in lines)
    write_atomic(root / "val.txt", "".join(lines))


_RECIPES: Mapping[str, Recipe] = {
    "imagenet": Recipe(
        imagenet.LAYOUT,
        (
            Source(r"ILSVRC2012_img_val\.tar", r"(?:.*/)?(ILSVRC2012_val_\d{8}\.JPEG)", "val/"),
            Source(
                r"ILSVRC2012_devkit_t12\.tar\.gz",
                r"(?:.*/)?(ILSVRC2012_validation_ground_truth\.txt|meta\.mat)",
                "devkit/",
            ),
            Source(r"val\.txt"),
        ),
        _write_imagenet_labels,
    ),
    "imagenet_seg": Recipe(imagenet_seg.LAYOUT, (Source(r"gtsegs_ijcv\.mat"),)),
    "coco": Recipe(
        coco.LAYOUT,
        (
            Source(r"val2017\.zip", r"(val2017/[^/.][^/]*\.jpg)"),
            Source(r"annotations_trainval2017\.zip", r"(annotations/instances_val2017\.json)"),
        ),
    ),
    "voc": Recipe(
        voc.LAYOUT,
        (
            Source(
                r"VOCtrainval_11-May-2012\.tar",
                r"(?:\./)?(VOCdevkit/VOC2012/(?:ImageSets/Segmentation|SegmentationClass|JPEGImages)/[^/.][^/]*)",
            ),
        ),
    ),
    "mnist": Recipe(mnist.LAYOUT, (Source(r"(?:train|t10k)-(?:images|labels)[-.]idx[13]-ubyte(?:\.gz)?"),)),
}
