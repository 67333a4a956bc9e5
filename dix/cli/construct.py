"""Configuration becomes objects: here and nowhere else."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dix.bench.run.job import Job
from dix.bench.run.settings import Run, ScoreProtocol
from dix.cli.config import first_line
from dix.datasets.api import Dataset
from dix.datasets.preprocess import Preprocess
from dix.datasets.subset import select


def job_of(config: DictConfig) -> Job:
    """The objects that a configuration describes."""
    protocol: ScoreProtocol = OmegaConf.to_object(config.protocol)  # type: ignore[assignment]
    run: Run = OmegaConf.to_object(config.run)  # type: ignore[assignment]
    classifier = build(config.model, "model")
    dataset = data_set(config.dataset)
    recommended = classifier.recommended if protocol.preprocess == "checkpoint" else {}
    if protocol.preprocess not in ("direct", "checkpoint"):
        raise ValueError(f"protocol.preprocess: expected direct or checkpoint, got {protocol.preprocess!r}")
    settings = {"size": classifier.input_size, "antialias": protocol.antialias, **recommended}
    preprocess = Preprocess(**settings)
    return Job(
        classifier=classifier,
        dataset=dataset,
        preprocess=preprocess,
        methods=many(config.method, "method"),
        metrics=many(config.metric, "metric"),
        protocol=protocol,
        run=run,
    )


def data_set(node: DictConfig) -> Dataset:
    """The data set that a configuration describes, or the part of it that `dataset.subset` names."""
    whole: Dataset = build(OmegaConf.masked_copy(node, [str(key) for key in node if key != "subset"]), "dataset")
    wanted = node.get("subset")
    return select(whole, None if wanted is None else str(wanted))


def many(group: Any, name: str) -> dict[str, Any]:
    """The objects of a group that takes several at once, by name."""
    return {str(key): build(node, f"{name}.{key}") for key, node in group.items()}


def build(node: Any, key: str) -> Any:
    """The object a `_target_` names: the one place where a configuration becomes code.

    Raises ValueError that names the key where the target or its arguments are wrong.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ValueError(f"{key}: expected a mapping with _target_, got {node!r}")
    try:
        return instantiate(node, _convert_="object")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ValueError) and not isinstance(cause, OmegaConfBaseException):
            raise ValueError(str(cause)) from error
        raise ValueError(f"{key}: {node['_target_']}: {type(cause).__name__}: {first_line(cause)}") from error
