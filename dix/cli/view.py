"""`dix view`: results image by image in a browser, from this machine or as a static site."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from dix.bench.view.server import Server
from dix.bench.view.site import Site
from dix.cli.folders import results_folder
from dix.files import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look at, and how."""
    parser.add_argument("results", nargs="+", metavar="NAME", help="results folders, or their names under results/")
    parser.add_argument("--port", type=int, default=0, help="of the server (default: any that is free)")
    parser.add_argument("--bundle", metavar="FOLDER", help="write a static site instead, for any web host")
    parser.add_argument("--pictures", action="store_true", help="put photos and maps into the bundle: mind licences")


def main(arguments: argparse.Namespace) -> int:
    """Serve until interrupted, or write the bundle."""
    folders = [results_folder(name) for name in arguments.results]
    if arguments.bundle:
        files, size = bundle(Site(folders, arguments.pictures), Path(arguments.bundle))
        print(f"{arguments.bundle}: {files:,} files, {size:,} bytes; any web host can serve it")
        return 0
    with Server(Site(folders), arguments.port) as server:
        print(
            f"{server.url} shows {', '.join(folder.name for folder in folders)} on this machine alone; Ctrl-C ends it"
        )
        server.serve_forever()
    return 0


def bundle(site: Site, target: Path) -> tuple[int, int]:
    """Write every file of a site into a new folder, complete or not at all; how many files and bytes."""
    if os.path.lexists(target):
        raise ValueError(f"{target} is there already; name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    files = size = 0
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=target.parent) as scratch:
        half = Path(scratch, "half")
        for address in site.addresses():
            content = site.content(address)
            if content is not None:
                write_atomic(half / address, content, durable=False)
                files, size = files + 1, size + len(content)
        os.replace(half, target)
    return files, size
