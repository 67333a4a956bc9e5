"""Is a JSON value what a JSON schema asks for? The part of JSON Schema (draft 2020-12) that this room's schemas use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

#: By a schema's word for a type, the test of a value; True and False are no numbers.
TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


@cache
def schema(name: str) -> Schema:
    """A schema of this room by its file's name without `.schema.json`."""
    found: Schema = json.loads((Path(__file__).parent / f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def misfit(value: Any, wanted: Schema, path: str = "") -> str:
    """The first place where a value is not what its schema asks for, in words, or ""."""
    kinds = wanted.get("type", [])
    if kinds and not any(TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return f"{path or 'the whole'}: expected {kinds}, got {type(value).__name__}"
    for check in (_const, _number, _text, _list, _object):
        for fault in check(value, wanted, path):
            return fault
    return ""


def _const(value: Any, wanted: Schema, path: str) -> Iterator[str]:
    choices = [wanted["const"]] if "const" in wanted else wanted.get("enum", [value])
    if value not in choices:
        yield f"{path}: expected {choices}, got {str(value)[:80]!r}"


def _number(value: Any, wanted: Schema, path: str) -> Iterator[str]:
    if not TYPES["number"](value):
        return
    if not wanted.get("minimum", value) <= value <= wanted.get("maximum", value):  # NaN is in no range
        yield f"{path}: {value} is out of range"


def _text(value: Any, wanted: Schema, path: str) -> Iterator[str]:
    if isinstance(value, str):
        if not wanted.get("minLength", 0) <= len(value) <= wanted.get("maxLength", len(value)):
            yield f"{path}: a text of {len(value)} characters"
        if "pattern" in wanted and not re.search(wanted["pattern"], value):
            yield f"{path}: {value[:80]!r} is not of the form {wanted['pattern']}"


def _list(value: Any, wanted: Schema, path: str) -> Iterator[str]:
    if isinstance(value, list):
        if not wanted.get("minItems", 0) <= len(value) <= wanted.get("maxItems", len(value)):
            yield f"{path}: a list of {len(value)}"
        for place, item in enumerate(value):
            yield from filter(None, [misfit(item, wanted.get("items", {}), f"{path}[{place}]")])


def _object(value: Any, wanted: Schema, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    yield from (f"{path}.{name} is missing" for name in wanted.get("required", ()) if name not in value)
    if len(value) > wanted.get("maxProperties", len(value)):
        yield f"{path}: a mapping of {len(value)}"
    known, others = wanted.get("properties", {}), wanted.get("additionalProperties", {})
    for name, item in value.items():
        yield from filter(None, [misfit(name, wanted.get("propertyNames", {}), f"{path}: the name")])
        if name not in known and others is False:
            yield f"{path}: {name[:80]!r} is unknown"
        else:
            yield from filter(None, [misfit(item, known.get(name, others), f"{path}.{name[:80]}".lstrip("."))])
