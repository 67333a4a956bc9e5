"""`dix explain`: maps of chosen methods for the user's own pictures, as overlays and as numbers."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dix.bench.report.figures import Example, qualitative_grid, save
from dix.bench.run.batch import Prepared, maps, prepare
from dix.bench.run.job import Job
from dix.cli.config import composed
from dix.cli.options import add_config_dir, folders_of, search_path
from dix.cli.session import open_job
from dix.cli.targets import Target, output_of
from dix.datasets.images import decode_rgb, read_bytes
from dix.datasets.loader import Batch
from dix.files import write_atomic
from dix.maps import resize
from dix.pictures import overlay, png_bytes, without_peaks

#: Longest side of an overlay, in pixels; larger photos are made smaller for it.
SIDE = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Pictures, methods, a model and what to explain."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE|KEY=VALUE",
        help="picture files (upright by their EXIF orientation); settings as for `dix run`, as in model=resnet50",
    )
    parser.add_argument("--method", help="methods, separated by commas (default gc,dix3)")
    parser.add_argument("--model", help="default efficientnet_lite0")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--target", metavar="CLASS", help="explain this class: a label of the model's label space, or a name"
    )
    chosen.add_argument("--top", type=int, default=1, metavar="K", help="explain the K likeliest classes (default 1)")
    parser.add_argument("--output", type=Path, default=Path("maps"), metavar="DIR", help="default maps/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides, as for `dix run`")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Explain every picture; write an overlay and an array for each map, and one overview for each picture."""
    if arguments.top < 1:
        raise ValueError(f"--top: expected at least 1, got {arguments.top}")
    paths = [word for word in arguments.images if not _is_setting(word)]
    if not paths:
        raise ValueError("dix explain: name a picture, as in `dix explain cat.jpg`")
    photos = {
        stem: decode_rgb(read_bytes(Path(path), path), path) for path, stem in zip(paths, stems(paths), strict=True)
    }
    job = _job(arguments)
    for name, reason in job.unsupported().items():
        print(f"skipped {name}: {reason}")
    for stem, photo in photos.items():
        found = list(explained(job, photo, stem, _target(arguments.target), arguments.top))
        for one in found:
            print(f"{stem}: {one.label}, p = {one.probability:.3f}")
            _write(one, arguments.output / stem)
        overview = arguments.output / stem / "overview.png"
        save(_overview(found, job), overview)
        print(overview)
    return 0


def _job(arguments: argparse.Namespace) -> Job:
    chosen = {
        "model": f"model={arguments.model or 'efficientnet_lite0'}",
        "method": f"method=[{arguments.method or 'gc,dix3'}]",
    }
    words = [word for word in arguments.images if _is_setting(word)] + arguments.set
    for option in ("model", "method"):
        if any(word.startswith(f"{option}=") for word in words):
            if getattr(arguments, option):
                raise ValueError(f"dix explain: --{option} and {option}=... are the same; give one of them")
            del chosen[option]
    own = search_path(folders_of(arguments))
    return open_job(composed([*chosen.values(), "metric=[]", "dataset=photos", *words, *own]))


def _is_setting(word: str) -> bool:
    """Whether a word is a setting such as model=resnet50, and not the name of a file."""
    return re.match(r"[+~]{0,2}[\w.@/]+=", word) is not None and not Path(word).exists()


def _target(word: str | None) -> Target | None:
    """A label where it is a whole number, else a name."""
    return int(word) if word is not None and re.fullmatch(r"-?\d+", word) else word


def stems(paths: Sequence[str]) -> list[str]:
    """A folder's name for each picture, each another one: its own, numbered where a picture before it has that.

    Names that differ in their capitals alone are one name to some file systems.
    """
    return numbered([re.sub(r"[^\w.-]+", "_", Path(path).stem).strip(".") or "picture" for path in paths])


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with a number behind each that occurred before; no number makes a name that is another's own."""
    own = {name.casefold() for name in names}
    taken: set[str] = set()
    unique = []
    for name in names:
        free = (f"{name}-{n}" for n in count(2) if f"{name}-{n}".casefold() not in own | taken)
        unique.append(next(free) if name.casefold() in taken else name)
        taken.add(unique[-1].casefold())
    return unique


