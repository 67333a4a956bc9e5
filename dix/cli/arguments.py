"""Arguments from a configuration, checked against the signature that they are for, before anything is called."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from dix.cli.words import nearest

#: What a plain type accepts from YAML, which has no tuples and writes 1 for 1.0.
ACCEPTED: Mapping[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    list: (list,),
    tuple: (list, tuple),
    dict: (dict,),
    Sequence: (list, tuple),
    Mapping: (dict,),
}

PLURALS: Mapping[Any, str] = {int: "integers", float: "numbers", str: "texts"}


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any], key: str) -> None:
    """Raise ValueError that names the key where an argument is unknown, missing, or of another type than declared."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, without a signature
        return
    parameters = {name: one for name, one in signature.parameters.items() if one.kind is not one.POSITIONAL_ONLY}
    any_name = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in arguments:
        if name.startswith("_") or (name not in parameters and not any_name):
            raise ValueError(
                f"{key}.{name}: {function.__qualname__} has no such setting"
                + (nearest(name, list(parameters)) or f"; it has {', '.join(parameters) or 'none'}")
            )
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if required and name not in arguments:
            raise ValueError(f"{key}.{name}: {function.__qualname__} needs it; set it, as in {key}.{name}=VALUE")
    _check_types(function, arguments, key)


def _check_types(function: Callable[..., Any], arguments: Mapping[str, Any], key: str) -> None:
    hints = _hints(function)
    for name, value in arguments.items():
        if name in hints and not fits(value, hints[name]):
            raise ValueError(f"{key}.{name}: expected {told(hints[name])}, got {value!r}")


def code_arguments(function: Callable[..., Any]) -> set[str]:
    """Names of the arguments that are declared as something to call: a text there is the dotted name of code."""
    return {name for name, wanted in _hints(function).items() if _is_code(wanted)}


def _is_code(wanted: Any) -> bool:
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_is_code(one) for one in inner)
    return (origin or wanted) is Callable


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the arguments by name; none where they cannot be evaluated."""
    try:
        return typing.get_type_hints(function if not inspect.isclass(function) else _initialiser(function))
    except Exception:
        return {}


def _initialiser(made: type) -> Any:
    """What bears the annotations of a class's arguments: of a dataclass, the class."""
    return made if hasattr(made, "__dataclass_fields__") else made.__init__  # type: ignore[misc]


def fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value may stand where a type is declared; types that YAML does not know accept everything."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if wanted is type(None):
        return value is None
    accepted = ACCEPTED.get(origin or wanted)
    if accepted is None:
        return True
    return isinstance(value, accepted) and (bool in accepted or not isinstance(value, bool))


def told(wanted: Any) -> str:
    """A type for people."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(told(one) for one in inner)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if (origin or wanted) in (list, tuple, Sequence) and inner and inner[0] in PLURALS:
        return f"a list of {PLURALS[inner[0]]}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(wanted, "a mapping" if (origin or wanted) in (dict, Mapping) else "a list")
