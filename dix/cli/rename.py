"""`dix rename`: give a results folder, or a method in it, another name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dix.bench.store.amend import check_quiet, rename
from dix.bench.store.results import ResultStore
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of
from dix.cli.report import method_labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is renamed, and how."""
    parser.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    parser.add_argument("name", nargs="?", help="the folder's new name, or its new path")
    parser.add_argument("--method", metavar="OLD=NEW", action="append", default=[], help="rename a method in it")
    parser.add_argument("--label", default="", help="with one --method: its printed name, if not the configured one")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Rename; what is stored stays valid, and a job that calls the method by its new name computes nothing again."""
    folders = folders_of(arguments)
    folder = results_folder(arguments.results)
    pairs = [_pair(word) for word in arguments.method]
    if not pairs and not arguments.name:
        raise ValueError("dix rename: say the folder's new name, or --method OLD=NEW")
    if arguments.label and len(pairs) != 1:
        raise ValueError(f"--label: expected one --method, got {len(pairs)}")
    target = _target(folder, arguments.name) if arguments.name else folder
    known = method_labels(folders)
    for old, new in pairs:
        found = rename(ResultStore(folder), old, new, arguments.label or known.get(new, ""))
        print(f"{folder}: {old} is {new} now: {found.cells:,} cells, {found.rows:,} rows")
    if arguments.name:
        check_quiet(ResultStore(folder))
        os.rename(folder, target)
        print(f"{folder} is {target} now")
    return 0


def _pair(word: str) -> tuple[str, str]:
    old, sign, new = word.partition("=")
    if not (old and sign and new):
        raise ValueError(f"--method: expected OLD=NEW, got {word!r}")
    return old, new


def _target(folder: Path, name: str) -> Path:
    """Where a folder goes: beside itself by a bare name. Raises ValueError where something is there."""
    path = Path(name) if Path(name).parent != Path() else folder.with_name(name)
    if os.path.lexists(path):
        raise ValueError(f"{path} is there already; nothing was renamed")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: no folder {path.parent}; nothing was renamed")
    return path
