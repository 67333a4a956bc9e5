"""Arguments as people write them in Python (names, objects, folders) become what a job needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import isroutine
from pathlib import Path
from typing import Any

from torch import nn

from dix.baselines.wrap.function import Function
from dix.classifier import Classifier
from dix.cli.config import options
from dix.cli.construct import Given
from dix.cli.options import importable, search_path
from dix.datasets.api import Dataset
from dix.datasets.folder import Folder

#: One or several parts: a name of `dix list`, an object, or these by the name that rows store.
Several = str | object | Sequence[Any] | Mapping[str, Any]


def model_of(model: Any) -> tuple[list[str], Classifier | None]:
    """The word that names a model, or the classifier that is given. Raises ValueError for anything else."""
    if isinstance(model, str):
        return [f"model={model}"], None
    if isinstance(model, Classifier):
        return [], model
    if isinstance(model, nn.Module):
        raise ValueError(
            "model: a bare network does not say what its pixels and outputs mean; "
            "dix.wrap(network, classes=..., mean=..., std=..., size=...) does"
        )
    raise ValueError(f"model: expected a name of `dix list model` or a dix.Classifier, got {type(model).__name__}")


def data_of(data: str | Path | Dataset) -> tuple[list[str], Dataset | None]:
    """The word that names a data set, or the data set that is given: a folder of images is one."""
    if isinstance(data, str) and data in options("dataset"):
        return [f"dataset={data}"], None
    if isinstance(data, str | Path):
        if Path(data).is_dir():
            return ["dataset=folder"], Folder(root=str(data))
        return [f"dataset={data}"], None
    return [], data


def several(parts: Several, kind: str) -> tuple[list[str], dict[str, Any]]:
    """The word that names methods (or metrics), and those that are given as objects, by name.

    A plain function f(model, images, targets) -> maps is a method, too.

    Raises ValueError where an object has no name of its own, or that of one of the suite's.
    """
    named: list[str] = []
    given: dict[str, Any] = {}
    for name, part in _listed(parts):
        if isinstance(part, str):
            named.append(part)
        else:
            made = Function(function=part, label=name or part.__name__) if isroutine(part) else part
            given[_name(name, made, kind, given)] = made
    return [f"{kind}=[{','.join(named)}]"], given


def _listed(parts: Several) -> Iterable[tuple[str, Any]]:
    """Pairs of a name, "" where none is given, and a part."""
    if isinstance(parts, Mapping):
        return parts.items()
    return [("", part) for part in (parts if isinstance(parts, list | tuple) else [parts])]


def _name(name: str, part: object, kind: str, taken: Iterable[str]) -> str:
    found = name or re.sub(r"\W+", "_", str(getattr(part, "label", "")).lower()).strip("_")
    if not re.fullmatch(r"\w+", found):
        raise ValueError(f"{kind}s: {part!r} needs a name: {{'mine': ...}}")
    if found in options(kind) or found in taken:
        raise ValueError(f"{kind}s: {found!r} is the name of another {kind}; give yours one: {{'mine': ...}}")
    return found


def folders(config_dir: str | Path | None) -> list[Path]:
    """The folder of a user's own configurations and modules, if there is one.

    Raises ValueError where it is not there.
    """
    if config_dir is None:
        return []
    folder = Path(config_dir).expanduser().absolute()
    if not folder.is_dir():
        raise ValueError(f"config_dir: no folder {folder}")
    importable([folder])
    return [folder]


def job_words(
    model: str | Classifier, methods: Several, metrics: Several, data: str | Path | Dataset, own: Sequence[Path]
) -> tuple[list[str], Given]:
    """The words of a job and the parts that no word names."""
    model_words, classifier = model_of(model)
    data_words, dataset = data_of(data)
    method_words, given_methods = several(methods, "method")
    metric_words, given_metrics = several(metrics, "metric")
    words = [*model_words, *method_words, *metric_words, *data_words, *search_path(own)]
    return words, Given(classifier, dataset, given_methods, given_metrics)
