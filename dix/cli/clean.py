"""`dix clean`: take what belongs to some methods, metrics, models, data sets or protocols out of a results folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from dix.bench.store.amend import announced, remove
from dix.bench.store.cells import NAMES, StoredCell
from dix.bench.store.results import ResultStore
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of
from dix.cli.words import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results, and what of them."""
    parser.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    for name in NAMES:
        parser.add_argument(f"--{name}", metavar="NAME[,NAME]", help=f"only rows of these {_PLURALS[name]}")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and keep it")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Remove the rows, records and pictures that all the given names belong to; for good, there is no way back."""
    folders_of(arguments)  # checked as by every command; the stored records say all that is needed
    folder = results_folder(arguments.results)
    store = ResultStore(folder)
    cells = announced(store)
    wanted = {name: _listed(name, getattr(arguments, name), cells) for name in NAMES if getattr(arguments, name)}
    if not wanted:
        options = ", ".join(f"--{name}" for name in NAMES)
        raise ValueError(f"dix clean: say what is to go, by {options}; to remove all, delete the folder {folder}")
    if arguments.dry_run:
        gone = [cell for cell in cells if _meant(cell, wanted)]
        rows = sum(store.counts(group).get(c.digest, 0) for group in {c.group for c in gone} for c in gone)
        print("\n".join(cell.title for cell in gone))
        print(f"{folder}: {len(gone):,} cells with {rows:,} rows would be removed")
        return 0
    found = remove(store, lambda cell: _meant(cell, wanted))
    print(f"{folder}: {found.cells:,} cells with {found.rows:,} rows removed; reports are as they were: dix report")
    return 0


#: What a message calls several of a kind.
_PLURALS = {
    "model": "models",
    "dataset": "data sets",
    "method": "methods",
    "metric": "metrics",
    "protocol": "protocols",
}


def _listed(kind: str, words: str, cells: Sequence[StoredCell]) -> set[str]:
    """The names that an option lists. Raises ValueError for one that is not stored."""
    known = sorted({str(getattr(cell, kind)) for cell in cells})
    names = {word.strip() for word in words.split(",") if word.strip()}
    for name in sorted(names - set(known)):
        raise ValueError(f"--{kind}: nothing of {name!r} is stored{nearest(name, known)}")
    return names


def _meant(cell: StoredCell, wanted: Mapping[str, set[str]]) -> bool:
    return all(getattr(cell, kind) in names for kind, names in wanted.items())
