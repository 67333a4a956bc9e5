"""How long a store takes at full size: rows written by shards, looked up by a resumed job, reduced to the table.

    python scripts/bench_store.py FOLDER                    Table 1: 50,000 images, 12 methods, 8 metrics, 3 models
    python scripts/bench_store.py FOLDER --images 2000      a smaller one

The scores are made up; everything else is the program's own: its store, its metrics' summaries, its table. Each phase
runs in a process of its own and prints its wall time and its largest memory.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import SCHEMA
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey
from dix.bench.tables import paper, samples
from dix.bench.tables.build import build
from dix.bench.tables.table import Evidence, Plan

MODELS = ("resnet101", "convnext_base", "densenet201")
METRICS = ("neg", "pos", "ins", "deletion", "adp", "pic", "sic", "aic")
#: Values of a stored curve and of stored parts, by metric.
CURVE = {"sic": 26, "aic": 26, "adp": 0, "pic": 0}
PARTS = {"sic": 4, "aic": 4}
PHASES = ("write", "look-up", "status", "table")


def main() -> None:
    """Run all phases, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--part", type=int, default=100, help="images whose rows are stored at a time")
    parser.add_argument("--protocol", default="thesis", help="whose metrics summarise")
    parser.add_argument("--phase", choices=PHASES)
    options = parser.parse_args()
    if options.phase:
        start = time.perf_counter()
        said = {"write": write, "look-up": look_up, "status": status, "table": table}[options.phase](options)
        memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(f"{options.phase:<8} {time.perf_counter() - start:7.1f} s {memory / 2**20:6.2f} GiB   {said}", flush=True)
        return
    for phase in PHASES:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--phase", phase], check=True)


def cells_of(model: str, protocol: str) -> list[StoredCell]:
    """Table 1's cells of one model."""
    methods = paper.layout(1).methods
    return [StoredCell(model, "imagenet", a, b, protocol, {"made": "up"}) for a in methods for b in METRICS]


def names(count: int) -> np.ndarray:
    """Image ids as ImageNet has them."""
    return np.array([f"ILSVRC2012_val_{i + 1:08d}" for i in range(count)])


def write(options: argparse.Namespace) -> str:
    """Every shard of every model, two at a time."""
    work = [(options, model, shard) for model in MODELS for shard in range(options.shards)]
    for model in MODELS:
        ResultStore(options.folder).open(cells_of(model, options.protocol))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        rows = sum(pool.map(write_shard, work))
    size = sum(path.stat().st_size for path in options.folder.rglob("*.parquet"))
    return f"{rows:,} rows, {size / 2**30:.2f} GiB in {len(list(options.folder.rglob('*.parquet')))} parts"


def write_shard(work: tuple[argparse.Namespace, str, int]) -> int:
    """One shard's rows, a few images at a time, as a job stores them."""
    options, model, shard = work
    store, cells = ResultStore(options.folder), cells_of(model, options.protocol)
    generator = np.random.default_rng([MODELS.index(model), shard])
    ids, rows = names(options.images), 0
    for start in range(shard * options.part, options.images, options.shards * options.part):
        made = pa.concat_tables([rows_of(cell, ids[start : start + options.part], generator) for cell in cells])
        store.append_table(cells[0].group, made)
        rows += len(made)
    store.compact(cells[0].group)
    return rows


def rows_of(cell: StoredCell, images: np.ndarray, generator: np.random.Generator) -> pa.Table:
    """Made-up rows of one cell."""
    n = len(images)
    value = 50 + 10 * generator.standard_normal(n)
    columns = [
        pa.array([cell.digest] * n),
        pa.array(images),
        pa.array(value),
        lists(generator.random((n, PARTS.get(cell.metric, 0)))),
        lists(np.sort(generator.random((n, CURVE.get(cell.metric, 10)))).astype(np.float32)),
        pa.array([""] * n),
        pa.array([""] * n),
        pa.array([hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in images]),
        pa.array(["0123456789abcdef"] * n),
    ]
    return pa.table(columns, schema=SCHEMA)


def lists(matrix: np.ndarray) -> pa.ListArray:
    """A list for each row of a matrix."""
    n, width = matrix.shape
    return pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * width, pa.array(matrix.ravel()))


def look_up(options: argparse.Namespace) -> str:
    """What a job that goes on asks: which images of its shard are stored, in each of its cells."""
    cells = cells_of(MODELS[0], options.protocol)
    grid = np.arange(options.images) // options.part % options.shards == 0
    mine = set(names(options.images)[grid].tolist())
    done = ResultStore(options.folder).done(cells[0].group, {cell.digest for cell in cells}, mine)
    return f"{sum(map(len, done.values())):,} of {options.images * len(cells):,} rows of one model are this shard's"


def status(options: argparse.Namespace) -> str:
    """All of `dix status`."""
    found = survey(ResultStore(options.folder))
    return f"{found.total('done'):,} rows in {len(found.cells)} cells"


def table(options: argparse.Namespace) -> str:
    """Read everything and reduce it: scores, intervals, tests, ranks and claims."""
    from dix.cli.config import composed
    from dix.cli.construct import many

    start = time.perf_counter()
    metrics = many(composed([f"metric=[{','.join(METRICS)}]", f"protocol={options.protocol}"]).metric, "metric")
    store = ResultStore(options.folder)
    stored = samples.stored(store)
    read = time.perf_counter() - start
    built = build(Evidence(stored, store.cells()), Plan(metrics))
    return f"reading {read:.1f} s; {len(built.with_status('measured'))} cells, {len(built.claims)} claims"


if __name__ == "__main__":
    main()
