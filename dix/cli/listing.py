"""`dix list`: what there is to choose from, one line each, and what is known of a single one."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from dix.cli.aliases import known_as
from dix.cli.config import content, files
from dix.cli.options import GROUPS, add_config_dir, folders_of
from dix.cli.words import nearest

#: What the comments of a method's or metric's file say, by key: how it is printed.
FACTS = {"paper": "paper", "verified": "verified against", "deviates": "known deviations"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The group to list."""
    parser.add_argument("group", nargs="?", help=f"one of {', '.join(GROUPS)}; without one, all")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tell all that is known of these, as of method gc")
    parser.add_argument(
        "--libraries", action="store_true", help="the methods that installed libraries offer, and how to name them"
    )
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the names of a group, or of all groups."""
    if arguments.libraries:
        return _libraries(arguments.group)
    groups = [arguments.group] if arguments.group else list(GROUPS)
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        there = nearest(unknown[0], GROUPS) or f"; there are {', '.join(GROUPS)}"
        raise ValueError(f"no group called {unknown[0]!r}{there}")
    folders = folders_of(arguments)
    if arguments.names:
        _tell(arguments.group, arguments.names, files(arguments.group, folders))
        return 0
    for group in groups:
        print(f"{group}:")
        for name, path in files(group, folders).items():
            print(f"  {name:<22} {about(path)}".rstrip())
    return 0


def _libraries(group: str | None) -> int:
    """Print what each library offers, and the two lines of YAML that take it."""
    if group not in (None, "method"):
        raise ValueError(f"--libraries: libraries offer methods, as in `dix list method --libraries`, got {group}")
    from dix.baselines.wrap.offers import offers  # imports every library that is installed

    for offer in offers():
        print(f"_target_: dix.baselines.wrap.{offer.adapter}")
        print(f"{offer.key}: one of {len(offer.names)}" if offer.names else f"  {offer.missing}")
        for name in offer.names:
            print(f"  {name}")
        for name, reason in offer.refused.items():
            print(f"  not {name}: it {reason}")
    return 0


def _tell(group: str, names: list[str], known: dict[str, Path]) -> None:
    """Print what files say of themselves. Raises ValueError for a name that none has."""
    for name in names:
        if name not in known:
            raise ValueError(f"no {group} called {name!r}{known_as(name, known)} (`dix list {group}` shows all)")
    print("\n\n".join("\n".join(told(name, known[name])) for name in names))


def told(name: str, path: Path) -> Iterator[str]:
    """All that a file says of itself, for people: what it is, its facts, its settings."""
    yield f"{name}: {about(path)}"
    said = facts(path)
    found = content(path)
    node = found.get(name, found) if isinstance(found, dict) else {}
    settings = {"class": node.get("_target_"), "printed as": node.get("label")} if isinstance(node, dict) else {}
    for key, value in [*((FACTS[key], said[key]) for key in FACTS if key in said), *settings.items()]:
        if value:
            yield textwrap.fill(
                str(value), 100, initial_indent=f"  {key:<18}", subsequent_indent=" " * 20, break_on_hyphens=False
            )
    for key, value in node.items() if isinstance(node, dict) else ():
        if key not in ("_target_", "label", "extra"):
            yield f"  {key}={value}"


def facts(path: Path) -> dict[str, str]:
    """What a file's comments `# paper: ...`, `# verified: ...` and `# deviates: ...` say, by key."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return dict(re.findall(rf"^# ({'|'.join(FACTS)}): (.+)$", text, re.MULTILINE))


def about(path: Path) -> str:
    """The file's first comment, or the printed label and the class behind it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    if comments:
        return comments[0]
    found = {key: re.search(rf"^\s*{key}: *(.+)$", text, re.MULTILINE) for key in ("label", "_target_", "extra")}
    parts = [match.group(1) for key in ("label", "_target_") if (match := found[key])]
    return "  ".join(parts) + ("  (extra)" if found["extra"] else "")
