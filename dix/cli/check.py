"""`dix check`: does a method, metric, data set or model of your own hold its contract?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from dix.baselines.orientation import RIGHT, best_map, orientation
from dix.bench.run import contracts
from dix.bench.run.contracts import Finding
from dix.bench.run.settings import ScoreProtocol
from dix.classifier import Classifier
from dix.cli.config import composed
from dix.cli.construct import build, data_set, preprocess_of
from dix.cli.options import add_overrides, overrides_of
from dix.cli.session import open_model
from dix.datasets.api import Dataset
from dix.look import FOLLOWS
from dix.seeding import generator

#: What to do where a part is not built: the message before it says what is wrong.
REBUILD = "mend the class or its YAML; docs/extending.md has a whole example, and `dix new` writes one"
#: Contracts of the parts that are tried on a model, by kind.
CONTRACTS: Mapping[str, Callable[..., Iterator[Finding]]] = {
    "method": contracts.explainer_contract,
    "metric": contracts.metric_contract,
}
#: Side of made images where no model says which it takes.
SIDE = 224
#: Of a layer whose activation does not follow a patch.
ASTRAY = (
    f"less than {FOLLOWS:g}: what it returns lies otherwise over the image, or it mixes all places alike; its maps "
    "tell no place, so name another layer"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration whose parts are checked."""
    about = "what to check, as for `dix run`: method=[mine] --config-dir my_conf; parts not named are not checked"
    add_overrides(parser, about, nargs="+")


def main(arguments: argparse.Namespace) -> int:
    """Print each clause; 0 only where all hold. What one part breaks does not keep the others from being checked."""
    config = composed(overrides_of(arguments))
    named = {word.split("=")[0].split(".")[0].lstrip("+~") for word in arguments.overrides}
    broken = 0
    for subject, findings in _Check(config, named).subjects():
        print(subject)
        for finding in _to_the_end(findings):
            broken += bool(finding.problem)
            print(f"  {'FAILS' if finding.problem else 'ok   '} {finding.clause}{_because(finding)}", flush=True)
    return 1 if broken else 0


def _to_the_end(findings: Iterator[Finding]) -> Iterator[Finding]:
    """The same; where looking itself fails, a clause that says so."""
    try:
        yield from findings
    except Exception as error:
        yield Finding("can be checked to the last clause", f"{type(error).__name__}: {error}; {REBUILD}")


def _because(finding: Finding) -> str:
    return f": {finding.problem}" if finding.problem else ""


@dataclass(frozen=True)
class _Built:
    """A part, or why there is none."""

    part: Any
    problem: str = ""

    @property
    def finding(self) -> Finding:
        """As a clause of its contract."""
        return Finding("is built from its configuration", f"{self.problem}; {REBUILD}" if self.problem else "")


def _built(make: Callable[[], Any]) -> _Built:
    try:
        return _Built(make())
    except Exception as error:
        return _Built(None, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")


#: A part's name for people, and what was found about it.
_Subject = tuple[str, Iterator[Finding]]


class _Check:
    """The parts of a configuration, each built by itself. named: the kinds that the user wrote, which are checked."""

    def __init__(self, config: DictConfig, named: set[str]) -> None:
        self.config, self.named = config, named
        self.model = _built(lambda: open_model(config))
        self.dataset = _built(lambda: data_set(config.dataset))

    def subjects(self) -> Iterator[_Subject]:
        """Every part that is named, and a model that is needed and cannot be built.

        Where the data set has no images to show, images of noise serve.
        """
        images = _built(self._images)
        shown = self.made() if images.problem else images.part
        if "model" in self.named or self.model.problem:
            whole = partial(_model, self.model.part, shown)
            yield f"model {self._name('model')}", _all(self.model, whole)
        if "dataset" in self.named:
            yield f"data set {self._name('dataset')}", _all(self.dataset, self._dataset)
        for kind, contract in CONTRACTS.items():
            if kind in self.named:
                for name, node in self.config[kind].items():
                    part = _built(partial(build, node, kind, f"{kind}.{name}"))
                    yield f"{kind} {name} on {self._name('model')}", self._tried(part, contract, shown)

    def made(self) -> Tensor:
        """Two images of noise, where the data set has none to offer."""
        side = self.model.part.input_size if self.model.part else SIDE
        return torch.rand(2, 3, side, side, generator=generator(0, "check"))

    def _tried(self, part: _Built, contract: Callable[..., Iterator[Finding]], images: Tensor) -> Iterator[Finding]:
        yield part.finding
        if part.part is not None and self.model.part is not None:
            yield from contract(part.part, self.model.part, images)
        elif part.part is not None:
            yield Finding("is tried on a model", "there is none, as said above; model=lenet5 is small and always there")

    def _dataset(self) -> Iterator[Finding]:
        return contracts.dataset_contract(self.dataset.part)

    def _images(self) -> Tensor:
        """The first two images as a run would show them."""
        protocol: ScoreProtocol = OmegaConf.to_object(self.config.protocol)  # type: ignore[assignment]
        dataset: Dataset = self.dataset.part
        preprocess = preprocess_of(self.model.part, protocol)
        return torch.stack([preprocess.image(dataset.read(index).image) for index in range(2)])

    def _name(self, kind: str) -> str:
        built = {"model": self.model, "dataset": self.dataset}[kind]
        node = self.config[kind]
        return str(getattr(built.part, "name", None) or node.get("name") or node.get("_target_", kind))


def _model(classifier: Classifier, images: Tensor) -> Iterator[Finding]:
    """The contract, and whether layers and maps follow a patch that moves over the image."""
    yield from contracts.classifier_contract(classifier, images)
    for layer in classifier.layers:
        found = orientation(classifier, layer)["layer"]
        yield Finding(f"{layer} follows a moved patch ({found:.2f} of 1)", "" if found >= FOLLOWS else ASTRAY)
    if classifier.layers:
        name, found = best_map(classifier)
        less = "" if found >= RIGHT else f", less than {RIGHT:g}: with these weights it moves no map to its own place"
        yield Finding(f"the map that follows it best is of {name} ({found:.2f} of 1{less})")


def _all(built: _Built, contract: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What building a part says, and its contract where there is a part."""
    yield built.finding
    if built.part is not None:
        yield from contract()
