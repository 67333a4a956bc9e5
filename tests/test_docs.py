"""Documents stay true: the commands they show exist, and the method that README adds runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dix.cli import parser_of
from dix.cli.config import composed
from dix.cli.options import overrides_of

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, document: Path) -> list[str]:
    """The contents of all code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def commands(program: str) -> list[tuple[str, str]]:
    """(document, command line) of every command with that program in a bash block, without comments."""
    found = []
    for document in DOCUMENTS:
        for block in blocks("bash", document):
            joined = block.replace("\\\n", " ")
            lines = [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]
            found += [(document.name, line) for line in lines if line.split(" ")[0] == program]
    return found


@pytest.mark.parametrize(("document", "line"), commands("make"))
def test_make_targets_exist(document: str, line: str) -> None:
    words = shlex.split(line)
    result = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{document}: {line}: {result.stderr}"


@pytest.mark.parametrize(("document", "line"), commands("dix"))
def test_dix_commands_parse_and_compose(document: str, line: str, tmp_path: Path) -> None:
    words = shlex.split(line)[1:]
    if "my_conf" in words:
        pytest.skip("runs for real below")
    options = parser_of(words[:1]).parse_args(words)
    if options.command == "run":
        assert composed(overrides_of(options)).run.name


def test_readmes_own_method_holds_its_contract_and_runs(tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    [code] = [block for block in blocks("python", readme) if "class MyMethod" in block]
    [config] = [block for block in blocks("yaml", readme) if "mine:" in block]
    (tmp_path / "my_package.py").write_text(f"from dataclasses import dataclass\n\n{code}")
    folder = tmp_path / "my_conf" / "method"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(config)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    dix = [sys.executable, "-m", "dix.cli"]
    check = [*dix, "check", "method=[mine]", "--config-dir", "my_conf"]
    result = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    run = [*dix, "run", "method=[mine]", "metric=[neg]", "run.limit=2", "run.workers=0", "--config-dir", "my_conf"]
    result = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 new rows" in result.stdout


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
