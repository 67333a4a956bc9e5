"""`dix pack`: a results folder in one file, for others to look at, to check and to put beside theirs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from dix.bench.share.container import Pack
from dix.bench.share.pack import pack
from dix.bench.share.summaries import summaries_of
from dix.bench.store.results import ResultStore
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of
from dix.cli.report import stored_scores

#: How the files end.
SUFFIX = ".pack"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to pack, and where."""
    parser.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    parser.add_argument("--output", metavar="FILE", help="the file to write (default NAME.pack here)")
    parser.add_argument("--pictures", action="store_true", help="also pictures and maps, which may be licensed")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the file, and say what is in it."""
    folder = results_folder(arguments.results)
    name = re.sub(r"[^A-Za-z0-9_.+=-]+", "_", folder.resolve().name).lstrip("._-+=")[:100] or "results"
    target = Path(arguments.output or f"{name}{SUFFIX}")
    store = ResultStore(folder)
    summaries = summaries_of(stored_scores(store, folders_of(arguments)))
    print("\n".join(described(pack(store, target, name, summaries, with_pictures=arguments.pictures))))
    return 0


def described(found: Pack) -> list[str]:
    """A pack in lines for people."""
    lines = [f"{found.path}: {found.path.stat().st_size:,} bytes, sha256 {found.digest}"]
    for one in found.manifest["groups"]:
        names = " \u00b7 ".join(one[key] for key in ("model", "dataset", "protocol"))
        missing = f", {one['missing']:,} rows missing" if one["missing"] else ""
        counts = f"{len(one['methods'])} methods, {len(one['metrics'])} metrics, {one['images']:,} images"
        lines.append(f"  {names}: {counts}, {one['rows']:,} rows{missing}")
    return lines
