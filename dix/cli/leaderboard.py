"""`dix leaderboard`: a page of everything in a collection, each run with what may be said of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from dix.bench.share.collection import read_collection, write_index
from dix.bench.share.leaderboard import board, board_csv
from dix.bench.share.page import notes_of, render
from dix.cli.options import add_config_dir, folders_of
from dix.cli.submit import look, version_of
from dix.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of which collection, and where to."""
    parser.add_argument("collection", help="the collection's folder")
    parser.add_argument("--output", metavar="FOLDER", help="where the page goes (default COLLECTION/page)")
    parser.add_argument("--title", default="Leaderboard of explanation methods", help="printed above the page")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Judge every file anew, and write the page, the CSV file and the index; 1 where something is refused or wrong."""
    folder, folders = Path(arguments.collection), folders_of(arguments)
    collection = read_collection(folder, look(folders), version_of(folders))
    output = Path(arguments.output) if arguments.output else folder / "page"
    found = board(collection)
    write_atomic(output / "index.html", render(found, arguments.title))
    write_atomic(output / "leaderboard.csv", board_csv(found))
    print("\n".join(notes_of(collection.entries, collection.refused)))
    print(output / "index.html", output / "leaderboard.csv", sep="\n")
    if not collection.refused:
        print(write_index(folder))
    wrong = [entry for entry in collection.entries if entry.faults or entry.disputed]
    return 1 if collection.refused or wrong else 0
