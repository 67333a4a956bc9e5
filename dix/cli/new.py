"""`dix new`: the files that a method, metric, data set or model of your own begins with."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

from dix.cli.config import options
from dix.files import write_atomic

KINDS = ("method", "metric", "dataset", "model")
#: Where configurations of one's own lie, as the documents have it.
CONF = Path("my_conf")
TEMPLATES = Path(__file__).with_name("templates")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to begin, and what to call it."""
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("name", metavar="NAME", help="in small letters, as in my_method; its class is called MyMethod")


def main(arguments: argparse.Namespace) -> int:
    """Write NAME.py, its configuration and its test into the current folder, and say what to do next."""
    kind, name = arguments.kind, arguments.name
    check(kind, name)
    contents = files(kind, name)
    for path in contents:
        if path.exists():
            raise ValueError(f"{path} is there already; nothing was written")
    for path, text in contents.items():
        write_atomic(path, text)
        print(path)
    word = f"{kind}={name}" if kind in ("model", "dataset") else f"{kind}=[{name}]"
    print(f"next: edit {name}.py, then dix check {word} --config-dir {CONF}, and pytest test_{name}.py")
    return 0


def check(kind: str, name: str) -> None:
    """Raise ValueError where a module, or a part of the suite, cannot have the name or has it already."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(f"NAME: expected small letters, digits and _, as in my_{kind}, got {name!r}")
    if name in options(kind):
        raise ValueError(f"NAME: this suite has its own {kind} {name!r}; give yours another name")
    known = name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None
    if known and not Path(f"{name}.py").exists():
        raise ValueError(f"NAME: {name} is the name of an installed package, which {name}.py would hide")


def files(kind: str, name: str) -> dict[Path, str]:
    """Path and text of each file."""
    class_name = "".join(word.capitalize() for word in name.split("_"))
    paths = {
        "code": Path(f"{name}.py"),
        "conf": CONF / kind / f"{name}.yaml",
        "test": Path(f"test_{name}.py"),
    }
    return {path: _filled(f"{kind}_{part}.txt", name, class_name) for part, path in paths.items()}


def _filled(template: str, name: str, class_name: str) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return Template(text).substitute(name=name, Class=class_name)
