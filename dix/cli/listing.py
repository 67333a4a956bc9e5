"""`dix list`: what there is to choose from, one line each."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from dix.cli.config import files
from dix.cli.options import GROUPS, add_config_dir, folders_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The group to list."""
    parser.add_argument("group", nargs="?", help=f"one of {', '.join(GROUPS)}; without one, all")
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
        raise ValueError(f"no group called {unknown[0]!r}; there are {', '.join(GROUPS)}")
    folders = folders_of(arguments)
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


def about(path: Path) -> str:
    """The file's first comment, or the printed label and the class behind it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    if comments:
        return comments[0]
    found = {key: re.search(rf"^\s*{key}: *(.+)$", text, re.MULTILINE) for key in ("label", "_target_", "extra")}
    parts = [match.group(1) for key in ("label", "_target_") if (match := found[key])]
    return "  ".join(parts) + ("  (extra)" if found["extra"] else "")
