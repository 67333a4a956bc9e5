"""One job from its configuration: objects, device, evaluation, provenance."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dix.bench.run import runtime
from dix.bench.run.evaluate import evaluate_together
from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.bench.store.cells import Group
from dix.bench.store.ledger import RUNNING
from dix.bench.store.results import ResultStore
from dix.cli.config import one_protocol, together
from dix.cli.construct import NOTHING, Given
from dix.cli.floor import floor_of
from dix.cli.output import tell
from dix.cli.progress import progress_of
from dix.cli.session import open_jobs
from dix.datasets.check import by_reason
from dix.datasets.subset import Subset

#: Set for a further pass of a sweep: jobs whose process died so often are left out.
GIVE_UP = "DIX_GIVE_UP_AFTER"


def run_job(config: DictConfig) -> None:
    """Run, and record how it went; in a sweep an error is stored and printed, so that the other jobs go on."""
    begun = time.perf_counter() - IMPORT_SECONDS
    store = ResultStore(config.run.results)
    configs = {key_of(each): each for each in _under_each_protocol(config)}
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if sweep and [key for key in configs if _died_too_often(store, key)]:
        return
    for key, each in configs.items():
        if each.run.only == "failed" and store.json("failures", key) is not None:
            OmegaConf.update(each, "run.only", "all")
    try:
        _run(configs, store, begun, sweep)
    except Exception as error:
        if not sweep or type(error).__module__.startswith("submitit"):
            raise
        tell(f"{next(iter(configs))}: {error}")
        for key in configs:
            _record_failure(store, key, str(error))
    else:
        for key in configs:
            store.forget("failures", key)


def run_given(configs: Sequence[DictConfig], given: Given) -> None:
    """Run a job under each of its protocols with parts that are at hand already, and record how it went."""
    begun = time.perf_counter()
    store = ResultStore(configs[0].run.results)
    _run({key_of(each): each for each in configs}, store, begun, sweep=False, given=given)


def _under_each_protocol(config: DictConfig) -> list[DictConfig]:
    """The job's configuration, or one for each protocol of a list, of which Hydra itself keeps the last."""
    if not HydraConfig.initialized() or one_protocol(HydraConfig.get()):
        return [config]
    given = HydraConfig.get().overrides
    return together([*given.task, *(word for word in given.hydra if word.startswith("hydra.searchpath="))])


def key_of(config: DictConfig) -> str:
    """Names a job's own files: by what its cells are called, its part of the images and its shard.

    No two jobs of a sweep share it, and a job that is run again with a mended setting has it again.
    """
    part, parts = config.run.shard
    dataset = config.dataset.get("name", str(config.dataset.get("_target_", "data")).rsplit(".", 1)[-1].lower())
    names = [sorted(map(str, config[group])) for group in ("method", "metric")]
    content = json.dumps([*names, config.dataset.get("subset"), part, parts])
    shard = "" if parts == 1 else f"--{part}of{parts}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:6]
    return f"{config.model.name}--{dataset}--{config.protocol.name}{shard}--{digest}"


def _died_too_often(store: ResultStore, key: str) -> bool:
    """Whether to leave a job out of a further pass, noting it as failed, because its process died again."""
    record = store.json("jobs", key)
    limit = int(os.environ.get(GIVE_UP, 0))
    if not limit or record is None or record["state"] != RUNNING or record["attempts"] < limit:
        return False
    times = record["attempts"]
    _record_failure(store, key, f"its process ended without an error message {times} times (was it out of memory?)")
    return True


def _record_failure(store: ResultStore, key: str, message: str) -> None:
    nothing = dict.fromkeys(Group._fields, "")
    record = {**nothing, "job": key, "method": "(all)", "images": [], "message": message}
    store.write_json("failures", key, record)


