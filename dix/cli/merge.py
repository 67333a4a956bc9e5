"""`dix merge`: put the rows of several results folders into one."""

from __future__ import annotations

import argparse
from pathlib import Path

from dix.bench.store.merge import merge
from dix.bench.store.results import ResultStore
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where from, and where to."""
    parser.add_argument("sources", nargs="+", metavar="FROM", help="results folders, or their names under results/")
    parser.add_argument("into", metavar="INTO", help="the results folder that gets the rows; made where it is missing")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Merge, and say how many rows were new, known, and known with another value; 1 for these and for damage."""
    folders_of(arguments)  # checked as by every command; the stored records say all that is needed
    sources = [ResultStore(results_folder(name)) for name in arguments.sources]
    into = _target(arguments.into)
    merged = merge(sources, ResultStore(into))
    print(f"{into}: {merged.added:,} rows added, {merged.same:,} were there already")
    if merged.differing:
        print(f"{merged.differing:,} rows contradict others of the same image, and `dix report` says so; for example")
        print("\n".join(f"  {example}" for example in merged.examples))
    damaged = [f"{store.folder.parent}: {name}" for store in sources for name in store.damaged()]
    if damaged:
        print("damaged and left out: " + ", ".join(damaged))
    return 1 if merged.differing or damaged else 0


def _target(name: str) -> Path:
    """A folder by path, or by its name under results/; a bare new name goes there."""
    path = Path(name)
    return path if path.is_dir() or path.parent != Path() else Path("results") / name
