"""What it costs to know by content whether an image is still the one whose scores are stored.

    python scripts/bench_content.py [--images 50000]

Prints, for the embedded photos, the share of hashing in reading plus one forward of the smallest embedded network, and
for generated images in 1,000 folders the time to list them, to hash them without decoding and to the first batch.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dix.datasets.folder import Folder
from dix.datasets.identity import digest
from dix.datasets.loader import Loader, contents
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.models.zoo import embedded_efficientnet

SIDE = (500, 375)  #: pixels of a generated image, ImageNet's usual size
FOLDERS = 1000


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The least processor time of some repeats, in seconds: other programs and the disk do not count."""
    return min(_once(work)[1] for _ in range(repeats))


def _once(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time, in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def show(what: str, work: Callable[[], object], count: int = 1) -> None:
    """Print both times of one call, and the processor time of one of `count` images."""
    wall, processor = _once(work)
    each = f", {1e3 * processor / count:.3f} ms of it an image" if count > 1 else ""
    print(f"  {what}: {wall:.2f} s, of the processor {processor:.2f} s{each}")


def embedded() -> None:
    """Hashing beside reading and one forward, on the photos that packages carry."""
    photos, preprocess = Photos(), Preprocess(224)
    classifier = embedded_efficientnet("efficientnet_lite0", "lite0", {})
    indices = range(len(photos.ids))
    files = [photos._bytes(index) for index in indices]
    hashing = seconds(lambda: [digest(data) for data in files])
    batch = next(iter(Loader(photos, preprocess, [indices], 0)))
    reading = seconds(lambda: list(Loader(photos, preprocess, [indices], 0)))
    with torch.no_grad():
        forward = seconds(lambda: classifier.logits(batch.images))
    size = sum(map(len, files)) / len(files) / 1024
    print(f"embedded: {len(files)} photos of {size:.0f} KiB on average, one thread")
    for what, taken in (("hash", hashing), ("read, hash, resize", reading), ("one forward", forward)):
        print(f"  {what}: {1000 * taken / len(files):.3f} ms an image")
    print(f"  share of hashing in reading + one forward: {100 * hashing / (reading + forward):.2f} %")


def generated(count: int) -> None:
    """Listing, hashing and the first batch of many files."""
    with tempfile.TemporaryDirectory() as root:
        size = _write(Path(root), count)
        print(f"generated: {count:,} images of {size / 1024:.0f} KiB in {FOLDERS:,} folders")
        data = Folder(root)
        show(f"list {count:,} names", lambda: (data.ids, data.labels, data.fingerprint()))
        show("from nothing to the first batch of 8", lambda: next(iter(_loader(Folder(root), 16))))
        for workers in (0, 2):
            show(f"hash all without decoding, {workers} workers", partial(contents, data, range(count), workers), count)
        some = min(500, count)
        show(f"read, hash, resize {some}", lambda: list(_loader(data, some)), some)


def _loader(data: Folder, count: int) -> Loader:
    return Loader(data, Preprocess(224), [range(i, min(i + 8, count)) for i in range(0, count, 8)], 2)


def _write(root: Path, count: int) -> int:
    """Noisy images of ImageNet's size, each with bytes of its own; returns the size of one in bytes."""
    coarse = np.random.default_rng(0).integers(0, 256, (SIDE[1] // 3, SIDE[0] // 3, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(SIDE, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    data = stream.getvalue()
    for index in range(count):
        folder = root / f"{index % FOLDERS:04d}"
        folder.mkdir(exist_ok=True)
        (folder / f"{index:05d}.jpg").write_bytes(data + index.to_bytes(4, "big"))
    return len(data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    torch.set_num_threads(1)
    embedded()
    generated(parser.parse_args().images)
