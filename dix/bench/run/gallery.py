"""Pictures of some images and their maps, kept beside the rows for reports."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dix.bench.run.job import Job
from dix.datasets.api import CorruptSample, content_of
from dix.files import write_atomic
from dix.maps import min_max
from dix.metrics.api import ImageBatch

#: Quantiles of a map between which its picture spans black to white.
CLIPPED = (0.005, 0.995)
#: What the pictures of an image are about; or why an image has none.
ABOUT, SILENT = "about.json", "silent.json"


class Gallery:
    """The first `run.gallery` images of a job: a photo, each method's map (8 bits, min-max), and what was explained.

    Of the first `run.maps` images, and of those that `run.maps_of` names, the maps' own numbers are kept, too; see
    `stored_map`.

    Pictures belong to an image's name and content: those of an image that has changed are missing. An image that the
    network does not answer for has none, which is noted, so that nobody looks for them again.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder / "images" / job.group.folder
        self.job = job
        self.kept_as = kept_images(job)
        self.indices = self.kept_as[".png"] | self.kept_as[".npz"]
        self._found: dict[int, str] = {}

    def wants(self, indices: Sequence[int], method: str) -> bool:
        """True where the picture of an image's map is missing."""
        return any(self._lacks(i, method) for i in indices if i in self.indices)

    def save(
        self, indices: Sequence[int], method: str, batch: ImageBatch, maps: Tensor, contents: Mapping[str, str]
    ) -> None:
        """Keep the pictures of the images that belong to the gallery. contents: the images' digests, by name."""
        for index, row in self._rows(indices, batch.ids):
            if not self._current(index, ABOUT, contents[batch.ids[row]]):
                self._clear(index)
                self._put(index, "photo.png", _png(batch.images[row].permute(1, 2, 0)))
                self._put(index, ABOUT, _json(self._about(batch, row) | {"content": contents[batch.ids[row]]}))
            for suffix in self._suffixes(index):
                self._put(index, f"{method}{suffix}", FORMS[suffix](maps[row]))

    def _suffixes(self, index: int) -> list[str]:
        """How an image's maps are kept: as pictures, as numbers, or both."""
        return [suffix for suffix, indices in self.kept_as.items() if index in indices]

    def set_aside(self, indices: Sequence[int], silent: Mapping[str, str], contents: Mapping[str, str]) -> None:
        """Note the images that have no pictures. silent: why, by name."""
        for index, row in self._rows(indices, list(silent)):
            image = list(silent)[row]
            self._clear(index)
            self._put(index, SILENT, _json({"image": image, "reason": silent[image], "content": contents[image]}))

    def _rows(self, indices: Sequence[int], ids: Sequence[str]) -> list[tuple[int, int]]:
        """The gallery's images among `indices`, with each one's place in `ids`."""
        place = {image: row for row, image in enumerate(ids)}
        names = {index: self.job.dataset.ids[index] for index in indices if index in self.indices}
        return [(index, place[name]) for index, name in names.items() if name in place]

    def _lacks(self, index: int, method: str) -> bool:
        content = self._content(index)
        files = [self._file(index, f"{method}{suffix}") for suffix in self._suffixes(index)]
        kept = all(file.is_file() for file in files) and self._current(index, ABOUT, content)
        return not kept and not self._current(index, SILENT, content)

    def _content(self, index: int) -> str:
        """The digest of what the data set holds now, looked up once; "" where it cannot be read."""
        if index not in self._found:
            try:
                self._found[index] = content_of(self.job.dataset, index)
            except CorruptSample:
                self._found[index] = ""
        return self._found[index]

    def _current(self, index: int, name: str, content: str) -> bool:
        """Whether a note is about the image as it is now; of an image that cannot be read, whether there is one."""
        try:
            note = json.loads(self._file(index, name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        wanted = {"image": self.job.dataset.ids[index]} | ({"content": content} if content else {})
        return isinstance(note, dict) and all(note.get(key) == value for key, value in wanted.items())

    def _clear(self, index: int) -> None:
        """Remove the pictures and notes of what was there before."""
        for suffix in (".png", ".npz", ".json"):
            for old in self._file(index, "").glob(f"*{suffix}"):
                old.unlink()

    def _about(self, batch: ImageBatch, row: int) -> dict[str, Any]:
        return {
            **self.job.group._asdict(),
            "image": batch.ids[row],
            "explained": self.job.class_name(int(batch.targets[row])),
            "probability": round(float(batch.clean.probability[row]), 4),
        }

    def _file(self, index: int, name: str) -> Path:
        return self.folder / f"{index:05d}" / name

    def _put(self, index: int, name: str, content: bytes) -> None:
        write_atomic(self._file(index, name), content)


def kept_images(job: Job) -> dict[str, set[int]]:
    """By a file's suffix, the indices of the images whose maps are kept in such files.

    Raises ValueError where `run.maps_of` names an image that is not in the run.
    """
    order, wanted = job.order, set(job.run.maps_of)
    named = {job.dataset.ids[index]: index for index in order if job.dataset.ids[index] in wanted} if wanted else {}
    for name in job.run.maps_of:
        if name not in named:
            example = f", which has images such as {job.dataset.ids[order[0]]!r}" if len(order) else ""
            raise ValueError(f"run.maps_of: no image {name!r} in this run of {job.dataset.name}{example}")
    return {".png": set(order[: job.run.gallery]), ".npz": {*order[: job.run.maps], *named.values()}}


def _json(note: Mapping[str, Any]) -> bytes:
    return json.dumps(note).encode()


def _for_eyes(explanation: Tensor) -> Tensor:
    """A map [H, W] in [0, 1], its extreme halves of a percent clipped, since single pixels would hide grainy maps."""
    safe = torch.nan_to_num(explanation.double(), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = torch.quantile(safe.flatten(), torch.tensor(CLIPPED, dtype=safe.dtype, device=safe.device))
    return min_max(safe.clamp(low, high)[None])[0]


def stored_map(explanation: Tensor) -> bytes:
    """A map [H, W] as compressed numbers: `map` as float16 in [-1, 1], times `scale` as float32, its largest size.

    Maps of gradients are as small as 1e-8, where float16 has no digits left; scaled, each number keeps eleven bits.
    What is not finite stays so.
    """
    values = explanation.detach().double().cpu().numpy()
    sizes = np.abs(values[np.isfinite(values)])
    scale = float(sizes.max(initial=0.0)) or 1.0
    buffer = io.BytesIO()
    np.savez_compressed(buffer, map=(values / scale).astype(np.float16), scale=np.float32(scale))
    return buffer.getvalue()


def _png(pixels: Tensor) -> bytes:
    """Pixels [H, W] or [H, W, 3] in [0, 1] as PNG; what is not finite becomes black."""
    safe = torch.nan_to_num(pixels.float(), nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    buffer = io.BytesIO()
    Image.fromarray((safe.cpu().numpy() * 255).round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _picture(explanation: Tensor) -> bytes:
    return _png(_for_eyes(explanation))


#: By the suffix of a kept map's file, how its bytes are made.
FORMS: Mapping[str, Callable[[Tensor], bytes]] = {".png": _picture, ".npz": stored_map}
