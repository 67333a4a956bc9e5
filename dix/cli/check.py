"""`dix check`: does a method, metric, data set or model of your own hold its contract?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch

from dix.bench.run import contracts
from dix.bench.run.contracts import Finding
from dix.bench.run.job import Job
from dix.cli.config import composed
from dix.cli.options import add_overrides, overrides_of
from dix.cli.session import open_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration whose parts are checked."""
    about = "what to check, as for `dix run`: method=[mine] --config-dir my_conf; parts not named are not checked"
    add_overrides(parser, about, nargs="+")


def main(arguments: argparse.Namespace) -> int:
    """Print each clause; 0 only where all hold."""
    checked = open_job(composed(overrides_of(arguments)))
    named = {word.split("=")[0].lstrip("+") for word in arguments.overrides}
    broken = 0
    for subject, findings in _subjects(checked, named):
        print(subject)
        for finding in findings:
            broken += bool(finding.problem)
            print(f"  {'FAILS' if finding.problem else 'ok   '} {finding.clause}{_because(finding)}")
    return 1 if broken else 0


def _subjects(checked: Job, named: set[str]) -> Iterator[tuple[str, Iterator[Finding]]]:
    images = torch.stack([checked.preprocess.image(checked.dataset.read(i).image) for i in range(2)])
    model = checked.classifier
    if "model" in named:
        yield f"model {model.name}", contracts.classifier_contract(model, images)
    if "dataset" in named:
        yield f"data set {checked.dataset.name}", contracts.dataset_contract(checked.dataset)
    if "method" in named:
        for name, method in checked.methods.items():
            yield f"method {name} on {model.name}", contracts.explainer_contract(method, model, images)
    if "metric" in named:
        for name, metric in checked.metrics.items():
            yield f"metric {name} on {model.name}", contracts.metric_contract(metric, model, images)


def _because(finding: Finding) -> str:
    return f": {finding.problem}" if finding.problem else ""
