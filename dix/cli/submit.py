"""`dix submit`: add a pack to a collection, if it is what a collection takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from dix.bench.report.compare import ResultSet
from dix.bench.share.collection import Look, VersionOf, submit
from dix.bench.store.results import ResultStore
from dix.cli.config import composed, options
from dix.cli.options import add_config_dir, folders_of, search_path
from dix.cli.report import result_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to add, and to which folder."""
    parser.add_argument("pack", help="a file that `dix pack` wrote")
    parser.add_argument("collection", help="the collection's folder; made where it is missing")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Check the pack, put each of its runs into its place, and write the collection's index."""
    folders = folders_of(arguments)
    for path in submit(Path(arguments.pack), Path(arguments.collection), look(folders), version_of(folders)):
        print(f"{path}: added")
    return 0


def look(folders: Sequence[Path]) -> Look:
    """How rows become tables, with the metrics that are configured here."""

    def found(store: ResultStore) -> ResultSet:
        return result_set(store, folders)

    return found


def version_of(folders: Sequence[Path]) -> VersionOf:
    """The version of a protocol as it is configured here, each found once."""

    @cache
    def found(name: str) -> int | None:
        if name not in options("protocol", folders):
            return None
        return int(composed([f"protocol={name}", *search_path(folders)]).protocol.version)

    return found
