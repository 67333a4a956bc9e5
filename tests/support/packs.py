"""Packs for the tests of what travels, honest ones and those of a forger who knows the format."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dix.baselines.controls import Random
from dix.bench.report.compare import ResultSet
from dix.bench.run.evaluate import evaluate
from dix.bench.share import container
from dix.bench.share.pack import pack
from dix.bench.share.summaries import summaries_of
from dix.bench.store.results import ResultStore
from dix.bench.tables.build import build
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import Labels, Plan
from dix.cli.evidence import evidence_of
from support import engine_jobs
from support.store_writers import provenance

QUICK = Bootstrap(resamples=200, flips=99)
#: A method under the name of each reference, and one more.
METHODS = {"gc": engine_jobs.Brightness(), "random": Random(), "broken": engine_jobs.NotFinite()}


def made_store(
    folder: Path, seed: int = 0, methods: Any = METHODS, model: str = "halves", version: int = 1, **run: Any
) -> ResultStore:
    """The rows of three methods and four metrics on eight made images, with a record of the run."""
    store = ResultStore(folder)
    job = engine_jobs.job(methods, model=engine_jobs.classifier(model), **run)
    job = dataclasses.replace(job, protocol=dataclasses.replace(job.protocol, seed=seed, version=version))
    evaluate(job, store)
    config = {"dataset": {"name": "made", "root": "/somewhere/private"}, "run": {"name": "x"}, "protocol": {}}
    config["protocol"] = {"name": "tested"}
    names = {"job": job.key or "made", **job.group._asdict()}
    more = {"device": "AMD EPYC, 2 cores", "commit": "", "cost": {"images": 8, "seconds": {"explain gc": 4.0}}}
    store.write_json(
        "provenance", f"made {model}", provenance(config={**config, "method": {}, "metric": {}}, **names, **more)
    )
    return store


def made_pack(folder: Path, name: str = "made", **run: Any) -> Path:
    """A pack of such a store."""
    store = made_store(folder / f"{name}-store", **run)
    return packed(store, folder / f"{name}.pack", name)


def packed(store: ResultStore, target: Path, name: str = "made") -> Path:
    """A pack of any store."""
    return pack(store, target, name, summaries_of(look(store).table.cells.values())).path


def look(store: ResultStore) -> ResultSet:
    """What `dix.cli.report.result_set` finds, with the made jobs' metrics and few resamples."""
    evidence = evidence_of(store)
    labels = {str(cell["method"]): str(cell["printed"]["label"]) for cell in evidence.cells}
    plan = Plan(engine_jobs.job().metrics, labels=Labels(methods=labels), controls=["random"])
    return ResultSet(build(evidence, plan, QUICK), evidence, {"tested": plan})


def sealed(path: Path, members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    """An archive of any members with a checksum at its end that is right."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
        archive.comment = b"dix-pack sha256 " + b"0" * 64
    content = path.read_bytes()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    return path


def members_of(path: Path) -> dict[str, bytes]:
    """Every file of a pack."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(path: Path, target: Path, change: Callable[[dict[str, Any]], None], **more: bytes) -> Path:
    """A pack with another manifest, and all checksums right. more: files to add, listed as they are."""
    members = {**members_of(path), **more}
    manifest = json.loads(members.pop(container.MANIFEST))
    manifest["files"] = listed(members)
    change(manifest)
    return sealed(target, [(container.MANIFEST, json.dumps(manifest).encode()), *members.items()])


def listed(members: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """What a manifest says of files."""
    return {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()}
