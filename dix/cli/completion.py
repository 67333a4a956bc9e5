"""`dix completion bash`: what the shell needs to complete commands, options, settings and names with the tab key."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path
from string import Template

from dix.cli.config import options
from dix.cli.options import GROUPS
from dix.cli.schema import type_of

TEMPLATE = Path(__file__).with_name("templates") / "completion.bash.txt"
#: What a name must be to stand in the script.
_WORD = re.compile(r"[\w.+-]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=("bash",))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "once, for every shell to come:\n"
        "  mkdir -p ~/.local/share/bash-completion/completions\n"
        "  dix completion bash > ~/.local/share/bash-completion/completions/dix\n"
        "or in this shell alone: source <(dix completion bash)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the script; names are those of this installation and its plug-ins, at this moment."""
    print(script(), end="")
    return 0


def script() -> str:
    """The completion of bash, 3.2 or newer."""
    from dix.cli import COMMANDS, parser_of  # not at the top: that module looks up this one

    parsers = {name: _parser(parser_of(list(COMMANDS)), name) for name in COMMANDS}
    configured = [name for name, parser in parsers.items() if _takes(parser, "overrides", "words", "images")]
    stored = [name for name, parser in parsers.items() if _takes(parser, "results", "sources")]
    settings = [f"{group}.{key.name}=" for group in ("run", "protocol") for key in dataclasses.fields(type_of(group))]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        commands=" ".join(COMMANDS),
        options=_cases({name: _options(parser) for name, parser in parsers.items()}),
        names=_cases({group: options(group) for group in GROUPS}),
        groups=" ".join(GROUPS),
        stored="|".join(name for name in stored if name not in configured),
        configured="|".join(configured),
        keys=" ".join([*(f"{group}=" for group in GROUPS), *settings]),
    )


def _parser(whole: argparse.ArgumentParser, command: str) -> argparse.ArgumentParser:
    """A command's own parser."""
    [commands] = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    found: argparse.ArgumentParser = commands.choices[command]
    return found


def _inner(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser with those of its own commands, as `dix bench methods` has."""
    own = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(inner for action in own for inner in action.choices.values())]


def _takes(parser: argparse.ArgumentParser, *names: str) -> bool:
    return any(action.dest in names for each in _inner(parser) for action in each._actions)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    words = (word for each in _inner(parser) for action in each._actions for word in action.option_strings)
    return sorted({word for word in words if word.startswith("--")})


def _cases(words: dict[str, list[str]]) -> str:
    """Branches of a shell's `case` that set `names`; a name that a shell might act on is left out."""
    clean = {key: [word for word in found if _WORD.fullmatch(word)] for key, found in words.items()}
    return "\n".join(f'        {key}) names="{" ".join(found)}" ;;' for key, found in clean.items())
