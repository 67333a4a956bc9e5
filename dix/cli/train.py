"""`dix train`: a classifier of the suite on true or permuted labels, for the data-randomisation test."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from dix.bench.run import runtime
from dix.bench.sanity.settings import Train
from dix.bench.sanity.train import Task, Trained, train
from dix.cli.config import composed
from dix.cli.construct import data_set
from dix.cli.options import add_overrides, overrides_of
from dix.cli.session import open_job
from dix.datasets.api import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Hydra's overrides."""
    add_overrides(parser, "model, dataset, run and train, as in experiment=train_digits train.labels=permuted")


def main(arguments: argparse.Namespace) -> int:
    """Train, and print what came of it."""
    config = composed([*overrides_of(arguments), "method=[]", "metric=[]"])
    task = task_of(config)
    start = time.monotonic()
    trained = train(task, _show)
    seconds = time.monotonic() - start
    print(f"{task.settings.out}: {_told(trained)} ({seconds:.0f} s)")
    return 0


def task_of(config: DictConfig) -> Task:
    """The objects behind a configuration, on their device."""
    made = open_job(config)
    device = made.classifier.device
    settings: Train = OmegaConf.to_object(config.train)  # type: ignore[assignment]
    return Task(
        classifier=made.classifier,
        train=made.dataset,
        held_out=_held_out(config, settings.held_out),
        preprocess=made.preprocess,
        settings=settings,
        identity={
            "model": made.classifier.name,
            "dtype": config.protocol.dtype,
            "tf32": config.protocol.tf32,
            "versions": {name: runtime.versions()[name] for name in runtime.TRAINING},
            "threads": _threads(),
            "device": device.type,
        },
        workers=config.run.workers,
        about={"machine": runtime.machine(device), "commit": runtime.git_commit()},
    )


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _held_out(config: DictConfig, changes: Sequence[str]) -> Dataset | None:
    """The data set of the test images: the training images' with other settings; None where nothing is changed."""
    if not changes:
        return None
    wrong = [change for change in changes if ":" not in change]
    if wrong:
        raise ValueError(f"train.held_out: expected settings of the data set such as part:test, got {wrong[0]!r}")
    merged = OmegaConf.merge(config.dataset, dict(change.split(":", 1) for change in changes))
    assert isinstance(merged, DictConfig)
    return data_set(merged)


def _show(done: int, total: int, accuracy: float) -> None:
    print(f"epoch {done} of {total}: {accuracy:.2%} right while training", file=sys.stderr)


def _told(trained: Trained) -> str:
    text = f"{trained.epochs} epochs, {trained.train_accuracy:.2%} of {trained.train_images} training images"
    if not trained.test_images:
        return text
    low, high = trained.test_interval()
    return (
        f"{text}, {trained.test_accuracy:.2%} of {trained.test_images} held-out images "
        f"(95 % interval {low:.2%} to {high:.2%})"
    )
