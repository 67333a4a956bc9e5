"""What a hyper-parameter object is, as plain values that say when its numbers may differ, and no more.

An object is its class's bare name, the class's version and its fields. Python paths are left out, so a class can move
without making stored results stale. A class declares `version: ClassVar[int]`, raised whenever its numbers change;
one that declares none has the hash of its code for a version, so that an edited method is not mixed with its old rows.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from types import CodeType
from typing import Any

#: Fields of methods and metrics that only say how they are printed.
_PRINTED = ("label", "extra")
#: Characters of a hash of code.
_DIGITS = 12


def describe(thing: object) -> Any:
    """A hyper-parameter object as plain values: its class, its version and its fields that can change a stored row.

    Left out are fields that say how a thing is printed, and those with the metadata `summary_only`: ways to reduce
    the rows that are stored.

    Raises ValueError where an object is not a dataclass, since its parameters could not be told apart.
    """
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return named(type(thing)) | dict(_fields(thing))
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if inspect.isroutine(thing):
        return {"function": thing.__name__, "version": _function_version(thing)}
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    raise ValueError(f"{type(thing).__qualname__}: expected a dataclass of plain values, got {thing!r}")


def named(kind: type) -> dict[str, Any]:
    """A class without its Python path."""
    return {"class": kind.__name__, "version": version(kind)}


def path_of(thing: object) -> str:
    """The dotted path of an object's class: for provenance, never for identity."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


@cache
def version(kind: type) -> int | str:
    """The version that a class declares itself, or else a hash of its code and of its bases' versions.

    Found once for each class: reading source takes a while.
    """
    own = vars(kind).get("version")
    if isinstance(own, int) and "version" not in _field_names(kind):
        return own
    bases = [f"{base.__name__} {version(base)}" for base in kind.__bases__ if _counts(base)]
    return hashlib.sha256("\n".join([_code(kind), *bases]).encode()).hexdigest()[:_DIGITS]


def _function_version(function: Any) -> int | str:
    """The version that a function declares itself (``f.version = 2``), or else a hash of its code."""
    own = getattr(function, "version", None)
    if isinstance(own, int):
        return own
    return hashlib.sha256(_code(inspect.unwrap(function)).encode()).hexdigest()[:_DIGITS]


def _field_names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()


def _counts(base: type) -> bool:
    return base is not object and base.__module__ not in ("typing", "abc", "builtins")


def _fields(thing: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(thing):
        if field.name not in _PRINTED and not field.metadata.get("summary_only"):
            name = "field version" if field.name == "version" else field.name  # not to be taken for the class's
            yield name, describe(getattr(thing, field.name))


def _code(kind: Any) -> str:
    """A class's or function's code and that of all in its module that it uses, without comments, layout and docstrings.

    Where no source is to be had (a class typed into a prompt), its functions' compiled code.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return "\n".join(_compiled(kind))
    around = _top_level(kind.__module__)
    used: dict[str, ast.AST] = {}
    waiting: list[ast.AST] = [tree]
    while waiting:
        for name in sorted(_names(waiting.pop())):
            if name in around and name not in used and name != kind.__name__:
                used[name] = around[name]
                waiting.append(around[name])
    return "\n".join(_text(node) for node in (tree, *(used[name] for name in sorted(used))))


@lru_cache(maxsize=8)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _top_level(module: str) -> dict[str, ast.AST]:
    """The functions, classes and constants of a module, by name."""
    found: dict[str, ast.AST] = {}
    try:
        body = _parsed(inspect.getsource(sys.modules[module])).body
    except (OSError, TypeError, KeyError, SyntaxError):
        return found
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _text(node: ast.AST) -> str:
    """The code of a node as it would be printed anew, docstrings left out."""
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if isinstance(body, list) and isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner.body = [line for line in body if not _is_text(line)] or [ast.Pass()]
    return ast.unparse(node)


def _is_text(line: ast.AST) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _compiled(kind: Any) -> Iterator[str]:
    parts = vars(kind) if inspect.isclass(kind) else {kind.__name__: kind}
    for name, value in sorted(parts.items()):
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield f"{name} {code.co_code.hex()} {[c for c in code.co_consts if not isinstance(c, CodeType)]}"
