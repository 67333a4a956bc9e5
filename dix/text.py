"""Text from outside made fit to be shown."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping

#: Categories of characters that a terminal or a page may act on instead of showing them: control characters, invisible
#: ones that turn the direction of writing among them, halves of surrogate pairs (bytes that are no UTF-8).
ACTIVE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: object, keep: str = "") -> str:
    r"""Text in which every character that acts instead of showing is written as its escape, such as ``\x1b``.

    keep: characters that stay, say "\\n" where lines are wanted.
    """
    return "".join(
        one if one in keep or unicodedata.category(one) not in ACTIVE else _escaped(one) for one in str(text)
    )


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "backslashreplace").decode("ascii")


def told_apart(labels: Mapping[str, str]) -> dict[str, str]:
    """Printed names by name, each followed by the name itself where two names would print alike."""
    often = Counter(labels.values())
    return {name: f"{label} ({name})" if often[label] > 1 else label for name, label in labels.items()}
