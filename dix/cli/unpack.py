"""`dix unpack`: a results folder from the file that `dix pack` made of one."""

from __future__ import annotations

import argparse
from pathlib import Path

from dix.bench.share.container import read
from dix.bench.share.pack import unpack
from dix.bench.store.cells import checked_name
from dix.cli.pack import described


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which file, and what the folder is called."""
    parser.add_argument("pack", help="a file that `dix pack` wrote")
    parser.add_argument("--name", help="of the new folder under results/ (default: what it was called)")


def main(arguments: argparse.Namespace) -> int:
    """Check every byte, then write the folder; it holds rows and records, and nothing that is run."""
    path = Path(arguments.pack)
    name = arguments.name or read(path).manifest["name"]
    into = Path("results") / checked_name(name, "--name")
    print("\n".join(described(unpack(path, into))))
    print(f"{into}: unpacked; `dix report {name}` shows it, `dix verify {name}` recomputes rows")
    return 0
