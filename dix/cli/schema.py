"""The shape of a configuration: a misspelt key is an error because it is not in here."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING

from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.sanity.settings import Sanity, Train
from dix.cli.plugins import installed


@dataclass
class RootConfig:
    """A job: one model and data set, one or more methods and metrics, one protocol."""

    model: dict[str, Any] = MISSING
    method: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = MISSING
    metric: dict[str, Any] = field(default_factory=dict)
    protocol: ScoreProtocol = MISSING
    run: Run = field(default_factory=Run)
    sanity: Sanity = field(default_factory=Sanity)
    train: Train = field(default_factory=Train)


def type_of(key: str) -> Any:
    """The declared type of a setting such as "run.limit", or None where the schema leaves it open."""
    wanted: Any = RootConfig
    for name in key.split("."):
        wanted = get_type_hints(wanted).get(name) if dataclasses.is_dataclass(wanted) else None
    return wanted


def described(settings: type) -> dict[str, str]:
    """By setting, what its class's docstring says about it in a line "name: what it is."."""
    found: dict[str, str] = {}
    for line in inspect.cleandoc(settings.__doc__ or "").splitlines():
        name, colon, about = line.partition(": ")
        if colon and name in {field.name for field in dataclasses.fields(settings)}:
            found[name] = about.rstrip(".")
    return found


class InstalledPlugins(SearchPathPlugin):
    """Lets Hydra find the configurations of installed plug-ins, behind this suite's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add their folders."""
        for plugin in installed().plugins:
            search_path.append(f"plug-in {plugin.name}", f"file://{plugin.folder}")


def register() -> None:
    """Make the schema known to Hydra under the names that conf/ refers to, and where plug-ins have theirs."""
    Plugins.instance().register(InstalledPlugins)
    store = ConfigStore.instance()
    store.store(name="root_schema", node=RootConfig)
    store.store(group="protocol", name="schema", node=ScoreProtocol)
