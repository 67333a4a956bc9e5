"""Completion in bash: the generated script, asked as the shell asks it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dix.cli.completion import script

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
    ],
)  # fmt: skip
def test_the_tab_key_offers_what_there_is(generated: Path, line: str, offered: list[str]) -> None:
    (generated.parent / "results" / "own").mkdir(parents=True, exist_ok=True)
    assert sorted(completed(generated, line)) == offered
