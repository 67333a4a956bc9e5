"""`dix completion SHELL`: what the shell needs to complete commands, options, settings and names with the tab key."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from dix.cli.config import options
from dix.cli.options import GROUPS, option_words, with_inner
from dix.cli.schema import type_of

TEMPLATES = Path(__file__).with_name("templates")
#: Shells: where each one looks for completions by itself.
SHELLS = {
    "bash": "~/.local/share/bash-completion/completions/dix",
    "zsh": "~/.zfunc/_dix",
    "fish": "~/.config/fish/completions/dix.fish",
}
#: What a name must be to stand in the script.
_WORD = re.compile(r"[\w.+-]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=tuple(SHELLS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = [
        f"  mkdir -p {path.rpartition('/')[0]} && dix completion {shell} > {path}" for shell, path in SHELLS.items()
    ]
    parser.epilog = "\n".join(
        [
            "once, for every shell to come:",
            *lines,
            "zsh reads that folder if ~/.zshrc has these lines:",
            "  fpath+=~/.zfunc",
            "  autoload -Uz compinit && compinit",
            "or in this bash alone: source <(dix completion bash)",
        ]
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the script; names are those of this installation and its plug-ins, at this moment."""
    print(script(arguments.shell), end="")
    return 0


def script(shell: str = "bash") -> str:
    """The completion of bash (3.2 or newer), zsh or fish."""
    from dix.cli import COMMANDS, parser_of  # not at the top: that module looks up this one

    parsers = {name: _parser(parser_of(list(COMMANDS)), name) for name in COMMANDS}
    configured = [name for name, parser in parsers.items() if _takes(parser, "overrides", "words", "images")]
    stored = [name for name, parser in parsers.items() if _takes(parser, "results", "sources")]
    settings = [f"{group}.{key.name}=" for group in ("run", "protocol") for key in dataclasses.fields(type_of(group))]
    return Template((TEMPLATES / f"completion.{shell}.txt").read_text(encoding="utf-8")).substitute(
        commands=" ".join(COMMANDS),
        options=_cases({name: option_words(parser) for name, parser in parsers.items()}, shell),
        names=_cases({group: options(group) for group in GROUPS}, shell),
        groups=" ".join(GROUPS),
        shells=" ".join(SHELLS),
        stored=_either([name for name in stored if name not in configured], shell),
        configured=_either(configured, shell),
        keys=" ".join([*(f"{group}=" for group in GROUPS), *settings]),
    )


def _parser(whole: argparse.ArgumentParser, command: str) -> argparse.ArgumentParser:
    """A command's own parser."""
    [commands] = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    found: argparse.ArgumentParser = commands.choices[command]
    return found


def _takes(parser: argparse.ArgumentParser, *names: str) -> bool:
    return any(action.dest in names for each in with_inner(parser) for action in each._actions)


def _either(words: list[str], shell: str) -> str:
    """Several words of one branch of a shell's `case`, which fish calls `switch`."""
    return " ".join(words) if shell == "fish" else "|".join(words)


def _cases(words: Mapping[str, list[str]], shell: str) -> str:
    """Branches that set `names`; a name that a shell might act on is left out."""
    branch = "            case {}\n                set names {}" if shell == "fish" else '        {}) names="{}" ;;'
    clean = {key: [word for word in found if _WORD.fullmatch(word)] for key, found in words.items()}
    return "\n".join(branch.format(key, " ".join(found)) for key, found in clean.items())
