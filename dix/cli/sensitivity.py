"""`dix sensitivity`: claims under every protocol that a results folder holds, and which field decides them."""

from __future__ import annotations

import argparse

from dix.bench.report.markdown import TITLE, markdown_section
from dix.bench.report.sensitivity import sensitivity
from dix.bench.store.results import ResultStore
from dix.bench.tables.beside import protocols_of
from dix.bench.tables.table import Table
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of
from dix.cli.report import result_set, shown
from dix.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results."""
    parser.add_argument(
        "results", metavar="NAME", help="a results folder that holds several protocols, or its name under results/"
    )
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the section that reports have, and keep it as sensitivity.md in the folder."""
    folder = results_folder(arguments.results)
    text = shown(markdown(result_set(ResultStore(folder), folders_of(arguments)).table))
    print(text)
    write_atomic(folder / "sensitivity.md", text)
    print(folder / "sensitivity.md")
    return 0


def markdown(table: Table) -> str:
    """The whole page. Raises ValueError where fewer than two protocols are there to compare."""
    section = sensitivity(table)
    if section is None:
        names = ", ".join(protocols_of(table))
        raise ValueError(f"dix sensitivity: expected results of at least two protocols, got {names}")
    return "\n\n".join([f"# {TITLE}", *markdown_section(section)]) + "\n"
