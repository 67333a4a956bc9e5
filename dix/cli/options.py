"""What all commands share: options and words in any order, and a user's own folder of configurations."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dix.cli.words import nearest
from dix.text import printable

#: Groups of a configuration: `--model X` is what other programs call `model=X`.
GROUPS = ("model", "method", "dataset", "metric", "protocol", "experiment")


class AnyOrder(argparse.ArgumentParser):
    """A parser that takes options before, between and behind the words; argparse alone does so for no subcommand."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._has_subcommands = self._mixing = False

    def add_subparsers(self, **settings: Any) -> Any:
        """As argparse does it. The words of a subcommand are mixed by its own parser."""
        self._has_subcommands = True
        return super().add_subparsers(**settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The namespace and the words that no option or position takes."""
        if self._has_subcommands or self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does it, with the choice that is most like the word instead of a list of all, where one is."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            there = nearest(str(value), known) or f"; there are {', '.join(known)}"
            raise argparse.ArgumentError(action, f"there is no {str(value)!r}{there}")

    def error(self, message: str) -> NoReturn:
        """End the program with a message, which may repeat words that a terminal would act on."""
        super().error(printable(message, keep="\n"))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The namespace; what is not understood ends the program with a message that says how it is written."""
        given = list(sys.argv[1:] if args is None else args)
        found, unknown = self.parse_known_args(given, namespace)
        if unknown:
            self.error(_not_understood(unknown, given, getattr(found, "command", "COMMAND"), option_words(self)))
        return found


def option_words(parser: argparse.ArgumentParser) -> list[str]:
    """Every long option of a parser and of its commands, as far as their options have been added."""
    return sorted({word for each in with_inner(parser) for word in each._option_string_actions if word[:2] == "--"})


def with_inner(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser with those of its own commands, as `dix bench methods` has."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from with_inner(inner)


def _not_understood(words: Sequence[str], given: Sequence[str], command: str, known: Sequence[str]) -> str:
    """known: long options that there are."""
    name, _, value = words[0].lstrip("-").partition("=")
    if words[0].startswith("-") and (name in GROUPS or "." in name):
        value = value or next(iter(given[given.index(words[0]) + 1 :]), "NAME")
        return f"no option {words[0].split('=')[0]}; settings are written without dashes: {name}={value}"
    like = nearest(words[0].split("=")[0], known) if words[0].startswith("-") else ""
    return f"unknown: {' '.join(words)}{like}; `dix {command} --help` shows what there is"


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """The option `--config-dir`."""
    parser.add_argument(
        "--config-dir",
        "-cd",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder with configurations of your own, laid out like conf/; modules in it can be imported, as can "
        "those of the current folder (may be given more than once)",
    )


def add_overrides(parser: argparse.ArgumentParser, about: str, **settings: Any) -> None:
    """Words `key=value` in the namespace's `overrides`, and `--config-dir`."""
    parser.add_argument("overrides", **{"nargs": "*", "default": [], "metavar": "KEY=VALUE", "help": about, **settings})
    add_config_dir(parser)


def folders_of(arguments: argparse.Namespace) -> list[Path]:
    """The folders of `--config-dir`, whose modules can be imported from now on.

    Raises ValueError where one is not there.
    """
    folders = [Path(name).expanduser().absolute() for name in arguments.config_dir]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"--config-dir: no folder {folder}")
    importable(folders)
    return folders


def importable(folders: Sequence[Path]) -> None:
    """Let modules of these folders be imported, behind all that is installed, so that they hide nothing."""
    sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)


def search_path(folders: Sequence[Path]) -> list[str]:
    """The override that adds folders to Hydra's search path; none without folders."""
    paths = ",".join(f'"file://{_escaped(str(folder))}"' for folder in folders)
    return [f"hydra.searchpath=[{paths}]"] if folders else []


def _escaped(text: str) -> str:
    """As Hydra's grammar reads it between double quotes: only quotes, and backslashes before one, are escaped."""
    return re.sub(r"(\\+)$", r"\1\1", re.sub(r'(\\*)"', r'\1\1\\"', text))


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The words `key=value`, with the folders of `--config-dir` as Hydra's search path."""
    return [*arguments.overrides, *search_path(folders_of(arguments))]
