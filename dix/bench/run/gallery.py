"""Pictures of some images and their maps, kept beside the rows for reports."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dix.bench.run.job import Job
from dix.files import write_atomic
from dix.maps import min_max
from dix.metrics.api import ImageBatch

#: Quantiles of a map between which its picture spans black to white.
CLIPPED = (0.005, 0.995)


class Gallery:
    """The first `run.gallery` images of a job: a photo, each method's map (8 bits, min-max), and what was explained."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder / "images" / job.group.folder
        self.job = job
        self.indices = set(job.order[: job.run.gallery])

    def wants(self, indices: Sequence[int], method: str) -> bool:
        """True where the picture of an image's map is missing."""
        return any(not self._file(i, f"{method}.png").is_file() for i in indices if i in self.indices)

    def save(self, indices: Sequence[int], method: str, batch: ImageBatch, maps: Tensor) -> None:
        """Keep the pictures of the images that belong to the gallery."""
        ids = self.job.dataset.ids
        position = {image: i for i, image in enumerate(batch.ids)}
        for index in indices:
            if index in self.indices and ids[index] in position:
                row = position[ids[index]]
                self._put(index, f"{method}.png", _png(_for_eyes(maps[row])))
                if not self._file(index, "about.json").is_file():
                    self._put(index, "photo.png", _png(batch.images[row].permute(1, 2, 0)))
                    self._put(index, "about.json", self._about(batch, row))

    def _about(self, batch: ImageBatch, row: int) -> bytes:
        target = self.job.classifier.class_of(int(batch.targets[row]))
        names = self.job.dataset.class_names
        about = {
            **self.job.group._asdict(),
            "image": batch.ids[row],
            "explained": names.get(target, f"class {target}"),
            "probability": round(float(batch.clean.probability[row]), 4),
        }
        return json.dumps(about).encode()

    def _file(self, index: int, name: str) -> Path:
        return self.folder / f"{index:05d}" / name

    def _put(self, index: int, name: str, content: bytes) -> None:
        write_atomic(self._file(index, name), content)


def _for_eyes(explanation: Tensor) -> Tensor:
    """A map [H, W] in [0, 1], its extreme halves of a percent clipped, since single pixels would hide grainy maps."""
    safe = torch.nan_to_num(explanation.double(), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = torch.quantile(safe.flatten(), torch.tensor(CLIPPED, dtype=safe.dtype, device=safe.device))
    return min_max(safe.clamp(low, high)[None])[0]


def _png(pixels: Tensor) -> bytes:
    """Pixels [H, W] or [H, W, 3] in [0, 1] as PNG; what is not finite becomes black."""
    safe = torch.nan_to_num(pixels.float(), nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    buffer = io.BytesIO()
    Image.fromarray((safe.cpu().numpy() * 255).round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
