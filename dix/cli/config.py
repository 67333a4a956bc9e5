"""Configurations: composed, checked with messages for people, and turned into objects in one place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dix.bench.run.settings import Protocol, Run
from dix.cli.schema import register

if TYPE_CHECKING:  # torch, which a process that only hands jobs to a launcher need not load
    from dix.bench.run.job import Job
    from dix.datasets.api import Dataset

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("model", "method", "dataset", "metric", "protocol", "experiment")


def options(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Names of the configuration files of a group, here and in further folders."""
    return sorted({path.stem for folder in (CONF, *folders) for path in (folder / group).glob("*.yaml")})


def with_folders(words: Sequence[str]) -> list[str]:
    """The same words with ``--config-dir DIR`` (a user's own conf/) as Hydra's search path.

    Raises ValueError where the folder is not there.
    """
    kept, folders = [], []
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            folders.append(Path(value or next(rest, "")).expanduser().absolute())
        else:
            kept.append(word)
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"--config-dir: no folder {folder}")
    paths = ",".join(f"file://{folder}" for folder in folders)
    return [*kept, f"hydra.searchpath=[{paths}]"] if folders else kept


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a job; of a sweep, that of its first job.

    Raises ValueError that names a misspelt group, option or key and the nearest one that exists.
    """
    register()
    parsed = _parsed(overrides)
    _check_options(parsed)
    try:
        with _hydra():
            return compose("config", [_first_of_sweep(o) for o in parsed], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_explained(error)) from error


def job(config: DictConfig) -> Job:
    """The objects that a configuration describes."""
    from dix.bench.run.job import Job
    from dix.datasets.preprocess import Preprocess

    protocol: Protocol = OmegaConf.to_object(config.protocol)  # type: ignore[assignment]
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
    from dix.datasets.subset import select

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
        raise ValueError(f"{key}: {node['_target_']}: {type(cause).__name__}: {_first_line(cause)}") from error


class _hydra:
    """Hydra's global state, entered for one composition."""

    def __enter__(self) -> None:
        GlobalHydra.instance().clear()
        self.context = initialize_config_dir(str(CONF), version_base="1.3")
        self.context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)
        GlobalHydra.instance().clear()


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(f"{_first_line(error)} (an override is key=value, as in method=[gc,dix3])") from error


def _check_options(overrides: Sequence[Override]) -> None:
    folders = _search_path(overrides)
    for override in overrides:
        group = override.key_or_group.split("@")[0]
        if group in GROUPS and not override.is_delete():
            known = options(group, folders)
            for choice in _choices(override):
                if choice not in (*known, "null"):
                    raise ValueError(
                        f"no {group} called {choice!r}{_nearest(choice, known)}; `dix list {group}` shows all"
                    )


def _search_path(overrides: Sequence[Override]) -> list[Path]:
    """Folders on disk that an override adds to Hydra's search path."""
    lines = [str(o.input_line) for o in overrides if o.key_or_group == "hydra.searchpath"]
    return [Path(found) for line in lines for found in re.findall(r"file://([^,\]\s'\"]+)", line)]


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


def _explained(error: Exception) -> str:
    text = str(error)
    unknown = re.search(r"Key '([^']+)' (?:is not in struct|not in '(\w+)')", text)
    full = re.search(r"full_key: (\S+)", text)
    if unknown:
        key = full.group(1) if full else unknown.group(1)
        return f"no setting called {key!r}{_nearest(key, _known_keys())}"
    missing = re.search(r"Could not override '([^']+)'", text)
    if missing:
        return f"no group or setting called {missing.group(1)!r}{_nearest(missing.group(1), [*GROUPS, *_known_keys()])}"
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


def _nearest(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
