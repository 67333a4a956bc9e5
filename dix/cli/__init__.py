"""The `dix` command. Nothing heavy is imported before a subcommand needs it, so help and completion stay quick."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from dix import __version__
from dix.cli.options import AnyOrder
from dix.cli.output import printable_output, tell
from dix.cli.plugins import installed

#: Subcommands: the module that has `add_arguments(parser)` and `main(arguments) -> exit code`, and a line of help.
COMMANDS = {
    "run": ("dix.cli.run", "run a job, or a sweep with -m: dix run model=resnet101 method=[gc,dix3]"),
    "list": ("dix.cli.listing", "list models, methods, data sets, metrics, protocols, experiments"),
    "new": ("dix.cli.new", "begin a method, metric, dataset or model of your own: its class, its YAML and a test"),
    "bench": ("dix.cli.bench", "time methods and metrics, and compare with the libraries people use for them"),
    "check": ("dix.cli.check", "does your own method, metric, data set or model hold its contract?"),
    "data": ("dix.cli.data", "check or prepare a data set: dix data check imagenet"),
    "train": ("dix.cli.train", "train a model on true or permuted labels: dix train experiment=train_digits"),
    "sanity": ("dix.cli.sanity", "randomise weights or labels and compare the maps: dix sanity parameters"),
    "report": ("dix.cli.report", "write the tables and the page of a results folder, or compare several"),
    "validate-metrics": ("dix.cli.validate_metrics", "which metric can be trusted for what: explainers made worse"),
    "decide": ("dix.cli.decide", "when stored rows would have decided, and how many images that saves"),
    "sensitivity": ("dix.cli.sensitivity", "the thesis's claims under every stored protocol, and what decides them"),
    "status": ("dix.cli.status", "how far an experiment is, across all its jobs: dix status table1"),
    "merge": ("dix.cli.merge", "put the rows of several results folders into one: dix merge FROM... INTO"),
    "export": ("dix.cli.export", "stored rows as one tidy table: dix export table1 --format parquet"),
    "clean": ("dix.cli.clean", "remove a method's, metric's or model's rows: dix clean table1 --method gc"),
    "rename": ("dix.cli.rename", "give a results folder, or a method in it, another name"),
    "estimate": ("dix.cli.estimate", "forwards, time, disk and memory of a run before it starts"),
    "tables": ("dix.cli.tables", "run the thesis's tables and report them: dix tables table1 run.limit=500"),
    "figures": ("dix.cli.figures", "draw the thesis's Figures 1-3: dix figures figure1"),
    "explain": ("dix.cli.explain", "maps of your own pictures: dix explain cat.jpg --method gc,dix3"),
    "view": ("dix.cli.view", "look at results image by image in a browser: dix view table1"),
    "pack": ("dix.cli.pack", "a results folder in one file that can be checked: dix pack table1"),
    "unpack": ("dix.cli.unpack", "a results folder from such a file: dix unpack table1.pack"),
    "submit": ("dix.cli.submit", "add a pack to a collection: dix submit mine.pack collection"),
    "leaderboard": ("dix.cli.leaderboard", "a page of everything in a collection, with what may be said of it"),
    "verify": ("dix.cli.verify", "recompute a random sample of stored rows and compare"),
    "completion": ("dix.cli.completion", "the tab key in bash, zsh or fish: source <(dix completion bash)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, dispatch, and turn a user's mistake into one message; the return value is the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("HYDRA_FULL_ERROR") == "1"
    given = [word for word in given if word != "--debug"]
    parser = parser_of(given[:1])
    if not given:
        parser.print_help()
        return 2
    try:
        options = parser.parse_args(given)
        with printable_output():
            return _finished(options)
    except KeyboardInterrupt:
        tell("interrupted; what was stored stays, the same command goes on from there")
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        tell(_message(error))
        return 1


def _finished(options: argparse.Namespace) -> int:
    """A command's exit code: not 0 where something that it called ended the process before it was done."""
    for problem in installed().problems:
        tell(problem)
    try:
        return int(importlib.import_module(COMMANDS[options.command][0]).main(options))
    except SystemExit as error:
        if type(error) is not SystemExit:  # a termination from outside
            raise
        tell(f"something that the command called asked for the end of the process: SystemExit({error.code!r})")
        return error.code if isinstance(error.code, int) and error.code else 1


def parser_of(chosen: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the chosen subcommand's module is imported."""
    parser = AnyOrder(
        prog="dix",
        description="Benchmark Deep Integrated Explanations against other explanation methods.",
        epilog="--debug with any command shows the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=f"dix {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def _message(error: BaseException) -> str:
    """What a person needs to know: the error's text, and for unforeseen errors how to see more."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ValueError | FileNotFoundError | NotADirectoryError | PermissionError):
        return text
    return f"{type(error).__name__}: {text}\n(--debug shows where)"
