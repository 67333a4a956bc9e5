"""How soon `dix view` shows something of a large folder, and how much memory it takes.

    python scripts/bench_view.py [--images 50000] [--methods 12]

Generates a results folder of that size with four metrics and curves of ten points, and pictures of some images. Starts
`dix view` on it and asks for what the page asks for: the first view, the list of images, one image with its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa

from dix.bench.store.cells import Group, StoredCell
from dix.bench.store.columns import SCHEMA
from dix.bench.store.results import ResultStore
from dix.files import write_atomic
from dix.pictures import png_bytes

GROUP, METRICS, SIDE, PICTURED, POINTS = Group("net", "data", "thesis"), ("neg", "pos", "ins", "del"), 224, 20, 10
#: Images whose rows are in one part.
AT_ONCE = 8_000


def fill(folder: Path, images: int, methods: int) -> None:
    """Write the rows and the pictures."""
    store = ResultStore(folder)
    names = [f"method{k:02d}" for k in range(methods)]
    cells = [StoredCell("net", "data", n, m, "thesis", {}, {"label": n}) for n in names for m in METRICS]
    store.open(cells)
    generator = np.random.default_rng(0)
    for start in range(0, images, AT_ONCE):
        ids = [f"val_{i:08d}" for i in range(start, min(start + AT_ONCE, images))]
        count = len(ids) * len(cells)
        empty = pa.array([""] * count)
        curves = pa.array(generator.random(count * POINTS, dtype=np.float32))
        columns = {
            "cell": pa.array(np.tile([cell.digest for cell in cells], len(ids))),
            "image": pa.array(np.repeat(ids, len(cells))),
            "value": pa.array(generator.normal(50, 10, count)),
            "parts": pa.array([[]] * count, pa.list_(pa.float64())),
            "curve": pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * POINTS), curves),
            "content": pa.array(np.repeat([f"{i:032x}" for i in range(len(ids))], len(cells))),
            **dict.fromkeys(("reason", "note", "origin"), empty),
        }
        store.append_table(GROUP, pa.table(columns, schema=SCHEMA))
    for i in range(min(PICTURED, images)):
        room = folder / "images" / GROUP.folder / f"{i:05d}"
        about = {"image": f"val_{i:08d}", "explained": "tripod", "probability": 0.9}
        write_atomic(room / "about.json", json.dumps(about), durable=False)
        write_atomic(
            room / "photo.png", png_bytes(generator.integers(0, 255, (SIDE, SIDE, 3), np.uint8)), durable=False
        )
        for name in names:
            np.savez(room / f"{name}.npz", map=generator.random((SIDE, SIDE)).astype(np.float16), scale=1.0)


def peak(process: subprocess.Popen[str]) -> float:
    """Most memory that a process had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else float("nan")


def spent(process: subprocess.Popen[str]) -> float:
    """Seconds of processor time that a process took so far (proc(5): fields 14 and 15, in ticks)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Fill, serve, ask, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--methods", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "large")
        fill(folder, arguments.images, arguments.methods)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "dix.cli", "view", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]

        def asked(*paths: str) -> None:
            for path in paths:
                with urllib.request.urlopen(f"{url}{path}", timeout=120) as reply:
                    reply.read()

        def image(place: int) -> list[str]:
            maps = [kind for k in range(arguments.methods) for kind in (f"heat-{k}.webp", f"order-{k}.png")]
            return [f"data/0/{place}/{file}" for file in ("photo.webp", *maps)]

        last, scores = (arguments.images - 1) // 64, [f"data/0/{m}.f32" for m in range(len(METRICS))]
        steps = {
            "first view, from the command on": ["", "view.js", "view.css", "data/index.json"],
            "list of images": ["data/0/images.json", scores[0], "data/0/pictures.json"],
            "first image": [*scores, "data/0/rows/0.json", *image(0)],
            "another image": [f"data/0/rows/{last}.json", *image(1)],
        }
        try:
            before = 0.0
            for name, paths in steps.items():
                asked(*paths)
                wall, own = time.perf_counter() - begun, spent(process) - before
                print(f"{name}: {wall:.2f} s, {own:.2f} s of the processor; at most {peak(process):.0f} MB", flush=True)
                begun, before = time.perf_counter(), spent(process)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
