"""A job from Python: names and parts that are at hand already become the configuration that the command line has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dix.bench.run.job import Job
from dix.cli.config import explained, together
from dix.cli.construct import TARGET, Given, checked
from dix.cli.session import open_here
from dix.cli.task import run_given
from dix.identity import path_of

#: The group of each field of `Given`.
SEVERAL = {"method": "methods", "metric": "metrics"}
SINGLE = {"model": "model", "dataset": "dataset"}


@contextmanager
def ordinary() -> Iterator[None]:
    """Gradients are recorded as usual, whatever block of `torch.no_grad()` or `torch.inference_mode()` we are in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def configured(words: Sequence[str], given: Given, settings: Mapping[str, Any]) -> list[DictConfig]:
    """The configurations of a job, one for each of its protocols.

    words: overrides as on the command line, for parts that have a name. given: the other parts, whose nodes say what
    they are. settings: values by their keys, as in {"run.limit": 4}, which need no quotes.

    Raises ValueError that names a key which does not exist, or the type that its value should have.
    """
    check(given)
    configs = together(words)
    for config in configs:
        for kind, node in _nodes(given):
            OmegaConf.update(config, kind, node, merge=False, force_add=True)
        for key, value in settings.items():
            try:
                OmegaConf.update(config, key, value)
            except OmegaConfBaseException as error:
                raise ValueError(explained(error)) from error
    return configs


def run(words: Sequence[str], given: Given, settings: Mapping[str, Any]) -> str:
    """Run a job, or go on with it, as `dix run` does; its results folder."""
    configs = configured(words, given, settings)
    with ordinary():
        run_given(configs, given)
    return str(configs[0].run.results)


def job_here(words: Sequence[str], given: Given) -> Job:
    """A job of this process as it is: neither its threads nor its precision are changed, and nothing is stored.

    A classifier that is given stays on its device.
    """
    check(given)
    [config] = configured(words, given, {})
    return open_here(config, given)


def check(given: Given) -> None:
    """Raise ValueError where a part is not of its kind."""
    for kind, name in SINGLE.items():
        if getattr(given, name) is not None:
            checked(getattr(given, name), kind, name)
    for kind, name in SEVERAL.items():
        for key, part in getattr(given, name).items():
            checked(part, kind, f"{name}.{key}")


def _nodes(given: Given) -> list[tuple[str, dict[str, Any]]]:
    """Keys and nodes that say what the given parts are."""
    single = [(kind, getattr(given, name)) for kind, name in SINGLE.items()]
    several = [(f"{kind}.{key}", part) for kind, name in SEVERAL.items() for key, part in getattr(given, name).items()]
    return [(key, node_of(part)) for key, part in (*single, *several) if part is not None]


def node_of(part: Any) -> dict[str, Any]:
    """A part as a configuration would describe it, as far as plain values go; for the records of a run.

    A dataclass of plain values can be built from it again.
    """
    named = {"name": part.name} if isinstance(getattr(part, "name", None), str) else {}
    fields = {}
    if dataclasses.is_dataclass(part):
        fields = {field.name: _plain(getattr(part, field.name)) for field in dataclasses.fields(part) if field.init}
    return {TARGET: path_of(part), **named, **fields}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return node_of(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
