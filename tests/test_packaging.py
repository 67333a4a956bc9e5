"""What is installed: one import root, dependencies that say what they are for, and a wheel that works by itself."""

from __future__ import annotations

import ast
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.environments import ROOT, Environment, build, copy_sources, needs, stand_in

import dix
from dix.datasets import carriers
from dix.extras import MissingExtra, optional

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
#: Packages that Hydra finds by itself, as plugins: nobody imports them by name.
PLUGINS = {"hydra-joblib-launcher", "hydra-submitit-launcher"}
FOLDERS = ("metrics", "datasets", "baselines", "conf")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


#: Reads every installed package's list of files: asked once.
installed_modules = cache(importlib.metadata.packages_distributions)


def distributions(module: str) -> set[str]:
    """The installed distributions that a top-level module may come from."""
    return {canonicalize_name(name) for name in installed_modules().get(module, [module])}


def sources() -> Iterator[Path]:
    for folder in ("dix", *FOLDERS):
        yield from (ROOT / folder).rglob("*.py")


def imported(path: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Top-level modules that a file imports when it runs, and (module, extra) of those it asks `optional` for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in ast.walk(node)
    }
    plain: set[str] = set()
    asked: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            plain |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            plain.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "optional":
            module, extra = (ast.literal_eval(argument) for argument in node.args)
            asked.add((module.split(".")[0], extra))
    return plain - set(sys.stdlib_module_names) - {"dix"}, asked


def test_every_import_is_declared_and_every_dependency_is_imported() -> None:
    plain: set[str] = set()
    asked: set[tuple[str, str]] = set()
    for path in sources():
        more_plain, more_asked = imported(path)
        plain |= more_plain
        asked |= more_asked
    declared = names(PROJECT["dependencies"])
    assert {m for m in plain if not distributions(m) & declared} == set()
    assert declared - {name for module in plain for name in distributions(module)} == set()
    for module, extra in asked:
        assert distributions(module) & names(EXTRAS[extra]), f"{module} is not in the extra {extra}"
    unasked = {
        extra: names(EXTRAS[extra]) - {name for module, _ in asked for name in distributions(module)}
        for extra in ("cluster", "datasets", "bench", "embedded")
    }
    assert unasked["cluster"] == PLUGINS
    assert unasked["datasets"] == unasked["bench"] == set()
    assert unasked["embedded"] <= set(carriers.carriers())


def test_nothing_is_pinned_that_nobody_needs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [oracles] = re.findall(r"^ORACLES := (.*)$", makefile, re.MULTILINE)
    wanted = needs([*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)])
    wanted |= needs(name for name in oracles.split())
    pinned = [line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()]
    assert len(pinned) == len(set(pinned))
    assert {canonicalize_name(name) for name in pinned} - wanted == set()


def test_the_carriers_of_the_extra_are_those_of_the_list() -> None:
    pins = {str(Requirement(text)) for text in EXTRAS["embedded"] if "==" in text}
    assert pins <= {f"{name}=={version}" for name, version in carriers.carriers().items()}
    lines = [line for line in carriers.LIST.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", "")]
    assert len(lines) == len(carriers.carriers()) == 8
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_a_missing_optional_package_names_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"'no_such_package'.*pip install 'dix-bench\[datasets\]'"):
        optional("no_such_package.part", "datasets")


def test_what_an_optional_package_itself_lacks_is_not_blamed_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'") as error:
        optional("half_installed", "datasets")
    assert not isinstance(error.value, MissingExtra)


def test_installed_carriers_are_left_alone() -> None:
    assert carriers.install() == "\n".join(f"{n} {v}: was there" for n, v in carriers.carriers().items())


