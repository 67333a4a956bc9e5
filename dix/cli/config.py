"""Configurations: composed, and checked with messages for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dix.cli.aliases import known_as
from dix.cli.arguments import told
from dix.cli.options import GROUPS
from dix.cli.plugins import CONF as CONF
from dix.cli.plugins import installed
from dix.cli.schema import register, type_of
from dix.cli.words import first_line, nearest

#: Groups of which a job may have several.
SEVERAL = ("method", "metric", "protocol")


def options(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Names of the configuration files of a group, here and in further folders."""
    return list(files(group, folders))


def files(group: str, folders: Sequence[Path] = (), own: bool = True) -> dict[str, Path]:
    """The configuration files of a group by name, in folders of a user.

    own: in this suite's own folder and those of installed plug-ins, too.
    """
    searched = [*reversed(folders), *([*installed().folders, CONF] if own else [])]
    found = {path.stem: path for folder in searched for path in (folder / group).glob("*.yaml")}
    return dict(sorted(found.items()))


def content(path: Path) -> Any:
    """What a file says, references unresolved; nothing where it cannot be read, which only its use makes an error."""
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except Exception:  # of the disk, of the encoding, of YAML or of OmegaConf
        return None


def composed(overrides: Sequence[str], several: bool = False) -> DictConfig:
    """The configuration of a job; of a sweep, that of its first job.

    several: whether a list of protocols is welcome; its settings are then those of the last (see `together`).
    Raises ValueError that names a misspelt group, option or key and the nearest one that exists.
    """
    register()
    parsed = parsed_overrides(overrides)
    _check_names(_search_path(parsed))
    _check_options(parsed)
    words = [_first_of_sweep(o) for o in parsed]
    try:
        with _hydra():
            config = compose("config", words, return_hydra_config=True)
            names = [] if several or one_protocol(config.hydra) else _protocols(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explained(error)) from error
    if len(names) > 1:
        raise ValueError(f"protocol: expected one, got {', '.join(names)}; `dix run` and `dix estimate` take several")
    return config


def together(overrides: Sequence[str]) -> list[DictConfig]:
    """The configuration of one job under each of its protocols, as in ``protocol=[thesis,ltx]``."""
    config = composed(overrides, several=True)
    if one_protocol(config.hydra):
        return [config]
    files = protocols(overrides)
    if not files:
        raise ValueError("protocol: expected at least one, got none; `dix list protocol` shows all")
    rest = [str(o.input_line) for o in parsed_overrides(overrides) if o.key_or_group != "protocol"]
    configs = [composed([*rest, f"protocol={file}"]) for file in files]
    names = [str(config.protocol.name) for config in configs]
    if len(set(names)) < len(names):
        raise ValueError(f"protocol.name: expected one for each protocol of a job, got {', '.join(names)}")
    return configs


def one_protocol(hydra: Any) -> bool:
    """Whether a composed job has one protocol by its plain name. hydra: the node that Hydra keeps on the composition.

    It notes there what was chosen of each group, except where that was a list.
    """
    return "protocol" in hydra.runtime.choices


def protocols(overrides: Sequence[str]) -> list[str]:
    """Names of the protocols of a job; of a sweep, those of its first job."""
    register()
    with _hydra():
        return _protocols([_first_of_sweep(o) for o in parsed_overrides(overrides)])


def _protocols(words: list[str]) -> list[str]:
    """The same, while Hydra's state is entered."""
    found = GlobalHydra.instance().config_loader().compute_defaults_list("config", words, RunMode.RUN).defaults
    paths = [str(each.config_path) for each in found if each.parent == "config"]
    return [path.removeprefix("protocol/") for path in paths if path.startswith("protocol/")]


class _hydra:
    """Hydra's global state, entered for one composition; a job that runs has its own state back afterwards."""

    def __enter__(self) -> None:
        self.before = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        self.context = initialize_config_dir(str(CONF), version_base="1.3")
        self.context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)
        GlobalHydra.instance().hydra = self.before


def parsed_overrides(overrides: Sequence[str]) -> list[Override]:
    """Words KEY=VALUE, read by Hydra. Raises ValueError for one that is not of that form."""
    return [_override(word) for word in overrides]


