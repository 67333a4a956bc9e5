"""Packages with parts of their own: found by an entry point, named where broken, trusted as what is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from support.environments import build

from dix.cli.plugins import look

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "sunny-maps"
version = "1"

[project.entry-points."dix.plugins"]
sunny = "sunny_maps"
broken = "no_such_package"
heavy = "heavy_maps"

[tool.setuptools]
packages = ["sunny_maps", "heavy_maps"]

[tool.setuptools.package-data]
"*" = ["conf/**/*.yaml"]
"""
CODE = '''
from dataclasses import dataclass


@dataclass(frozen=True)
class Sunny:
    """Bright pixels count."""

    label: str = "Sunny"
    extra: bool = True

    def unsupported(self, classifier):
        return ""

    def explain(self, passes):
        return passes.images.mean(dim=1)
'''
#: What stays silent: the other plug-in's package is never imported.
HEAVY = "raise SystemExit('imported by somebody who did not ask for it')\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the plug-ins, from a wheel."""
    sources = tmp_path_factory.mktemp("sources")
    for package, code, name in (("sunny_maps", CODE, "sunny"), ("heavy_maps", HEAVY, "heavy")):
        (sources / package / "conf" / "method").mkdir(parents=True)
        (sources / package / "__init__.py").write_text(code, encoding="utf-8")
        yaml = f"# {name}: of a package\n{name}:\n  _target_: {package}.{name.capitalize()}\n"
        (sources / package / "conf" / "method" / f"{name}.yaml").write_text(yaml, encoding="utf-8")
    (sources / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    installed = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(build(sources, "wheel", tmp_path_factory.mktemp("wheels"))) as wheel:
        wheel.extractall(installed)
    return installed


def dix(*words: str, site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("dix")
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([script, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_packages_method_is_run_reported_and_verified_by_its_name(site: Path, tmp_path: Path) -> None:
    words = ["model=lenet5", "dataset=mnist", "method=[gc,sunny]", "metric=[ins]", "run.limit=2", "run.workers=0"]
    done = dix("run", *words, site=site, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    broken = "dix: plug-in 'broken' is left out: no package 'no_such_package' is installed"
    assert done.stderr.splitlines().count(broken) == 1
    verified = dix("verify", "run", "--sample", "4", site=site, folder=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "4 of 4 rows are the same" in verified.stdout
    without = dix("verify", "run", "--sample", "4", site=tmp_path, folder=tmp_path)
    assert "sunny_maps.Sunny is no method of this suite's" in without.stderr


def test_a_package_that_cannot_be_imported_fails_where_it_is_chosen(site: Path, tmp_path: Path) -> None:
    listed = dix("list", "method", site=site, folder=tmp_path)
    assert listed.returncode == 0
    assert "sunny: of a package" in listed.stdout
    chosen = dix("run", "model=lenet5", "dataset=mnist", "method=[heavy]", site=site, folder=tmp_path)
    assert chosen.returncode == 1
    assert "method.heavy: heavy_maps.Heavy: heavy_maps cannot be imported" in chosen.stderr
    assert "Traceback" not in chosen.stderr


@pytest.mark.parametrize(
    ("value", "files", "problem"),
    [
        ("plugged", ["method/mine.yaml"], ""),
        ("plugged.inner", ["method/mine.yaml"], ""),
        ("plugged.module", ["method/mine.yaml"], ""),
        ("plugged:attribute", [], "expected its entry point to be the dotted name of a package"),
        ("plugged.absent", [], "no package 'plugged.absent' is installed"),
        ("plugged", [], "has no folder"),
        ("plugged", ["methods/mine.yaml"], "holds no file such as method/NAME.yaml"),
        ("plugged", ["method/gc.yaml"], "its method 'gc' needs another name: this suite has its own"),
    ],
)
def test_a_broken_plug_in_is_named_and_left_out(
    value: str, files: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugged" / "inner").mkdir(parents=True)
    (tmp_path / "plugged" / "module.py").touch()
    conf = tmp_path / "plugged" / ("inner/conf" if value.endswith("inner") else "conf")
    for name in files:
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        (conf / name).write_text("mine: {_target_: plugged.Mine}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = look([EntryPoint("mine", value, "dix.plugins")])
    assert [plugin.folder for plugin in found.plugins] == ([] if problem else [conf])
    assert len(found.problems) == bool(problem)
    assert all(one.startswith("plug-in 'mine' is left out: ") and problem in one for one in found.problems)


def test_of_two_plug_ins_with_one_name_the_second_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / f"plugged_{name}" / "conf" / "metric").mkdir(parents=True)
        (tmp_path / f"plugged_{name}" / "conf" / "metric" / "mine.yaml").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = look([EntryPoint(name, f"plugged_{name}", "dix.plugins") for name in ("two", "one")])
    assert [plugin.name for plugin in found.plugins] == ["one"]
    assert found.problems == (
        "plug-in 'two' is left out: its metric 'mine' needs another name: plug-in 'one' has its own",
    )
