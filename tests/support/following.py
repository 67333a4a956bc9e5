"""Documents followed to the letter: files written, Python and commands run, in their order, each document in a folder.

A block of Python, YAML or TOML whose first line is a path in a comment is what that file holds from there on; other
Python runs as it stands; of shell blocks each line runs. One process does it all: networks and libraries load once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(bash|python|toml|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# ([\w./-]+\.(?:py|toml|yaml))\n")
#: Programs of shell blocks that are not run: they would change the environment or take minutes.
LEFT_OUT = ("pip", "make")
#: Does the steps of its standard input, in each folder until one fails, and tells of each in a line of JSON.
RUNNER = """if True:
    import contextlib, io, json, os, runpy, shlex, sys, traceback
    from pathlib import Path

    def command(line):
        program, *words = shlex.split(line, comments=True)
        if program == "dix":
            from dix.cli import main
            return main(words)
        if program == "pytest":
            import pytest
            return int(pytest.main(["-q", "-p", "no:cacheprovider", *words]))
        assert program == "python", f"no way to run {line!r}"
        runpy.run_path(words[0], run_name="__main__")
        return 0

    def file(text):
        path, content = text
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content)
        sys.modules.pop(Path(path).stem, None)
        return 0

    def code(text):
        exec(compile(text, "document", "exec"), {"__name__": "__main__"})
        return 0

    def step(kind, what):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                ended = {"file": file, "code": code, "command": command}[kind](what)
            except BaseException:
                ended = 1
                traceback.print_exc()
        return {"what": what, "code": ended, "said": said.getvalue()}

    for folder, todo in json.load(sys.stdin).items():
        os.chdir(folder)
        sys.path[0] = folder  # as for a script in that folder
        for kind, what in todo:
            told = {"folder": folder} | step(kind, what)
            print("STEP " + json.dumps(told), flush=True)
            if told["code"]:
                break
"""


@dataclass(frozen=True)
class Step:
    """What was done. code: 0 where it went well. said: all that it printed."""

    what: str
    code: int
    said: str


def steps(document: Path) -> list[tuple[str, Any]]:
    """Kind and content of each step: a file with its path, Python, or a command."""
    found: list[tuple[str, Any]] = []
    for language, text in BLOCK.findall(document.read_text(encoding="utf-8")):
        path = FILE.match(text)
        if language == "bash":
            lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
            found += [("command", line) for line in lines if line and line.split(" ")[0] not in (*LEFT_OUT, "#")]
        elif path:
            found.append(("file", (path[1], text[path.end() :])))
        elif language == "python":
            found.append(("code", text))
    return found


def follow(todo: Mapping[Path, Sequence[tuple[str, Any]]], installed: Path | None = None) -> dict[Path, list[Step]]:
    """By folder, the steps that were done there, until one failed; all in one process.

    installed: a folder of packages beside those of this environment.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("DIX_DATA", "PYTHONPATH")}
    environment |= {"MPLBACKEND": "agg"} | ({"PYTHONPATH": str(installed)} if installed else {})
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps({str(folder): steps for folder, steps in todo.items()}),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = [json.loads(line.removeprefix("STEP ")) for line in done.stdout.splitlines() if line.startswith("STEP ")]
    assert told, done.stderr
    found: dict[Path, list[Step]] = {folder: [] for folder in todo}
    for one in told:
        found[Path(one["folder"])].append(Step(str(one["what"]), one["code"], one["said"]))
    return found
