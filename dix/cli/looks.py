"""How a method is shown, which its configuration may say beside its arguments: `label`, `role` and `colour`.

They are presentation: no row hangs on them. A class that takes one of them as an argument of its own gets it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dix.bench.report.styles import is_colour
from dix.bench.run.job import ROLES, Looks
from dix.cli.words import nearest

#: Keys of a method's configuration that say how it is shown.
KEYS = ("label", "role", "colour")


def looks_of(group: Mapping[str, Any]) -> dict[str, Looks]:
    """What the configuration of several methods says of their looks, by name.

    Raises ValueError that names the key where one is none.
    """
    return {str(name): _checked(node, f"method.{name}") for name, node in group.items()}


def without_looks(node: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments among a method's settings: all but what says how it is shown and the class does not ask for."""
    try:
        asked = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C, without a signature
        asked = set()
    return {key: value for key, value in node.items() if key not in KEYS or key in asked}


def _checked(node: Mapping[str, Any], key: str) -> Looks:
    found = {name: node.get(name) for name in KEYS}
    for name, value in found.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{key}.{name}: expected a text, got {value!r}")
    looks = Looks(**{name: str(value or "") for name, value in found.items()})
    if looks.role and looks.role not in ROLES:
        raise ValueError(
            f"{key}.role: expected one of {', '.join(ROLES)}, got {looks.role!r}{nearest(looks.role, ROLES)}"
        )
    if looks.colour and not is_colour(looks.colour):
        raise ValueError(f"{key}.colour: expected a colour such as '#0072B2', got {looks.colour!r}")
    return looks
