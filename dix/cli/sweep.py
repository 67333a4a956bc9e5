"""The jobs of a sweep, each as its own configuration, for commands that look at jobs before or beside Hydra's run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from dix.cli.config import composed


def configurations(overrides: Sequence[str], several: bool = False) -> list[DictConfig]:
    """The configuration of every job that ``dix run`` with these overrides would run, in its order.

    A key that is given on the command line replaces the experiment's own sweep over it, as in Hydra. several: whether a
    job may have several protocols; its settings are then those of the last.
    """
    return [composed(line, several) for line in expanded(overrides)]


def expanded(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job of a sweep; of a single job, just these."""
    first = composed(overrides, several=True)
    given = OverridesParser.create().parse_overrides(list(overrides))
    swept = str(first.hydra.mode).endswith("MULTIRUN")
    params = dict(first.hydra.sweeper.get("params") or {}) if swept else {}
    keys = {override.key_or_group for override in given}
    own = [f"{key}={value}" for key, value in params.items() if key not in keys]
    lines = [*given, *OverridesParser.create().parse_overrides(own)]
    return [list(job) for job in itertools.product(*([*_choices(line)] for line in lines))]


def _choices(override: Override) -> Iterator[str]:
    """An override as one for each value that it sweeps over."""
    if not override.is_sweep_override():
        yield str(override.input_line)
        return
    key = override.get_key_element()
    for value in override.sweep_string_iterator():
        yield f"{key}={value}"
