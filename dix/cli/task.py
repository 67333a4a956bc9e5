"""One job from its configuration: objects, device, evaluation, provenance."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dix.bench import runtime
from dix.bench.evaluate import Outcome, evaluate
from dix.bench.job import Job
from dix.bench.store import ResultStore
from dix.cli.config import job as job_of
from dix.cli.progress import progress_of


def run_job(config: DictConfig) -> None:
    """Run, and record how it went; in a sweep an error is stored and printed, so that the other jobs go on."""
    store = ResultStore(config.run.results)
    name = "--".join((config.model.name, config.dataset.get("name", "data"), config.protocol.name))
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        _run(config, store)
    except Exception as error:
        if not sweep or type(error).__module__.startswith("submitit"):
            raise
        print(f"dix: {name}: {error}", file=sys.stderr)
        store.write_json("failures", name, {"job": name, "method": "(all)", "images": [], "message": str(error)})
    else:
        store.forget("failures", name)


def _run(config: DictConfig, store: ResultStore) -> None:
    protocol, run = config.protocol, config.run
    device = runtime.choose_device(run.device)
    runtime.configure(run.threads, protocol.tf32, run.deterministic)
    job = job_of(config)
    job.classifier.to(device, runtime.choose_dtype(protocol.dtype))
    start = time.perf_counter()
    with progress_of(job, run.progress) as progress:
        outcome = evaluate(job, store, progress)
    if outcome.images:
        store.write_json("provenance", job.name, _provenance(config, job, outcome, time.perf_counter() - start))
        _record_clean(store, job, outcome)
    _say(job, outcome)


def _record_clean(store: ResultStore, job: Job, outcome: Outcome) -> None:
    """Which labelled images the model gets right unaltered, with those of the job's earlier runs."""
    earlier = [record["right"] for record in store.read_json("clean") if record["job"] == job.name]
    right = {image: hit for known in (*earlier, outcome.right) for image, hit in known.items()}
    names = {"job": job.name, "model": job.classifier.name, "dataset": job.dataset.name}
    store.write_json("clean", job.name, {**names, "right": right})


def _provenance(config: DictConfig, job: Job, outcome: Outcome, wall: float) -> dict[str, Any]:
    weights = job.classifier.weights
    return {
        "job": job.name,
        "model": job.classifier.name,
        "weights": dataclasses.asdict(weights),
        "fingerprint": job.classifier.fingerprint,
        "device": runtime.machine(job.classifier.device),
        "versions": runtime.versions(),
        "commit": runtime.git_commit(),
        "config": OmegaConf.to_container(config, resolve=True),
        "cost": {
            "images": outcome.images,
            "forwards_of_metrics": outcome.forwards,
            "seconds": {key: round(value, 3) for key, value in sorted(outcome.seconds.items())},
            "wall_seconds": round(wall, 3),
        },
    }


def _say(job: Job, outcome: Outcome) -> None:
    for method, reason in outcome.skipped.items():
        print(f"skipped {method}: {reason}")
    for image, reason in outcome.unread.items():
        print(f"left out {image}: {reason}")
    what = f"{outcome.images} images, {outcome.rows} new rows" if outcome.images else "everything is stored already"
    print(f"{job.name}: {what} in {job.run.results}")
