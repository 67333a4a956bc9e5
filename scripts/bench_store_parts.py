"""What a resumed job and a report spend on a store of many small parts, here and in an earlier checkout.

    python scripts/bench_store_parts.py FOLDER                        200,000 rows in 5,000 parts
    python scripts/bench_store_parts.py FOLDER --against CHECKOUT     beside an earlier one, with its own .venv

Each version writes and reads its own store, in turn. Printed are wall and processor seconds, the least of all rounds:
on a busy machine only the latter mean something. `resume` asks which images are stored, `report` reads all rows and
surveys the store.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("neg", "pos", "ins", "deletion", "adp", "pic", "sic", "aic")
METHODS = 5
#: Where names are now, and where they were before the store had rooms.
PLACES = {
    "ResultStore": ("dix.bench.store.results", "dix.bench.store"),
    "Row": ("dix.bench.store.columns", "dix.bench.store"),
    "StoredCell": ("dix.bench.store.cells", "dix.bench.store"),
    "survey": ("dix.bench.store.status", "dix.bench.status"),
    "stored": ("dix.bench.tables.samples", "dix.bench.samples"),
}


def main() -> None:
    """Measure one round, or several rounds of both versions in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=5000, help="a part holds the rows of one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="an earlier checkout")
    parser.add_argument("--one", action="store_true", help="one round of this version, as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_round(options.folder, options.images)))
        return
    here = Path(__file__).resolve().parent.parent
    versions = {"now": here} | ({"before": options.against.resolve()} if options.against else {})
    rounds = [(name, measured(root, options, name)) for _ in range(options.rounds) for name, root in versions.items()]
    for what in ("resume", "report"):
        for clock in ("wall", "processor"):
            least = {name: min(r[what][clock] for n, r in rounds if n == name) for name in versions}
            ratio = f", ratio {least['now'] / least['before']:.2f}" if "before" in least else ""
            print(f"{what} {clock:<9} " + ", ".join(f"{name} {s:.2f} s" for name, s in least.items()) + ratio)


def measured(root: Path, options: argparse.Namespace, name: str) -> dict[str, dict[str, float]]:
    """A round in the version of a checkout."""
    words = [root / ".venv" / "bin" / "python", Path(__file__).resolve(), options.folder.resolve() / name, "--one"]
    done = subprocess.run(
        [*map(str, words), "--images", str(options.images)],
        cwd=root, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def part_of(name: str) -> Any:
    """A class or function, wherever this version has it."""
    for place in PLACES[name]:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError:
            continue
        if hasattr(module, name):
            return getattr(module, name)
        if name == "StoredCell" and hasattr(module, "Cell"):
            return module.Cell
    raise SystemExit(f"{name} is in none of {', '.join(PLACES[name])}")


def one_round(folder: Path, images: int) -> dict[str, dict[str, float]]:
    """Seconds by task and clock; the store is written first where it is missing."""
    cell, opened = part_of("StoredCell"), part_of("ResultStore")
    cells = [cell("m", "d", f"method{i}", metric, "p", {"made": "up"}) for i in range(METHODS) for metric in METRICS]
    if not folder.exists():
        write(folder, cells, images)

    def resume() -> None:
        store = opened(folder)
        store.open(cells)
        assert sum(map(len, store.done(cells[0].group).values())) == images * len(cells)

    def report() -> None:
        store = opened(folder)
        assert len(part_of("stored")(store)) == len(cells)
        assert part_of("survey")(store).total("done") == images * len(cells)

    return {"resume": timed(resume), "report": timed(report)}


def timed(task: Callable[[], None]) -> dict[str, float]:
    """Wall and processor seconds of a task."""
    wall, processor = time.perf_counter(), time.process_time()
    task()
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def write(folder: Path, cells: list[Any], images: int) -> None:
    """Made-up rows, a part an image, each by a store of its own so that no parts are put together."""
    opened, row = part_of("ResultStore"), part_of("Row")
    generator = np.random.default_rng(0)
    opened(folder).open(cells)
    for i in range(images):
        values, curves = generator.normal(50, 10, len(cells)), generator.random((len(cells), 10))
        more = {"content": f"{i:032x}", "origin": "0" * 16} if "content" in row.__dataclass_fields__ else {}
        rows = [
            row(cell.digest, f"ILSVRC2012_val_{i:08d}", float(value), [], curve.tolist(), **more)
            for cell, value, curve in zip(cells, values, curves, strict=True)
        ]
        opened(folder).append(cells[0].group, rows)


if __name__ == "__main__":
    main()
