"""Who may import whom, and that nothing of this machine is in the tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("dix", "metrics", "baselines", "datasets", "conf")
#: By package: the packages of ours that it may import.
ALLOWED = {
    "metrics": {"metrics"},
    "datasets": {"datasets"},
    "baselines": {"baselines", "dix"},
    "conf": set(),
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in OURS}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in modules(package):
        strangers = {name for name in ours(path) if name.split(".")[0] not in ALLOWED[package]}
        assert not strangers, f"{path.relative_to(ROOT)} imports {sorted(strangers)}"


def test_baselines_do_not_know_the_engine() -> None:
    for path in modules("baselines"):
        assert not {name for name in imports(path) if name.startswith(("dix.bench", "dix.cli"))}, path.name


def test_the_core_knows_neither_engine_nor_methods_nor_metrics() -> None:
    for path in [*(ROOT / "dix").glob("*.py"), *modules("dix/models")]:
        assert not {n for n in ours(path) if not n.startswith("dix") or n.startswith(("dix.bench", "dix.cli"))}, (
            path.name
        )


def test_the_engine_names_no_concrete_method_metric_data_set_or_model() -> None:
    abstract = {
        "metrics.api", "metrics.derived", "datasets.api", "datasets.loader", "datasets.preprocess", "datasets.subset",
    }  # fmt: skip
    for path in modules("dix/bench"):
        concrete = {
            name
            for name in ours(path)
            if name.split(".")[0] in ("metrics", "datasets", "baselines") and name not in abstract
        }
        assert not concrete, f"{path.name} imports {sorted(concrete)}"
        assert not {name for name in ours(path) if name.startswith(("dix.models", "dix.cli"))}, path.name


def test_only_the_command_line_and_the_schema_know_hydra() -> None:
    for package in ("dix", "metrics", "baselines", "datasets"):
        for path in modules(package):
            knows = {name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")}
            assert not knows or "cli" in path.parts or path.name == "schema.py", path


def test_no_chains_of_comparisons_with_method_names() -> None:
    """A method is chosen by its `_target_`, never by its name in code."""
    names = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")} - {"random", "center", "ones", "edges"}
    for package in ("dix", "baselines"):
        for path in modules(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Compare):
                    compared = {
                        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                    }
                    assert not compared & names, f"{path.name}:{node.lineno} compares with {compared & names}"