def _run(
    configs: Mapping[str, DictConfig], store: ResultStore, begun: float, sweep: bool, given: Given = NOTHING
) -> None:
    """configs: of one job under each of its protocols, by the key of its records."""
    jobs = open_jobs(list(configs.values()), list(configs), given)
    _say_left_out(jobs[0])
    start = time.perf_counter()
    with progress_of(jobs, jobs[0].run.progress) as progress:
        outcomes = evaluate_together(jobs, store, progress)
    wall = time.perf_counter() - start
    floor = floor_of(jobs, outcomes, wall)
    for job, config, outcome in zip(jobs, configs.values(), outcomes, strict=True):
        if outcome.images:
            record = _provenance(config, job, outcome, wall)
            record["cost"]["start_up_seconds"] = round((outcome.first_forward or start) - begun, 3)
            record["cost"]["times_the_floor"] = round(floor.times, 2) if floor else None
            record["cost"]["workers_busy"] = round(floor.busy, 3) or None if floor else None
            record["cost"]["shared_by"] = [other.protocol.name for other in jobs]
            store.write_json("provenance", job.key, record)
    said = [line for job, outcome in zip(jobs, outcomes, strict=True) for line in _said(job, outcome)]
    print("".join(f"{line}\n" for line in dict.fromkeys(said)), end="")
    for job, outcome in zip(jobs, outcomes, strict=True):
        _say(job, outcome, begun)
    print(f"{jobs[0].name}: {floor}\n" if floor else "", end="")
    if not sweep and jobs[0].run.shard[1] == 1:
        _say_scores(jobs, store)
    skipped_all = len(outcomes[0].skipped) == len(jobs[0].methods)
    troubles = list(dict.fromkeys(outcome.trouble for outcome in outcomes if outcome.trouble))
    if troubles and not (sweep and skipped_all):  # in a sweep, an impossible cell is a line and no failure
        raise ValueError("; ".join(troubles))


def _age_of_process() -> float:
    """Seconds since this process began, where the system tells; else 0."""
    try:
        ticks = float(Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return up - ticks / os.sysconf("SC_CLK_TCK")


def _provenance(config: DictConfig, job: Job, outcome: Outcome, wall: float) -> dict[str, Any]:
    weights = job.classifier.weights
    return {
        "job": job.key,
        **job.group._asdict(),
        "weights": dataclasses.asdict(weights),
        "fingerprint": job.classifier.fingerprint,
        "device": runtime.machine(job.classifier.device),
        "versions": runtime.versions(),
        "codecs": _codecs(job),
        "commit": runtime.git_commit(),
        "config": OmegaConf.to_container(config, resolve=True),
        "cost": {
            "images": outcome.images,
            "forwards_of_metrics": outcome.forwards,
            "passes": round(outcome.passes, 1),
            "seconds_a_pass": round(outcome.pass_seconds, 5) if math.isfinite(outcome.pass_seconds) else None,
            "encoded_files": outcome.files,
            "seconds": {key: round(value, 3) for key, value in sorted(outcome.seconds.items())},
            "wall_seconds": round(wall, 3),
        },
    }


def _codecs(job: Job) -> dict[str, Any]:
    """Settings and library versions of the encoders that metrics count bytes with, by metric."""
    codecs = {name: getattr(metric.probe, "codec", None) for name, metric in job.metrics.items()}
    return {name: codec.provenance() for name, codec in codecs.items() if codec is not None}


def _say_left_out(job: Job) -> None:
    """One line about what the data set holds and does not use, if there is any."""
    dataset = job.dataset
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    left_out = by_reason(getattr(dataset, "left_out", ()))
    if left_out:
        print(f"dataset {dataset.name}: left out {'; '.join(left_out)}")


def _said(job: Job, outcome: Outcome) -> Iterator[str]:
    """What was left out, in lines; protocols of one job mostly say the same."""
    for method, reason in outcome.skipped.items():
        yield f"skipped {method}: {reason}"
    for image, reason in outcome.unread.items():
        yield f"left out {image}: {reason}"
    for image, reason in list(outcome.silent.items())[:5]:
        yield f"excluded {image}: {reason}"
    if len(outcome.silent) > 5:
        yield f"excluded {len(outcome.silent)} images in all that the model does not answer for"


def _say(job: Job, outcome: Outcome, begun: float) -> None:
    if len(outcome.skipped) == len(job.methods):
        print(f"{job.name}: nothing can be computed, every method was skipped")
        return
    nothing = "nothing had failed" if job.run.only == "failed" else "everything is stored already"
    what = f"{outcome.images} images, {outcome.rows} new rows" if outcome.images else nothing
    start = "" if outcome.first_forward is None else f", start-up {outcome.first_forward - begun:.1f} s"
    print(f"{job.name}: {what} in {job.run.results}{start}")


def _say_scores(jobs: Sequence[Job], store: ResultStore) -> None:
    """The scores of a job that stands alone, and the command for the rest: of a sweep's, others are still to come."""
    from dix.cli.glance import glance  # imports the tables, for which no first forward need wait

    lines = [line for job in jobs for line in ("", *glance(job, store))]
    folder = store.folder.parent
    name = folder.name if folder.resolve() == (Path("results") / folder.name).resolve() else str(folder)
    if any(lines):
        print("\n".join([*lines, "", f"with intervals, tests and pictures: dix report {shlex.quote(name)}"]))


#: What a new process spends before its first job can start.
IMPORT_SECONDS = _age_of_process()
