"""Packages that bring parts of their own: what an entry point of the group `dix.plugins` names, and how it is found.

    [project.entry-points."dix.plugins"]
    my_plugin = "my_package"

The folder `conf` of that package is laid out as this suite's, and its files are known by their names to every command:
`my_package/conf/method/my_method.yaml` is `method=my_method`. Nothing of a package is imported to find that folder; a
module of it is imported when a part that it defines is built.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dix.cli.options import GROUPS
from dix.cli.words import first_line

#: The group of entry points.
GROUP = "dix.plugins"
#: This suite's own configurations.
CONF = Path(__file__).parents[1] / "conf"


@dataclass(frozen=True)
class Plugin:
    """A package with configurations. name: of its entry point. folder: laid out as `conf`."""

    name: str
    folder: Path

    def files(self) -> Iterator[tuple[str, str]]:
        """Group and name of each of its configurations."""
        for group in GROUPS:
            for path in sorted((self.folder / group).glob("*.yaml")):
                yield group, path.stem


@dataclass(frozen=True)
class Found:
    """What is installed. problems: why plug-ins are left out, a line each."""

    plugins: tuple[Plugin, ...]
    problems: tuple[str, ...]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The configurations of all plug-ins."""
        return tuple(plugin.folder for plugin in self.plugins)


@cache
def installed() -> Found:
    """The plug-ins of this installation, looked up once: before the current folder may lend any module."""
    return look(entry_points(group=GROUP))


def look(entries: Iterable[EntryPoint]) -> Found:
    """The plug-ins that entry points name, in the order of their names. A broken one is a problem and nothing else."""
    plugins: list[Plugin] = []
    problems = []
    for entry in sorted(entries, key=lambda each: (each.name, each.value)):
        try:
            plugin = Plugin(entry.name, _folder_of(entry.value))
            _check(plugin, plugins)
            plugins.append(plugin)
        except ValueError as error:
            problems.append(f"plug-in {entry.name!r} is left out: {error}")
    return Found(tuple(plugins), tuple(problems))


def _folder_of(value: str) -> Path:
    """The folder `conf` of a package, or of the package that a module lies in."""
    if not re.fullmatch(r"\w+(\.\w+)*", value):
        raise ValueError(f"expected its entry point to be the dotted name of a package, got {value!r}")
    top, *rest = value.split(".")
    for folder in _locations(top):
        inner = folder.joinpath(*rest)
        package = inner if inner.is_dir() else inner.parent if inner.with_suffix(".py").is_file() else None
        if package is not None:
            if not (package / "conf").is_dir():
                raise ValueError(f"{value} has no folder {package / 'conf'}")
            return package / "conf"
    raise ValueError(f"no package {value!r} is installed")


def _locations(top: str) -> list[Path]:
    """The folders of a package, without importing it."""
    try:
        spec = importlib.util.find_spec(top)
    except Exception as error:  # a finder of somebody else's
        raise ValueError(f"{top}: {first_line(error)}") from error
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def _check(plugin: Plugin, others: Iterable[Plugin]) -> None:
    """Raise ValueError where one of its names is taken, since Hydra would read one file for the other."""
    names = list(plugin.files())
    if not names:
        raise ValueError(f"{plugin.folder} holds no file such as method/NAME.yaml")
    taken = {each: f"plug-in {other.name!r} has its own" for other in others for each in other.files()}
    for group, name in names:
        if (CONF / group / f"{name}.yaml").exists():
            raise ValueError(f"its {group} {name!r} needs another name: this suite has its own")
        if (group, name) in taken:
            raise ValueError(f"its {group} {name!r} needs another name: {taken[group, name]}")
