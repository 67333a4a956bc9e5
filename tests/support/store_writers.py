"""Stores, jobs and processes for the tests of what happens to them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dix.bench.run.evaluate import evaluate
from dix.bench.store.cells import NAMES, StoredCell
from dix.bench.store.columns import SCHEMA
from dix.bench.store.results import ResultStore
from support import engine_jobs as parts

#: One process that computes a shard of a job on made images, slowly enough to be killed in the middle.
SHARD = textwrap.dedent("""
    import sys, time
    import dix.models; from support import engine_jobs as parts
    from dix.bench.run.evaluate import evaluate
    from dix.bench.store.results import ResultStore
    folder, shard, of, images, pause = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
    job = parts.job(dataset=parts.Made(count=images), batch_size=1, shard=[shard, of])
    evaluate(job, ResultStore(folder), lambda done, total: time.sleep(pause))
""")


#: A process that has imported everything; each shard it reads the number of becomes a child, whose id it prints.
NURSERY = textwrap.dedent("""
    import os, signal, sys, time
    from pathlib import Path
    import dix.models; from support import engine_jobs as parts
    from dix.bench.run.evaluate import evaluate
    from dix.bench.store import rows
    from dix.bench.store.results import ResultStore
    from dix.bench.run.freshness import origin
    parts.job().cells(), origin(parts.job())  # found once for each process: children have it
    folder, of, images, pause = sys.argv[1], *map(int, sys.argv[2:4]), float(sys.argv[4])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    def die_at(call, number):
        def counted(*words, **more):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*words, **more)
        left = [number]
        return counted
    for line in sys.stdin:
        shard, where, number = line.split()
        child = os.fork()
        if not child:
            rows.SMALL_PARTS = 3
            if where == "rename":
                os.replace = die_at(os.replace, int(number))
            elif where == "removal":  # the new part is there, the old ones are not all gone
                Path.unlink = die_at(Path.unlink, int(number))
            elif where == "compaction":
                rows.Parts.compact = die_at(rows.Parts.compact, int(number))
            job = parts.job(dataset=parts.Made(count=images), batch_size=1, shard=[int(shard), of])
            evaluate(job, ResultStore(folder), lambda done, total: time.sleep(pause))
            os._exit(0)
        print(child, flush=True)
""")


class Nursery:
    """Starts shards within milliseconds, so that many can be killed."""

    def __init__(self, folder: Path, of: int, images: int, pause: float) -> None:
        words = [str(folder), str(of), str(images), str(pause)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, *words],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, shard: int, where: str = "nowhere", number: int = 0) -> int:
        """Begin a shard, which kills itself at the number-th rename, removal or compaction; its process id."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{shard} {where} {number}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End the process that starts the others."""
        self.process.communicate()


def start(folder: Path, shard: int, of: int, images: int, pause: float = 0.0) -> subprocess.Popen[bytes]:
    """Begin one shard in a process of its own."""
    words = [str(folder), str(shard), str(of), str(images), str(pause)]
    return subprocess.Popen(
        [sys.executable, "-c", SHARD, *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def whole(folder: Path, images: int, **run: object) -> None:
    """The same job in one go, in this process."""
    evaluate(parts.job(dataset=parts.Made(count=images), **{"batch_size": 1, **run}), ResultStore(folder))


def content(folder: Path) -> bytes:
    """A hash of every row of a store with all its bits, in the order of cells and images."""
    digest = hashlib.sha256()
    rows = ResultStore(folder).rows()
    for row in rows[[*NAMES, "image", "value", "parts", "curve", "reason", "note"]].itertuples(index=False):
        texts = [str(item) for item in (*row[:6], row[9], row[10])]
        digest.update("|".join(texts).encode() + row[6].hex().encode() + row[7].tobytes() + row[8].tobytes())
    return digest.digest() + len(rows).to_bytes(8, "big")


def provenance(**more: object) -> dict[str, object]:
    """A record of what a run was, with what every such record must have."""
    names = {"job": "m--d--p", "model": "m", "dataset": "d", "protocol": "p"}
    weights = {"source": "made up", "trained": False, "note": ""}
    return {**names, "weights": weights, "config": {}, "cost": {}, "versions": {}, **more}


def forge(folder: Path, kind: str, name: str, record: Mapping[str, Any]) -> None:
    """Write a record of any shape with a checksum that is right, as a stranger may."""
    content = json.dumps([kind, name, record], sort_keys=True, separators=(",", ":"))
    checksum = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    path = ResultStore(folder).records.path(kind, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"kind": kind, "name": name, "record": record, "checksum": checksum}))


def bomb(store: ResultStore, cell: StoredCell, count: int) -> Path:
    """A part of some kilobytes whose one row has `count` numbers, all of them not there."""
    zeros = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.nulls(count, pa.float32()))
    columns = {name: pa.array([""]) for name in SCHEMA.names}
    columns |= {"cell": pa.array([cell.digest]), "value": pa.array([0.0]), "curve": zeros}
    columns["parts"] = pa.array([[]], pa.list_(pa.float64()))
    path = store.parts.folder / cell.group.folder / "half"
    pq.write_table(pa.table(columns, schema=SCHEMA), path, compression="zstd")
    name = hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()
    return path.rename(path.with_name(f"part-{name}.parquet"))


def hash_of(text: str) -> int:
    """The first eight bytes of a text's BLAKE2b hash of that length, as a little-endian number."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def wait_for_end(process: int, seconds: float = 120.0) -> None:
    """Wait until a process that is not our own child is gone."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline, "the process still runs"
        time.sleep(0.01)
