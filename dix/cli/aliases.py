"""What people call a method, metric, model or data set: by its label, its class, or with other dashes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dix.cli.words import nearest


def known_as(word: str, files: Mapping[str, Path]) -> str:
    """What to add to a message about an unknown name: the one that is meant or most like it, or nothing.

    files: the configuration files of the group by name.
    """
    meant = aliases(files).get(plain(word))
    return f"; did you mean {meant!r}?" if meant else nearest(word, list(files))


def aliases(files: Mapping[str, Path]) -> dict[str, str]:
    """By every way to call it, a file's name: its own, the label that tables print, the class behind it.

    A file's own name is its own, whatever others hold; else of two files the one with the shorter name is meant:
    variants have longer ones.
    """
    found: dict[str, str] = {plain(name): name for name in files}
    for name in sorted(files, key=lambda each: (len(each), each)):
        for alias in _said(files[name].read_text(encoding="utf-8", errors="replace")):
            found.setdefault(plain(alias), name)
    return found


def plain(word: str) -> str:
    """A name without case, dashes and dots; "++" is what class names spell "pp"."""
    return re.sub(r"[^a-z0-9]", "", word.lower().replace("+", "p"))


def _said(text: str) -> Iterator[str]:
    for key in ("label", "_target_"):
        for value in re.findall(rf"^\s*{key}: *(\S+)", text, re.MULTILINE):
            yield value.rsplit(".", 1)[-1]
