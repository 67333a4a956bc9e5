"""From a configuration to a job that is ready to run: the one way, for every command."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import re
from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from dix.bench.run import runtime
from dix.bench.run.job import Job
from dix.bench.run.together import check_together
from dix.classifier import Classifier
from dix.cli.construct import NOTHING, Given, classifier_of, jobs_of
from dix.cli.garbage import nothing_to_collect


def open_job(config: DictConfig, key: str = "") -> Job:
    """The job of a configuration, with this process's threads and precision set and the classifier on its device.

    key: names the job's own record in the store.

    Raises ValueError where a setting, a part or the device is not to be had.
    """
    return open_jobs([config], [key])[0]


def open_jobs(configs: Sequence[DictConfig], keys: Sequence[str], given: Given = NOTHING) -> list[Job]:
    """The same for the configurations of one job under each of its protocols: jobs that share all but their metrics."""
    device, dtype = _set_up(configs[0])
    with nothing_to_collect():
        jobs = [dataclasses.replace(job, key=key) for job, key in zip(jobs_of(configs, given), keys, strict=True)]
    check_together(jobs)
    jobs[0].classifier.to(device, dtype)
    return jobs


def open_model(config: DictConfig) -> Classifier:
    """The classifier of a configuration alone, on its device, in a process that is set up for it."""
    device, dtype = _set_up(config)
    with nothing_to_collect():
        return classifier_of(config).to(device, dtype)


def _set_up(config: DictConfig) -> tuple[torch.device, torch.dtype]:
    """Set this process's threads and determinism; the device and precision of the classifier."""
    device = runtime.choose_device(device_of(config.run.device))
    dtype = runtime.choose_dtype(config.protocol.dtype)
    runtime.configure(threads_of(config.run.threads), config.protocol.tf32, config.run.deterministic)
    return device, dtype


def open_here(config: DictConfig, given: Given) -> Job:
    """The job of a configuration in a process that stays as it is; a classifier that is given stays on its device."""
    [job] = jobs_of([config], given)
    if given.model is None:
        job.classifier.to(runtime.choose_device("auto"))
    return job


def threads_of(wanted: int) -> int:
    """Threads of this process: as many as wanted; 0 takes the CPUs that SLURM gave the task, or else torch's choice.

    In a joblib worker torch's choice is the machine's cores over the number of jobs.
    """
    return wanted or int(os.environ.get("SLURM_CPUS_PER_TASK", 0))


def device_of(wanted: str) -> str:
    """The device of this process: `auto` in a joblib worker takes the machine's GPUs in turn, one process each.

    On SLURM each job sees its own GPU only.
    """
    worker = re.fullmatch(r"LokyProcess-(\d+)", multiprocessing.current_process().name)
    gpus = torch.cuda.device_count() if wanted == "auto" and worker else 0
    return f"cuda:{(int(worker[1]) - 1) % gpus}" if worker and gpus > 1 else wanted
