"""Completion: the generated scripts, asked as the shell asks them; of a shell that is not there, their words."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dix.cli import COMMANDS
from dix.cli.completion import SHELLS, script
from dix.cli.config import options

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "dix.bash"
    path.write_text(script(), encoding="utf-8")
    return path


def completed(generated: Path, line: str) -> list[str]:
    """What bash is offered behind a line; it splits words at spaces and at "="."""
    words = line.replace("=", " = ").split(" ")
    words = [word for word in words[:-1] if word] + words[-1:]
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {generated}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; "
        f"COMP_POINT={len(line)}; _dix; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=generated.parent)
    assert done.stderr == ""
    return done.stdout.split()


@needs_bash
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dix esti", ["estimate"]),
        ("dix run model=resnet", ["resnet101", "resnet50"]),
        ("dix run method=[gc,dix3_grads_", [f"[gc,dix3_grads_{end}" for end in ("max", "rect", "signed")]),
        ("dix run run.batch", ["run.batch_size="]),
        ("dix run mod", ["model="]),
        ("dix verify own --sam", ["--sample"]),
        ("dix report ow", ["own"]),
        ("dix list met", ["method", "metric"]),
        ("dix bench methods --lit", ["--literal"]),
        ("dix completion z", ["zsh"]),
    ],
)  # fmt: skip
def test_the_tab_key_offers_what_there_is(generated: Path, line: str, offered: list[str]) -> None:
    (generated.parent / "results" / "own").mkdir(parents=True, exist_ok=True)
    assert sorted(completed(generated, line)) == offered


@pytest.fixture(scope="module")
def scripts(generated: Path) -> dict[str, Path]:
    """A file with the script of each shell."""
    found = {"bash": generated}
    for shell in set(SHELLS) - set(found):
        found[shell] = generated.with_suffix(f".{shell}")
        found[shell].write_text(script(shell), encoding="utf-8")
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_told_all_commands_names_and_options_and_can_read_the_script(
    shell: str, scripts: dict[str, Path]
) -> None:
    words = re.split(r"[\s\"();|]+", scripts[shell].read_text(encoding="utf-8"))
    wanted = {*COMMANDS, *options("method"), *options("model"), "--sample", "--config-dir", "run.batch_size="}
    assert wanted <= set(words)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(scripts[shell])], check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_offers_what_there_is(scripts: dict[str, Path]) -> None:
    code = f"source {scripts['fish']}; complete -C 'dix esti'; complete -C 'dix run method=[gc,dix3_grads_r'"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["estimate", "method=[gc,dix3_grads_rect"]
