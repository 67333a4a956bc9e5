"""The maps of a few images at every position of a test, kept as arrays for figures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dix.bench.run.job import Job
from dix.bench.sanity.series import Series
from dix.bench.store.cells import file_name
from dix.files import write_atomic


@dataclass(frozen=True)
class Strip:
    """One image and method: the photo [H, W, 3] in [0, 1] and the maps [X, h, w], NaN where there is none."""

    image: str
    target: int
    photo: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True)
class KeptStrip:
    """A strip from disk. about: names (image, explained, model, dataset, method, test) and `x`, `names` of the axis."""

    about: dict[str, object]
    photo: np.ndarray
    maps: np.ndarray


class Strips:
    """The first `count` images of a data set, in the first repeat of a series."""

    def __init__(self, folder: Path, job: Job, series: Series, count: int) -> None:
        self.folder = folder / "images" / "strips"
        self.job = job
        self.series = series
        self.indices = set(range(min(count, len(job.dataset.ids)))) if series.repeat == 0 else set()

    def wants(self, indices: Sequence[int], methods: Iterable[str]) -> bool:
        """True where a strip of one of these images is missing."""
        return any(not self._file(i, name).is_file() for name in methods for i in indices if i in self.indices)

    def save(self, indices: Sequence[int], method: str, strips: Sequence[Strip]) -> None:
        """Keep those that belong to the first images."""
        found = {strip.image: strip for strip in strips}
        for index in indices:
            strip = found.get(self.job.dataset.ids[index])
            if index in self.indices and strip is not None:
                self._put(self._file(index, method), strip, self._about(strip, method))

    def _file(self, index: int, method: str) -> Path:
        name = file_name(*self.job.group, self.series.name, method)
        return self.folder / f"{name}-{index:05d}.npz"

    def _about(self, strip: Strip, method: str) -> dict[str, object]:
        return {
            "image": strip.image,
            "explained": self.job.class_name(strip.target),
            "model": self.job.classifier.name,
            "dataset": self.job.dataset.name,
            "method": method,
            "label": self.job.methods[method].label,
            "test": self.series.name,
            "x": self.series.x,
            "names": [name.split(" ")[0] for name in self.series.names],
        }

    def _put(self, file: Path, strip: Strip, about: dict[str, object]) -> None:
        buffer = io.BytesIO()
        photo = (strip.photo.clip(0, 1) * 255).round().astype(np.uint8)
        np.savez_compressed(buffer, photo=photo, maps=strip.maps, about=np.array(json.dumps(about)))
        write_atomic(file, buffer.getvalue())


def kept_strips(folder: Path) -> list[KeptStrip]:
    """All strips of a results folder, by file name."""
    strips = []
    for file in sorted((folder / "images" / "strips").glob("*.npz")):
        with np.load(file, allow_pickle=False) as stored:
            strips.append(KeptStrip(json.loads(str(stored["about"])), stored["photo"] / 255, stored["maps"]))
    return strips
