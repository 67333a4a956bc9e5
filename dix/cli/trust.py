"""What a results folder from somebody else may say: which parts it names, and with which arguments.

A folder's provenance holds the configuration of its run. Recomputing a row needs the objects that it describes, and a
stranger wrote it. So it is judged before anything is imported: a part must be one that this installation's own files
and those of installed plug-ins name, by its class (a class that moved to another module is found again), and a value
must be plain. What is refused here can be given by the user, as an override, or trusted as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dix.cli.arguments import code_arguments
from dix.cli.config import content, files
from dix.cli.construct import ROOT, TARGET, located
from dix.text import printable

#: Parts of a configuration that hold one node, and those that hold one for each name.
SINGLE, SEVERAL = ("model", "dataset"), ("method", "metric")
#: A subset of a data set that names no file.
_SUBSET = re.compile(r"(random|classes):[\d:,]+")


class Untrusted(ValueError):
    """A results folder asks for something that it may not decide."""


def vetted(config: Mapping[str, Any], folders: Sequence[Path] = ()) -> dict[str, Any]:
    """The parts of a recorded configuration, with this installation's own targets.

    folders: of the user's own configurations, whose parts are known as well.

    Raises Untrusted that names the key where anything else is wanted. Nothing is resolved or opened; and
    only when all else is well are the parts imported, which these configurations name, to see which arguments are code.
    """
    found: dict[str, Any] = {}
    for kind in (*SINGLE, *SEVERAL):
        group = config.get(kind)
        if not isinstance(group, Mapping):
            raise Untrusted(f"the recorded configuration has no {kind}, or one of another shape")
        if kind in SINGLE:
            found[kind] = _node(group, _Known(kind, tuple(folders)), kind)
        else:
            known = _Known(kind, tuple(folders))
            found[kind] = {_word(name, kind): _node(node, known, f"{kind}.{name}") for name, node in group.items()}
    for kind in (*SINGLE, *SEVERAL):
        nodes = (
            {kind: found[kind]} if kind in SINGLE else {f"{kind}.{name}": node for name, node in found[kind].items()}
        )
        for key, node in nodes.items():
            _check_code(node, _Known(kind, tuple(folders)), key)
    return found


def _code_of(target: str, key: str) -> set[str]:
    """Arguments of a known part that are code; none where the part cannot be had, and so not be built either."""
    try:
        return code_arguments(located(target, key))
    except ValueError:
        return set()


def _check_code(node: Mapping[str, Any], known: _Known, key: str) -> None:
    """Raise Untrusted where an argument names code to call that these configurations do not name; the part is known."""
    for name in sorted(_code_of(node[TARGET], key) & node.keys()):
        if node[name] not in known.values(node[TARGET], name):
            raise Untrusted(f"{_shown(f'{key}.{name}')}: {_shown(node[name])} names code that is not known here")


def settings(values: Any, key: str) -> dict[str, Any]:
    """Recorded plain settings (of a protocol, say). Raises Untrusted where one is not plain."""
    if not isinstance(values, Mapping):
        raise Untrusted(f"{key}: expected a mapping of settings")
    return {_word(name, key): _value(value, f"{key}.{name}") for name, value in values.items()}


def _node(node: Any, known: _Known, key: str) -> dict[str, Any]:
    if not isinstance(node, Mapping) or not isinstance(node.get(TARGET), str):
        raise Untrusted(f"{_shown(key)}: expected a mapping with {TARGET}")
    target = known.target(node[TARGET])
    if target is None:
        raise Untrusted(f"{_shown(key)}: {_shown(node[TARGET])} is no {known.kind} of this suite's")
    arguments = {_word(name, key): value for name, value in node.items() if name != TARGET}
    return {TARGET: target} | {
        name: _argument(value, known, target, name, f"{key}.{name}") for name, value in arguments.items()
    }


def _argument(value: Any, known: _Known, target: str, name: str, key: str) -> Any:
    """An argument that is plain and opens no file that the folder chose."""
    if value in known.values(target, name):
        return value
    if known.kind == "dataset" and name == "subset" and isinstance(value, str) and _SUBSET.fullmatch(value):
        return value
    if known.kind == "model" and isinstance(value, str) and name != "name":
        raise Untrusted(f"{_shown(key)}: {_shown(value)} is not in this suite's own configurations")
    return _value(value, key)


def _value(value: Any, key: str) -> Any:
    """A number, a word, or a list or mapping of them."""
    if isinstance(value, Mapping):
        return {_word(name, key): _value(each, f"{key}.{name}") for name, each in value.items()}
    if isinstance(value, list):
        return [_value(each, key) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str) or "${" in value:
        raise Untrusted(f"{_shown(key)}: {_shown(value)} is not a plain value")
    if re.search(r"[/\\~:\x00]", value) or (value and Path(value).exists()):
        raise Untrusted(f"{_shown(key)}: {_shown(value)} may be the path of a file")
    return value


def _word(name: Any, key: str) -> str:
    """A key; those that begin with an underscore say how objects are made, which is not a folder's to decide."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name) or name.startswith("_"):
        raise Untrusted(f"{_shown(key)}: a key {_shown(name)} is not allowed")
    return name


def _shown(value: Any) -> str:
    return printable(str(value))[:120]


@dataclass(frozen=True)
class _Known:
    """What the configuration files of this installation, and of a user's folders, name as parts of a kind."""

    kind: str
    folders: tuple[Path, ...]

    def target(self, wanted: str) -> str | None:
        """The known target that a recorded one means: the same, or the same class where it is now."""
        known = targets(self.kind, self.folders)
        if wanted in known:
            return wanted
        moved = [one for one in known if one.startswith(ROOT) and one.rsplit(".", 1)[1] == wanted.rsplit(".", 1)[-1]]
        return moved[0] if wanted.startswith(ROOT) and len(moved) == 1 else None

    def values(self, target: str, name: str) -> list[Any]:
        """The values that an argument of a target has there; what refers to others is no value."""
        found = [node[name] for node in _nodes(self.kind, self.folders) if node[TARGET] == target and name in node]
        return [value for value in found if "${" not in str(value)]


def targets(kind: str, folders: Sequence[Path] = ()) -> tuple[str, ...]:
    """Every target that the configuration files of this installation (and of the folders) name for a kind of part."""
    return tuple(sorted({str(node[TARGET]) for node in _nodes(kind, tuple(folders))}))


@cache
def _nodes(kind: str, folders: tuple[Path, ...]) -> tuple[Mapping[str, Any], ...]:
    """The nodes with a target in the configuration files of a kind, references unresolved."""
    loaded = [content(path) for path in files(kind, folders).values()]
    return tuple(node for content in loaded for node in _with_target(content))


def _with_target(content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, Mapping):
        if TARGET in content:
            yield content
        for value in content.values():
            yield from _with_target(value)
