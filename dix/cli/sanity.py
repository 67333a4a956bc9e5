"""`dix sanity`: randomise weights or labels and see whether the maps notice."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dix.bench.run import runtime
from dix.bench.run.job import Job
from dix.bench.sanity.compare import SeriesOutcome, run_series
from dix.bench.sanity.figures import figures_of
from dix.bench.sanity.report import documents
from dix.bench.sanity.series import Series, data_series, parameter_series
from dix.bench.sanity.settings import Sanity
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.cli.config import composed
from dix.cli.construct import build
from dix.cli.options import add_config_dir, add_overrides, folders_of, overrides_of
from dix.cli.progress import progress_of
from dix.cli.session import open_job
from dix.files import write_atomic

_OVERRIDES = "model, method, dataset, protocol, run and sanity, as in experiment=figure4 run.limit=100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The test, and Hydra's overrides."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="parameters|data|report")
    for name, text in (
        ("parameters", "re-initialise weight layers, cascading or one at a time, and compare the maps"),
        ("data", "compare the maps with those of networks of other weights (sanity.against=[PATH])"),
    ):
        add_overrides(actions.add_parser(name, help=text, description=text), _OVERRIDES)
    reporting = actions.add_parser("report", help="write tables and figures of a results folder again")
    reporting.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    add_config_dir(reporting)


def main(arguments: argparse.Namespace) -> int:
    """Run a test, then write the tables and figures of everything in its results folder."""
    if arguments.action == "report":
        folders_of(arguments)  # checked as by every command; the stored records say all that is needed
        folder = next((p for p in (Path(arguments.results), Path("results") / arguments.results) if p.is_dir()), None)
        if folder is None:
            raise ValueError(f"no results folder {arguments.results!r}, and none in results/")
        return _write(folder)
    config = composed([*overrides_of(arguments), "metric=[]"])
    _run(config, arguments.action)
    return _write(Path(config.run.results))


def _run(config: DictConfig, action: str) -> None:
    made = open_job(config)
    settings: Sanity = OmegaConf.to_object(config.sanity)  # type: ignore[assignment]
    store = ResultStore(config.run.results)
    for series in _series(config, action, made.classifier, settings):
        start = time.monotonic()
        with progress_of([made], config.run.progress) as progress:
            outcome = run_series(made, series, settings, store, progress)
        seconds = time.monotonic() - start
        if outcome.images:
            name = f"sanity--{made.name}--{series.name}-r{series.repeat}"
            store.write_json("provenance", name, _provenance(config, made, series, seconds))
        _say(made, series, outcome, seconds)


def _series(config: DictConfig, action: str, classifier: Classifier, settings: Sanity) -> Iterable[Series]:
    if action == "parameters":
        return parameter_series(classifier, settings, config.protocol.seed)
    variants = {_variant_name(path): _variant(config, path, classifier) for path in settings.against}
    return [data_series(classifier, variants, settings)]


def _variant_name(path: str) -> str:
    return Path(path).stem


def _variant(config: DictConfig, weights: str, like: Classifier) -> Classifier:
    """The same model with other weights."""
    node = OmegaConf.merge(config.model, {"weights": weights})
    made: Classifier = build(node, "model", "sanity.against")
    return made.to(like.device, like.dtype)


def _provenance(config: DictConfig, made: Job, series: Series, seconds: float) -> dict[str, Any]:
    weights = made.classifier.weights
    return {
        "job": f"{made.name} {series.name}",
        **made.group._asdict(),
        "weights": {"source": weights.source, "trained": weights.trained, "note": weights.note},
        "fingerprint": made.classifier.fingerprint,
        "device": runtime.machine(made.classifier.device),
        "versions": runtime.versions(),
        "commit": runtime.git_commit(),
        "config": OmegaConf.to_container(_plain(config), resolve=True),
        "cost": {"wall_seconds": round(seconds, 1)},
    }


def _plain(config: DictConfig) -> DictConfig:
    """Without Hydra's own section, which knows folders of this machine."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _say(made: Job, series: Series, outcome: SeriesOutcome, seconds: float) -> None:
    for method, reason in outcome.skipped.items():
        print(f"skipped {method}: {reason}")
    for image, reason in outcome.unread.items():
        print(f"left out {image}: {reason}")
    for method, counts in outcome.faulty.items():
        if counts:
            print(f"{method}: " + ", ".join(f"{count} maps {fault}" for fault, count in sorted(counts.items())))
    what = f"{outcome.images} images, {outcome.rows} new rows" if outcome.images else "everything is stored already"
    print(f"{made.name} {series.name} repeat {series.repeat}: {what} ({seconds:.0f} s)")


def _write(folder: Path) -> int:
    store = ResultStore(folder)
    for name, text in documents(store).items():
        write_atomic(folder / name, text)
        print(folder / name)
    for path in figures_of(store, folder):
        print(path)
    return 0