def test_carriers_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carriers, "missing", lambda: {"foolbox": "3.3.4"})
    with pytest.raises(ValueError, match=r"no folder .*nowhere: expected one that holds the carriers' wheels"):
        carriers.install(tmp_path / "nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"no pip.*ensurepip.*carriers\.txt"):
        carriers.install()


def test_public_names_are_there_and_none_hides_a_module() -> None:
    assert all(getattr(dix, name) is not None for name in dix.__all__)
    assert set(dix.__all__) <= set(dir(dix))
    modules = {module.name for module in pkgutil.iter_modules(dix.__path__)}
    assert "models" in modules
    assert modules & set(dix.__all__) == set()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dix.nothing


def test_importing_dix_loads_nothing_and_changes_nothing() -> None:
    code = """if True:
        import sys
        finders, modules = list(sys.meta_path), set(sys.modules)
        import dix
        assert sys.meta_path == finders
        strangers = {name.split(".")[0] for name in set(sys.modules) - modules} - set(sys.stdlib_module_names)
        assert strangers == {"dix"}, strangers
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return build(copy_sources(folder / "sources"), "wheel", folder / "dist")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_one_import_root_and_every_file(wheel: Path) -> None:
    files = contents(wheel)
    assert {name.split("/")[0] for name in files} == {"dix", f"dix_bench-{dix.__version__}.dist-info"}
    assert "dix/py.typed" in files
    expected = {
        Path("dix", path.relative_to(ROOT)).as_posix(): path.read_bytes()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected
    assert {name: files.get(name) for name in expected} == expected
    tracked = {p.relative_to(ROOT).as_posix() for p in (ROOT / "dix").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert tracked - set(files) == set()


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build(copy_sources(tmp_path / "sources"), "sdist", tmp_path / "dist")
    subprocess.run(["tar", "xzf", str(archive), "-C", str(tmp_path)], check=True)
    again = build(tmp_path / archive.name.removesuffix(".tar.gz"), "wheel", tmp_path / "again")
    assert contents(again) == contents(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that has the declared dependencies, a stranger called `datasets`, and the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    environment = Environment.create(folder / "environment")
    environment.link(needs(PROJECT["dependencies"]))
    stranger = stand_in(folder, "datasets", "def load_dataset(): return 'theirs'\n")
    environment.pip("install", "--no-index", str(stranger))
    environment.pip("install", "--no-index", str(wheel))
    return environment


@pytest.mark.slow
def test_the_wheel_runs_by_itself(installed: Environment, tmp_path: Path) -> None:
    refused = installed.run("-m", "dix.cli", "run", "experiment=smoke", cwd=tmp_path)
    assert refused.returncode == 1
    assert "`dix data prepare embedded` installs" in refused.stderr
    wheels = Path(sys.prefix) / "carriers"  # kept by `make setup`; elsewhere pip's registry is asked
    prepared = installed.run("-m", "dix.cli", "data", "prepare", "embedded", *_folder(wheels), cwd=tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    assert "foolbox 3.3.4: installed" in prepared.stdout
    dix_command = str(Path(installed.python).with_name("dix"))
    for words in (("run", "experiment=smoke"), ("report", "smoke")):
        result = installed.run(dix_command, *words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    lines = (tmp_path / "results" / "smoke" / "table.md").read_text(encoding="utf-8")
    assert all(f"efficientnet\\_lite0 | {metric}" in lines for metric in ("NEG", "POS", "INS", "DEL"))


def _folder(wheels: Path) -> list[str]:
    return [str(wheels)] if wheels.is_dir() else []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("run", "model=vit_small_embedded"), "embedded"),
        (("run", "-m", "hydra/launcher=slurm", "run.limit=1,2"), "cluster"),
        (("run", "-m", "hydra/launcher=joblib_local", "run.limit=1,2"), "cluster"),
        (("bench", "libraries", "model.weights=random", "method=[fg]", "--batch=1"), "bench"),
    ],
)
def test_without_an_extra_the_message_names_it(
    installed: Environment, tmp_path: Path, words: tuple[str, ...], extra: str
) -> None:
    result = installed.run("-m", "dix.cli", *words, cwd=tmp_path)
    assert result.returncode == 1
    assert f"pip install 'dix-bench[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_it_lives_beside_a_package_called_datasets(installed: Environment, wheel: Path, tmp_path: Path) -> None:
    """In both orders, from the checkout's root too, and uninstalling one leaves the other whole."""
    stranger = stand_in(tmp_path, "datasets", "def load_dataset(): return 'theirs'\n")

    def theirs(cwd: Path) -> str:
        return installed.run("-c", "import datasets; print(datasets.load_dataset())", cwd=cwd).stdout.strip()

    def ours() -> int:
        return installed.run("-m", "dix.cli", "list", "dataset", cwd=tmp_path).returncode

    assert theirs(tmp_path) == theirs(ROOT) == "theirs"
    installed.pip("uninstall", "--yes", "dix-bench")
    assert (theirs(tmp_path), ours()) == ("theirs", 1)
    installed.pip("install", "--no-index", str(wheel))
    installed.pip("uninstall", "--yes", "datasets")
    assert (theirs(tmp_path), ours()) == ("", 0)
    installed.pip("install", "--no-index", str(stranger))
    assert (theirs(tmp_path), ours()) == ("theirs", 0)
