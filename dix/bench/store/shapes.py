"""What each kind of record must look like, so that whoever reads one need not doubt it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], bool]

#: No count of anything here is larger.
MOST = 10**12


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _mapping_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _shard(value: Any) -> bool:
    return _list_of(_count)(value) and len(value) == 2 and value[0] < value[1]


def _state(value: Any) -> bool:
    return value in ("running", "finished", "stopped")


def _weights(value: Any) -> bool:
    texts = isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("source", "note"))
    return texts and isinstance(value.get("trained"), bool)


def _config(value: Any) -> bool:
    """A run's configuration as far as reports read it."""
    parts = ("run", "protocol", "dataset", "method", "metric")
    return isinstance(value, dict) and all(isinstance(value.get(part, {}), dict) for part in parts)


def _comparison(value: Any) -> bool:
    return _list_of(_text)(value) and len(value) == 3


def _bounds(value: Any) -> bool:
    """The ends of a metric's values, or None."""
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and all(map(_signed, value)) and value[0] < value[1]


def _signed(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


_GROUP: Mapping[str, Test] = dict.fromkeys(("model", "dataset", "protocol"), _text)

#: By kind, the fields that a record must have.
SHAPES: Mapping[str, Mapping[str, Test]] = {
    "cells": {**_GROUP, "method": _text, "metric": _text, "cell": _text, "identity": _mapping,
              "printed": _mapping_of(_text)},
    "jobs": {**_GROUP, "key": _text, "job": _text, "shard": _shard, "count": _count, "cells": _list_of(_text),
             "batches": _count, "mine": _count, "state": _state, "done": _count, "images": _count, "seconds": _number,
             "attempts": _count},
    "failures": {**_GROUP, "job": _text, "method": _text, "images": _list_of(_text), "message": _text},
    "skips": {**_GROUP, "method": _text, "reason": _text},
    "unread": {**_GROUP, "images": _mapping_of(_text)},
    "clean": {"job": _text, "model": _text, "dataset": _text, "right": _mapping_of(_flag)},
    "provenance": {**_GROUP, "job": _text, "weights": _weights, "config": _config, "cost": _mapping,
                   "versions": _mapping},
    "validations": {**_GROUP, "method": _text, "weights": _text, "images": _count, "machine": _text,
                    "seconds": _number},
    "sweeps": {"jobs": _count, "words": _list_of(_text)},
    "origins": {},
    "orders": {"dataset": _text, "seed": _count, "images": _list_of(_text)},
    "sequences": {**_GROUP, "order": _text, "compare": _text, "alpha": _number, "least": _count, "batch_size": _count,
                  "comparisons": _list_of(_comparison), "bounds": _mapping_of(_bounds)},
}  # fmt: skip
#: By kind, the fields that a record may have.
OPTIONAL: Mapping[str, Mapping[str, Test]] = {
    "jobs": {"needed": _mapping_of(_count), "kept": _mapping_of(_count)},
}


def misfit(kind: str, record: Any) -> str:
    """What is wrong with a record of a kind, or ""."""
    if not isinstance(record, dict):
        return f"expected a mapping, got {type(record).__name__}"
    for key, test in SHAPES[kind].items():
        if key not in record:
            return f"{key} is missing"
        if not test(record[key]):
            return f"{key}: got {str(record[key])[:80]!r}"
    for key, test in OPTIONAL.get(kind, {}).items():
        if key in record and not test(record[key]):
            return f"{key}: got {str(record[key])[:80]!r}"
    return ""
