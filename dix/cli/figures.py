"""`dix figures`: the thesis's Figures 1-3, or the same grid for any model, methods and images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from dix.bench.report.figures import Example, qualitative_grid, save
from dix.bench.run.batch import maps, prepare
from dix.bench.run.job import Job
from dix.bench.tables import paper
from dix.bench.tables.statistics import Floats
from dix.cli.options import add_config_dir, folders_of, search_path
from dix.cli.session import open_job
from dix.cli.sweep import configurations
from dix.datasets.loader import load
from dix.datasets.subset import known_labels
from dix.passes import Passes
from dix.pictures import without_peaks

FIGURES = ("figure1", "figure2", "figure3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which figures, and how."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FIGURE|KEY=VALUE",
        help="experiments (default: figure1 to figure3) and overrides, as for `dix run`; dataset.subset chooses images",
    )
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Draw every figure into results/NAME/figures as PDF and PNG."""
    names = [word for word in arguments.words if "=" not in word] or list(FIGURES)
    overrides = [word for word in arguments.words if "=" in word] + search_path(folders_of(arguments))
    for name in names:
        for path in draw(name, configurations([f"experiment={name}", *overrides])):
            print(path)
    return 0


def draw(name: str, configs: Sequence[DictConfig]) -> list[Path]:
    """One figure with the rows of every job; the files written."""
    rows: list[Example] = []
    labels: dict[str, str] = {}
    for config in configs:
        job = open_job(config)
        model = paper.MODEL_LABELS.get(job.classifier.name, job.classifier.name) if len(configs) > 1 else ""
        labels |= {method: job.methods[method].label for method in job.methods}
        weights = job.classifier.weights
        print(
            f"{name}: {job.classifier.name}, {weights.source}{f' ({weights.note})' if weights.note else ''}", flush=True
        )
        rows += examples(job, chosen(job, config.dataset.get("subset")), model)
    figure = qualitative_grid(rows, list(labels), labels)
    folder = Path(configs[0].run.results) / "figures"
    paths = [folder / f"{name}.{kind}" for kind in ("pdf", "png")]
    for path in paths:
        save(figure, path)
    return paths


def chosen(job: Job, subset: str | None) -> list[int]:
    """The images of a figure: of ``classes:...`` the first of each class, in that order; else all, up to run.limit."""
    form, _, classes = str(subset).partition(":")
    if form == "classes":
        labels = list(known_labels(job.dataset))
        return [labels.index(int(label)) for label in classes.split(",")]
    return list(range(job.count))


def examples(job: Job, indices: Sequence[int], model: str = "") -> list[Example]:
    """A row for each image: its class in words (and the model's name), its pixels, every able method's map."""
    rows = []
    for index in indices:
        batch = load(job.dataset, job.preprocess, [index])
        prepared = prepare(job, batch)
        target = int(prepared.passes.targets)
        words = f"{job.classifier.class_name(target)}{f' ({model})' if model else ''}"
        print(f"  {words}: {batch.ids[0]}", flush=True)
        rows.append(Example(words, batch.images[0].numpy(), _maps(job, prepared.passes)))
    return rows


def _maps(job: Job, passes: Passes) -> dict[str, Floats]:
    skipped, found = job.unsupported(), {}
    for name, method in job.methods.items():
        if name not in skipped:
            made = maps(method, passes, job.protocol.map_resize)
            if made.faults[0] != "not finite":
                found[name] = without_peaks(made.values[0].cpu().numpy())
    return found
