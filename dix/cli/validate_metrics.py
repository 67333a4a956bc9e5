"""`dix validate-metrics`: does a metric know a good explanation from a bad one?"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dix.bench.run import runtime
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.run.outcome import Outcome
from dix.bench.store.results import ResultStore
from dix.bench.tables import samples
from dix.bench.validate import judge
from dix.bench.validate.degrade import degraded
from dix.bench.validate.report import Validation, documents
from dix.cli.config import composed, options
from dix.cli.construct import many
from dix.cli.options import add_overrides, overrides_of
from dix.cli.progress import progress_of
from dix.cli.session import open_job
from dix.files import write_atomic

#: The kind of record that keeps how a validation was run.
KIND = "validations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Hydra's overrides."""
    add_overrides(parser, "as in experiment=validation, or model=resnet101 method=[gc] metric=[neg,ins] run.limit=50")


def main(arguments: argparse.Namespace) -> int:
    """Score every step of every ladder, then write the page of all that the results folder holds."""
    config = composed(overrides_of(arguments))
    job = ladders_of(open_job(config))
    store = ResultStore(config.run.results)
    begun = time.monotonic()
    with progress_of([job], config.run.progress) as progress:
        outcome = evaluate(job, store, progress)
    seconds = time.monotonic() - begun
    if outcome.trouble:
        raise ValueError(outcome.trouble)
    name = json.dumps([*job.group, *config.method])
    if outcome.images or store.json(KIND, name) is None:
        store.write_json(KIND, name, _record(config, job, outcome, seconds))
    for file, text in documents(validation_of(store, job)).items():
        write_atomic(Path(config.run.results) / file, text)
        print(Path(config.run.results) / file)
    return 1 if outcome.failed else 0


def ladders_of(job: Job) -> Job:
    """The same job with every method made worse in every step. Raises ValueError without methods or metrics."""
    if not job.methods or not job.metrics:
        raise ValueError("method, metric: expected at least one of each to be validated")
    return dataclasses.replace(job, methods=degraded(job.methods))


def validation_of(store: ResultStore, job: Job) -> Validation:
    """What a store's rows say of the metrics: this suite's, and those of the job, which may be the user's own."""
    config = composed([f"metric=[{','.join(options('metric'))}]"])
    metrics = {**many(config.metric, "metric"), **job.metrics}
    stored = samples.stored(store)
    return Validation(
        metrics=metrics,
        orders=judge.orders(stored, metrics),
        rankings=judge.rankings(stored, metrics),
        provenance=store.read_json(KIND),
    )


def _record(config: DictConfig, job: Job, outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        **job.group._asdict(),
        "weights": job.classifier.weights.source,
        "fingerprint": job.classifier.fingerprint,
        "method": ", ".join(map(str, config.method)),
        "images": job.count,
        "seconds": round(seconds, 1),
        "forwards_of_metrics": outcome.forwards,
        "machine": runtime.machine(job.classifier.device),
        "versions": runtime.versions(),
        "commit": runtime.git_commit(),
        "config": OmegaConf.to_container(_plain(config), resolve=True),
    }


def _plain(config: DictConfig) -> DictConfig:
    """Without Hydra's own section, which knows folders of this machine."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