@dataclass(frozen=True)
class Explained:
    """One class of one picture.

    label: the class in words. name: the same for file names. maps: [H, W] by method, at the model's input size.
    """

    photo: Image.Image
    label: str
    name: str
    probability: float
    maps: Mapping[str, Tensor]


def explained(job: Job, photo: Image.Image, image_id: str, target: Target | None, top: int) -> Iterator[Explained]:
    """The picture's maps of one target, or of the `top` likeliest classes.

    Raises ValueError for an unknown target, and where the network's answer is not finite.
    """
    batch = _batch(job, photo, image_id)
    first = prepare(job, batch)
    if first.silent[0]:
        raise ValueError(f"{image_id}: {first.silent[0]}")
    probability = job.classifier.probabilities(first.passes.logits.double())[0]
    outputs = (
        probability.topk(min(top, len(probability))).indices.tolist()
        if target is None
        else [output_of(job.classifier, target)]
    )
    labels = [job.classifier.class_name(output) for output in outputs]
    for output, label, name in zip(outputs, labels, words_of(labels), strict=True):
        prepared = prepare(job, batch, targets=torch.tensor([output]))
        yield Explained(photo, label, name, float(probability[output]), _maps(job, prepared, label))


def words_of(labels: Sequence[str]) -> list[str]:
    """Classes' names as parts of file names, each another one: two of ImageNet's classes are called crane."""
    return numbered([re.sub(r"[^\w]+", "_", label).strip("_") for label in labels])


def _batch(job: Job, photo: Image.Image, image_id: str) -> Batch:
    """A user's picture as the loader would give it: without a label or a mask."""
    pixels = job.preprocess.image(photo)[None]
    return Batch((image_id,), pixels, torch.tensor([-1]), masks=None, has_mask=torch.tensor([False]), contents=[""])


def _maps(job: Job, prepared: Prepared, label: str) -> dict[str, Tensor]:
    """Every able method's map [H, W] where it is finite; the others are named and left out."""
    found, skipped = {}, job.unsupported()
    for name, method in job.methods.items():
        if name not in skipped:
            made = maps(method, prepared.passes, job.protocol.map_resize)
            if made.faults[0]:
                print(f"{name}: the map of {label} is {made.faults[0]}")
            if made.faults[0] != "not finite":
                found[name] = made.values[0].cpu()
    return found


def _write(one: Explained, folder: Path) -> None:
    """An overlay at the picture's own shape, and the map as the method gave it (float32, at the model's input size)."""
    photo = smaller(one.photo, SIDE)
    for method, explanation in one.maps.items():
        write_atomic(folder / f"{one.name}-{method}.npy", _npy(explanation))
        picture = png_bytes(overlay(photo, without_peaks(fitted(explanation, photo))))
        write_atomic(folder / f"{one.name}-{method}.png", picture)


def _npy(explanation: Tensor) -> bytes:
    """A map as NumPy's file format keeps it."""
    stream = io.BytesIO()
    np.save(stream, explanation.float().numpy())
    return stream.getvalue()


def smaller(photo: Image.Image, side: int) -> np.ndarray:
    """[h, w, 3] pixels in [0, 1] of a picture whose longer side is at most `side`."""
    copy = photo.copy()
    copy.thumbnail((side, side))
    return np.asarray(copy, dtype=float) / 255


def fitted(explanation: Tensor, photo: np.ndarray) -> np.ndarray:
    """A map [H, W] at the shape of a picture [h, w, 3]: the inverse of the resize that made the model's input."""
    height, width = photo.shape[:2]
    if height * width < explanation.numel():
        return np.asarray(
            Image.fromarray(explanation.float().numpy()).resize((width, height), Image.Resampling.BILINEAR)
        )
    return resize(explanation.float()[None], (height, width))[0].numpy()


def _overview(found: Sequence[Explained], job: Job) -> Figure:
    """Rows of classes, columns of methods."""
    examples = []
    for one in found:
        photo = smaller(one.photo, 448)
        maps = {name: without_peaks(fitted(explanation, photo)) for name, explanation in one.maps.items()}
        examples.append(Example(f"{one.label} {one.probability:.2f}", photo, maps))
    methods = [name for name in job.methods if name not in job.unsupported()]
    labels = {name: job.methods[name].label for name in methods}
    return qualitative_grid(examples, methods, labels, size=1.6)
