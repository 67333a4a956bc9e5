"""`dix data`: is a data set complete, and unpack what was downloaded."""

from __future__ import annotations

import argparse

from dix.cli.options import add_overrides
from dix.datasets import carriers
from dix.datasets.check import check
from dix.datasets.prepare import prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Check or prepare, and where."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|prepare|confidence")
    checking = actions.add_parser("check", help="say what is there, what is missing, and how many images")
    checking.add_argument("name", help="a data set, as in `dix list dataset`")
    checking.add_argument("--root", help="its folder; default $DIX_DATA/NAME")
    checking.add_argument("--labels-file", help="as dataset.labels_file of a run; imagenet and folder only")
    checking.add_argument("--decode", action="store_true", help="decode every image and mask as well")
    preparing = actions.add_parser("prepare", help="unpack downloaded archives; goes on where it was stopped")
    preparing.add_argument("name", help="a data set, as in `dix list dataset`, or `embedded` (weights and photos)")
    preparing.add_argument(
        "source",
        nargs="?",
        help="the downloaded file, or the folder that holds the downloads; not needed for `embedded`",
    )
    preparing.add_argument("--root", help="where to; default $DIX_DATA/NAME")
    measuring = actions.add_parser("confidence", help="write how confident a network is of each image's label")
    measuring.add_argument("out", help="the JSON file to write, for dataset.confidence of dataset=grid")
    add_overrides(measuring, "the network and the images, as in model=resnet101 dataset=imagenet")


def main(arguments: argparse.Namespace) -> int:
    """Print the report; 0 only where the data set is complete."""
    if arguments.action == "check":
        report = check(arguments.name, arguments.root, arguments.decode, arguments.labels_file)
        print(report)
        return 0 if report.complete else 1
    if arguments.action == "confidence":
        from dix.cli.confidence import main as measure  # imports torch, for which the others need not wait

        return measure(arguments)
    if arguments.name == "embedded":
        print(carriers.install(arguments.source))
        return 0
    if arguments.source is None:
        raise ValueError(f"dix data prepare {arguments.name}: name the downloaded file or the folder that holds it")
    prepared = prepare(arguments.name, arguments.source, arguments.root)
    print(prepared)
    return 0 if prepared.report.complete else 1
