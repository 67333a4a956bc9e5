"""Documents stay true: the commands that they show run to their end, and so does the method that README adds."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dix.datasets.packages import package_file

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


#: Words that make a command of the documents small enough for a test; most of them add to every `dix run`.
SMALL = "run.limit=1 run.workers=0 run.threads=1"
TINY = f"{SMALL} method=[gc] metric=[neg]"
ON_PHOTOS = f"{TINY} model=efficientnet_lite0 dataset=photos"
SHARDED = "run.batch_size=1 run.workers=0 model=efficientnet_lite0 dataset=photos method=[gc]"
ADDED = {
    "dix run -m": TINY,
    "dix run experiment=table1 hydra/launcher=slurm ": f"run.limit=4 {SHARDED} metric=[neg]",
    "dix run experiment=table1 hydra/launcher=slurm_cpu ": f"run.limit=2 {SHARDED}",
    "dix run model=efficientnet_lite0 method=[gc,ig,dix3]": f"{SMALL} method.ig.steps=5",
    "dix run": SMALL,
    "dix tables table1 model.weights=random": ON_PHOTOS,
    "dix estimate experiment=embedded": TINY,
    "dix estimate experiment=table1": f"{TINY} model=efficientnet_lite0",
    "dix figures figure1 model=": "method=[gc]",
    "dix figures figure1": "model.weights=random",
}
#: What a person would have done before, by the beginning of a command.
BEFORE = {
    "dix merge laptop cluster": [
        f"dix run run.name={name} {SMALL} method=[gc] metric=[{metric}]"
        for name, metric in (("laptop", "neg"), ("cluster", "pos"))
    ],
    "dix tables table3 --report": [f"dix run -m experiment=table3 {ON_PHOTOS}"],
    "dix verify embedded": [f"dix run experiment=embedded {TINY}"],
}
#: Commands that end with 1 here and say what is missing, since ImageNet or a table's other models are.
WITHOUT_DATA = {
    "dix data check imagenet": "dix data check imagenet",
    "dix figures figure1": "DIX_DATA",
    "dix tables table1 model.weights=random": "missing: everything of resnet101 on imagenet",
    "dix tables table3 --report": "missing: everything of resnet101 on imagenet_seg",
}
#: Runs each command of its standard input in one process, and tells of each in one line of JSON.
RUNNER = """if True:
    import contextlib, io, json, shlex, sys
    from dix.cli import main
    for line in sys.stdin.read().splitlines():
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main(shlex.split(line)[1:])
        print(json.dumps({"line": line, "code": code, "said": out.getvalue()}), flush=True)
"""


def made_small(line: str) -> list[str]:
    """A command as the test runs it, after those that it needs."""
    added = next((words for start, words in ADDED.items() if line.startswith(start)), "")
    local = re.sub(r"hydra/launcher=slurm\w*", "hydra/launcher=local", line)  # SLURM has a test of its own
    before = next((lines for start, lines in BEFORE.items() if line.startswith(start)), [])
    return [*before, f"{local} {added}".strip()]


def in_one_process(lines: list[str], folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """What became of each command, in their order: its line, its exit code, and what it said."""
    result = subprocess.run(
        [sys.executable, "-c", RUNNER], input="\n".join(lines),
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"line": ')]  # others: joblib's


@pytest.mark.parametrize("document", sorted({name for name, _ in commands("dix")}))
def test_what_a_document_shows_runs_to_its_end(document: str, tmp_path: Path) -> None:
    """All its commands in their order, in one folder with a few photos of one's own, without ImageNet."""
    photos = [package_file("foolbox", "data", f"imagenet_{name}.jpg") for name in ("16_251", "00_243")]
    (tmp_path / "photos").mkdir()
    for photo, name in zip(photos, ("dog.jpg", "cat.jpg"), strict=True):
        shutil.copy(photo, tmp_path / name)
        shutil.copy(photo, tmp_path / "photos" / name)
    lines = [line for name, line in commands("dix") if name == document and "my_conf" not in line]
    environment = {key: value for key, value in os.environ.items() if key != "DIX_DATA"}
    told = in_one_process([small for line in lines for small in made_small(line)], tmp_path, environment)
    ran = {one["line"]: one for one in told}
    for line in lines:
        *before, itself = (ran[small] for small in made_small(line))
        assert [one["said"] for one in before if one["code"]] == [], f"{document}: before {line}"
        missing = WITHOUT_DATA.get(line)
        assert itself["code"] == (1 if missing else 0), f"{document}: {line}: {itself['said']}"
        assert not missing or missing in itself["said"]


def test_readmes_own_method_holds_its_contract_and_runs(tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    [code] = [block for block in blocks("python", readme) if "class MyMethod" in block]
    [config] = [block for block in blocks("yaml", readme) if "mine:" in block]
    (tmp_path / "my_package.py").write_text(f"from dataclasses import dataclass\n\n{code}")
    folder = tmp_path / "my_conf" / "method"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(config)
    lines = [
        "dix check method=[mine] --config-dir my_conf",
        "dix run method=[mine] metric=[neg] run.limit=2 run.workers=0 --config-dir my_conf",
    ]
    checked, ran = in_one_process(lines, tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert checked["code"] == 0, checked["said"]
    assert ran["code"] == 0, ran["said"]
    assert "2 new rows" in ran["said"]


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*DOCUMENTS, *sorted((ROOT / "docs").glob("*/*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_map_of_the_rooms_names_what_exists() -> None:
    """Dotted names of architecture.md are modules or attributes of modules; its paths are files or folders."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    dotted = set(re.findall(r"`(dix(?:\.\w+)+)`", text))
    paths = set(re.findall(r"`([\w.]+/[\w./]*)`", text)) - {"../metrics"}
    assert len(dotted) > 20
    assert len(paths) > 10
    assert [name for name in sorted(dotted) if not _exists(name)] == []
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    rooms = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dix").rglob("*/") if path.is_dir()}
    shown = {room for room in rooms if not {"__pycache__", "templates", "paper"} & set(room.split("/"))} - {"dix/bench"}
    assert {room for room in shown if f"{room.removeprefix('dix/')}/" not in text} == set()


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    module, _, last = name.rpartition(".")
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is not there, or is no package
        return importlib.util.find_spec(module) is not None and hasattr(importlib.import_module(module), last)
