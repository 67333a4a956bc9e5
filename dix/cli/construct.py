"""Configuration becomes objects: here and nowhere else.

A node names a class or function by `_target_`; its other keys are that one's arguments, nested nodes first. An argument
that is declared as something to call (`Callable`) is a dotted name, too. The target and the arguments are checked
before anything is called, and what comes out must be a part of the wanted kind. Parts that are at hand already
(`Given`) stand in for their nodes. What a results folder from somebody else may name is the business of
`dix.cli.trust`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from dix import torchvision_repair
from dix.bench.run.job import Job
from dix.bench.run.settings import Run, ScoreProtocol
from dix.classifier import Classifier
from dix.cli.arguments import check_arguments, code_arguments
from dix.cli.looks import looks_of, without_looks
from dix.cli.words import first_line, nearest
from dix.datasets.api import Dataset
from dix.datasets.preprocess import Preprocess
from dix.datasets.subset import select
from dix.explainer import Explainer
from dix.metrics.api import Metric
from dix.models.looked import looked

TARGET = "_target_"
#: What a part of each kind is.
KINDS: Mapping[str, type] = {"model": Classifier, "method": Explainer, "dataset": Dataset, "metric": Metric}
#: The import root of this suite.
ROOT = "dix."


@dataclass(frozen=True)
class Given:
    """Parts that are at hand already, as in Python; they are taken as they are, whatever their nodes say.

    methods, metrics: by the name that rows store.
    """

    model: Classifier | None = None
    dataset: Dataset | None = None
    methods: Mapping[str, Explainer] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)


#: All parts are built from their nodes.
NOTHING = Given()


def job_of(config: DictConfig, given: Given = NOTHING) -> Job:
    """The objects that a configuration describes."""
    return jobs_of([config], given)[0]


def _job(config: DictConfig, given: Given) -> Job:
    protocol: ScoreProtocol = OmegaConf.to_object(config.protocol)  # type: ignore[assignment]
    run: Run = OmegaConf.to_object(config.run)  # type: ignore[assignment]
    classifier = classifier_of(config, given)
    return Job(
        classifier=classifier,
        dataset=given.dataset or data_set(config.dataset),
        preprocess=preprocess_of(classifier, protocol),
        methods=many(config.method, "method", given.methods),
        metrics=many(config.metric, "metric", given.metrics),
        protocol=protocol,
        run=run,
        looks=looks_of(config.method),
    )


def classifier_of(config: DictConfig, given: Given = NOTHING) -> Classifier:
    """The network, looked at."""
    return looked(given.model or build(config.model, "model", "model"))


def jobs_of(configs: Sequence[DictConfig], given: Given = NOTHING) -> list[Job]:
    """The jobs of one configuration under several protocols: everything but the metrics is built once.

    Raises ValueError where another part hangs on the protocol.
    """
    first = _job(configs[0], given)
    return [first, *(_under(first, configs[0], other, given) for other in configs[1:])]


def _under(first: Job, one: DictConfig, other: DictConfig, given: Given) -> Job:
    for kind in ("model", "method", "dataset"):
        if OmegaConf.to_container(one[kind], resolve=True) != OmegaConf.to_container(other[kind], resolve=True):
            raise ValueError(
                f"{kind}: its settings hang on the protocol, so {one.protocol.name} and {other.protocol.name} cannot "
                "share a job; run them as jobs of their own"
            )
    protocol: ScoreProtocol = OmegaConf.to_object(other.protocol)  # type: ignore[assignment]
    run: Run = OmegaConf.to_object(other.run)  # type: ignore[assignment]
    return dataclasses.replace(
        first,
        preprocess=preprocess_of(first.classifier, protocol),
        metrics=many(other.metric, "metric", given.metrics),
        protocol=protocol,
        run=run,
    )


def preprocess_of(classifier: Classifier, protocol: ScoreProtocol) -> Preprocess:
    """How images reach the model: by the protocol alone, or as the checkpoint's publisher recommends."""
    if protocol.preprocess not in ("direct", "checkpoint"):
        raise ValueError(f"protocol.preprocess: expected direct or checkpoint, got {protocol.preprocess!r}")
    recommended = classifier.recommended if protocol.preprocess == "checkpoint" else {}
    return Preprocess(**{"size": classifier.input_size, "antialias": protocol.antialias, **recommended})


def data_set(node: DictConfig) -> Dataset:
    """The data set that a configuration describes, or the part of it that `dataset.subset` names."""
    own = OmegaConf.masked_copy(node, [str(key) for key in node if key != "subset"])
    whole: Dataset = build(own, "dataset", "dataset")
    wanted = node.get("subset")
    return select(whole, None if wanted is None else str(wanted))


def many(group: Any, kind: str, given: Mapping[str, Any] = NOTHING.methods) -> dict[str, Any]:
    """The objects of a group that takes several at once, by name; those that are given are not built."""
    return {str(key): given[key] if key in given else build(node, kind, f"{kind}.{key}") for key, node in group.items()}