def _override(word: str) -> Override:
    if "=" not in word and not word.startswith("~"):
        raise ValueError(f"{word!r} is no setting; an override is key=value, as in model=resnet50 method=[gc,dix3]")
    try:
        [found] = OverridesParser.create().parse_overrides([word])
    except HydraException as error:
        raise ValueError(
            f"{word}: {first_line(error)} (an override is key=value without spaces, or in quotes, as in "
            "method=[gc,dix3])"
        ) from error
    return found


def check_single(overrides: Sequence[str]) -> None:
    """Raise ValueError where an override without brackets has several values, which only a sweep takes."""
    for each in parsed_overrides(overrides):
        if each.is_sweep_override():
            key, _, value = str(each.input_line).partition("=")
            together = f"all in one job: {key}=[{value}]; " if key in SEVERAL else ""
            raise ValueError(f"{key}={value}: {together}a job for each of them: dix run -m {key}={value}")


def _check_names(folders: Sequence[Path]) -> None:
    """Hydra would take this suite's or a plug-in's file where a user's has the same name, and say nothing."""
    for group in GROUPS:
        ours = files(group)
        for name, path in files(group, folders, own=False).items():
            if name in ours and path.read_bytes() != ours[name].read_bytes():
                whose = "this suite" if ours[name].is_relative_to(CONF) else "a plug-in"
                raise ValueError(f"{path}: {whose} has its own {group} {name!r}; give yours another name")


def _check_options(overrides: Sequence[Override]) -> None:
    folders = _search_path(overrides)
    for override in overrides:
        group = override.key_or_group.split("@")[0]
        if group in GROUPS and not override.is_delete():
            known = options(group, folders)
            for choice in _choices(override):
                if choice not in (*known, "null"):
                    raise ValueError(
                        f"no {group} called {choice!r}{known_as(choice, files(group, folders))} "
                        f"(`dix list {group}` shows all)"
                    )


def _search_path(overrides: Sequence[Override]) -> list[Path]:
    """Folders on disk that an override adds to Hydra's search path."""
    paths = [path for o in overrides if o.key_or_group == "hydra.searchpath" for path in _listed(o.value())]
    return [Path(path.removeprefix("file://")) for path in paths if path.startswith("file://")]


def _listed(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _choices(override: Override) -> Iterator[str]:
    """Plain names that an override chooses, in a sweep or a list."""
    value = override.input_line.split("=", 1)[-1] if override.input_line else ""
    if "(" in value:
        return
    for word in re.split(r"[,\[\]\s]+", value):
        if word and "/" not in word:
            yield word.strip("'\"")


def _first_of_sweep(override: Override) -> str:
    line = str(override.input_line)
    if not override.is_sweep_override():
        return line
    key = override.get_key_element()
    first = next(iter(override.sweep_string_iterator()))
    return f"{key}={first}"


def explained(error: Exception) -> str:
    """What is wrong with a configuration, in a line for people."""
    text = str(error)
    wrong = re.match(r"Error merging override \+*([\w.]+)=(.*)", text)
    wanted = type_of(wrong[1]) if wrong else None
    if wrong and wanted is not None:
        return f"{wrong[1]}: expected {told(wanted)}, got {wrong[2]}"
    unknown = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    full = re.search(r"full_key: (\S+)", text)
    if unknown:
        key = full.group(1) if full else unknown.group(1)
        return f"no setting called {key!r}{nearest(key, _known_keys())}"
    missing = re.search(r"Could not override '([^']+)'", text)
    if missing:
        return f"no group or setting called {missing.group(1)!r}{nearest(missing.group(1), [*GROUPS, *_known_keys()])}"
    launcher = re.search(r"In 'hydra/launcher/\w+': Could not load '(hydra/launcher/\w+)'", text)
    if launcher:
        return f"{launcher.group(1)} is not installed: pip install 'dix-bench[cluster]'"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "reference_type" not in line]
    return "; ".join(line for line in lines if not line.startswith("object_type"))[:600]


def _known_keys() -> list[str]:
    with _hydra():
        config = compose("config")
    return [*_paths(OmegaConf.to_container(config, resolve=False))]


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items() if isinstance(node, Mapping) else ():
        yield f"{prefix}{key}"
        yield from _paths(value, f"{prefix}{key}.")
