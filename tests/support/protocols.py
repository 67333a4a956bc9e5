"""Protocols as they are in conf/, without a command line: their settings, and the metrics that they make."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

import dix
from dix.bench.run.settings import ScoreProtocol
from dix.metrics.api import Metric

CONF = Path(dix.__file__).parent / "conf"


def settings(name: str, **changes: object) -> ScoreProtocol:
    """A protocol's settings, with changes, as the program reads them."""
    made = OmegaConf.merge(OmegaConf.structured(ScoreProtocol), _fields(name), changes)
    protocol = OmegaConf.to_object(made)
    assert isinstance(protocol, ScoreProtocol)
    return protocol


def metrics(protocol: ScoreProtocol, *names: str) -> dict[str, Metric]:
    """The metrics of conf/metric under a protocol, by name."""
    root = OmegaConf.create({"protocol": OmegaConf.structured(protocol)})
    whole = OmegaConf.merge(root, *(OmegaConf.load(CONF / "metric" / f"{name}.yaml") for name in names))
    return {name: instantiate(whole[name], _convert_="object") for name in names}


def _fields(name: str) -> dict[str, object]:
    content = OmegaConf.to_container(OmegaConf.load(CONF / "protocol" / f"{name}.yaml"))
    assert isinstance(content, dict)
    bases = [base for base in content.pop("defaults") if base not in ("schema", "_self_")]
    inherited: dict[str, object] = {}
    for base in bases:
        inherited |= _fields(base)
    return inherited | {str(key): value for key, value in content.items()}