def build(node: Any, kind: str, key: str) -> Any:
    """The part that a node with `_target_` describes.

    kind: "model", "method", "dataset" or "metric", which the result must be. key: the node's place, for messages.

    Raises ValueError that names the key where the target, an argument or the result is wrong.
    """
    plain = _plain(node, key)
    if kind == "method":
        plain = without_looks(plain, located(plain[TARGET], key))
    return checked(_made(plain, key), kind, key, f"{plain[TARGET]} gave")


def checked(made: Any, kind: str, key: str, how: str = "got") -> Any:
    """The same object. Raises ValueError, which names the key, where it is no part of the kind; how: it came about."""
    lacking = [name for name in _members(KINDS[kind]) if not _has(made, name)]
    if lacking:
        what = type(made).__name__ if not inspect.isclass(made) else f"the class {made.__name__}"
        raise ValueError(f"{key}: {how} {what}, which is no {kind}: it lacks {', '.join(lacking)}")
    return made


def _plain(node: Any, key: str) -> dict[str, Any]:
    """A node as a plain dictionary, references resolved."""
    if not isinstance(node, DictConfig) or TARGET not in node:
        raise ValueError(f"{key}: expected a mapping with {TARGET}, got {node!r}")
    try:
        made: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ValueError(f"{error.full_key}: has no default; set it, as in {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise ValueError(f"{key}: {first_line(error)}") from error
    return dict(made)


def _made(value: Any, key: str) -> Any:
    """A plain value with every node in it replaced by what it describes."""
    if isinstance(value, list):
        return [_made(each, f"{key}[{place}]") for place, each in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if TARGET not in value:
        return {name: _made(each, f"{key}.{name}") for name, each in value.items()}
    function = located(value[TARGET], key)
    own = {name: each for name, each in value.items() if name != TARGET}
    check_arguments(function, own, key)
    code = code_arguments(function)
    arguments = {
        name: located(each, f"{key}.{name}") if name in code and isinstance(each, str) else _made(each, f"{key}.{name}")
        for name, each in own.items()
    }
    return _called(function, arguments, key)


def _called(function: Callable[..., Any], arguments: Mapping[str, Any], key: str) -> Any:
    try:
        return function(**arguments)
    except ValueError as error:
        if type(error) is not ValueError or str(error).startswith(f"{key.split('.')[0]}."):
            raise
        raise ValueError(f"{key}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{key}: {function.__qualname__}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """What became of a part; one that ends the process is one that fails."""
    if isinstance(error, SystemExit):
        return f"it asked for the end of the process: SystemExit({error.code!r})"
    return f"{type(error).__name__}: {first_line(error)}"


def located(target: Any, key: str) -> Callable[..., Any]:
    """The class or function of a dotted name; of a name below this suite's root, one that the suite itself defines.

    Raises ValueError that says which part of the name is wrong, or why its module cannot be imported.
    """
    if not isinstance(target, str) or not all(word.isidentifier() for word in target.split(".")) or "." not in target:
        raise ValueError(f"{key}: expected {TARGET} to be a dotted name such as my_package.MyMethod, got {target!r}")
    if not target.startswith(ROOT):
        torchvision_repair.install()  # the module may import torchvision before anything of this suite does
        _import_from_here()
    module, names = _module_of(target, key)
    found: Any = module
    for name in names:
        if not hasattr(found, name):
            where = getattr(found, "__qualname__", found.__name__)
            raise ValueError(f"{key}: {target}: {where} has no {name!r}{nearest(name, dir(found))}")
        found = getattr(found, name)
    if not inspect.isclass(found) and not inspect.isroutine(found):
        raise ValueError(f"{key}: {target} is neither a class nor a function")
    if target.startswith(ROOT) and not str(found.__module__).startswith(ROOT):
        raise ValueError(f"{key}: {target} is {found.__module__}.{found.__qualname__}, which is not this suite's")
    return found


def _module_of(target: str, key: str) -> tuple[Any, list[str]]:
    """The longest part of a dotted name that is a module, imported, and the names that are left."""
    words = target.split(".")
    for count in range(len(words) - 1, 0, -1):
        name = ".".join(words[:count])
        try:
            return importlib.import_module(name), words[count:]
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):  # the module is there, and needs another that is not
                raise ValueError(f"{key}: {target}: {name} cannot be imported: {error}") from error
            reason = error
        except (Exception, SystemExit) as error:
            raise ValueError(f"{key}: {target}: {name} cannot be imported: {_told(error)}") from error
    raise ValueError(f"{key}: {target}: {reason}; looked in this folder and among the installed packages")


def _import_from_here() -> None:
    """Let modules of the current folder be imported, behind all that is installed.

    Only a part that is not this suite's needs it: a folder of somebody else's must not lend modules to a command that
    merely reads it.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def _members(kind: type) -> list[str]:
    """What an object must have to be of a kind: the protocol's attributes, or those of a class that all are."""
    return sorted(name for name in vars(kind) if not name.startswith("_"))


def _has(thing: Any, name: str) -> bool:
    """Whether an object has an attribute, without computing a property (a data set's ids may take a while)."""
    missing = object()
    static = inspect.getattr_static(thing, name, missing) is not missing
    return not inspect.isclass(thing) and (static or hasattr(thing, name))
