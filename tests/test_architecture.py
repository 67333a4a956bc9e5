"""Who may import whom, and that nothing of this machine is in the tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: By room, the rooms that its modules may import besides their own; a room's name is the longest prefix that fits.
ALLOWED = {
    "dix.metrics": set(),
    "dix.files": set(),
    "dix.extras": set(),
    "dix.datasets": {"dix.files", "dix.extras"},
    "dix.baselines": {"dix", "dix.extras"},
    "dix": {"dix.models", "dix.files"},
    "dix.models": {"dix", "dix.files", "dix.extras"},
    "dix.bench": set(),
    "dix.bench.store": {"dix.files"},
    "dix.bench.run": {"dix", "dix.files", "dix.bench.store", "dix.bench.tables", "dix.metrics", "dix.datasets"},
    "dix.bench.tables": {"dix.bench.store", "dix.metrics"},
    "dix.bench.report": {"dix", "dix.files", "dix.bench.store", "dix.bench.tables"},
    "dix.bench.share": {
        "dix", "dix.files", "dix.datasets", "dix.bench.store", "dix.bench.tables", "dix.bench.report",
    },
    "dix.bench.view": {"dix", "dix.bench.store"},
    "dix.bench.sanity": {
        "dix", "dix.files", "dix.bench.store", "dix.bench.run", "dix.bench.tables", "dix.bench.report",
        "dix.metrics", "dix.datasets",
    },
    "dix.bench.validate": {
        "dix", "dix.files", "dix.bench.store", "dix.bench.run", "dix.bench.tables", "dix.bench.sanity", "dix.metrics",
    },
}  # fmt: skip
#: The modules of these packages that name no concrete metric or data set, which is all that the engine may know.
ABSTRACT = {
    "dix.metrics": {"answers", "api", "axis", "derived"},
    "dix.datasets": {"api", "loader", "preprocess", "subset", "unpack"},
}
#: Top-level folders that are rooms of `dix`.
FOLDERS = ("metrics", "datasets", "baselines")


def modules() -> dict[str, Path]:
    """Every module by its dotted name, links to top-level folders followed."""
    paths = [*(ROOT / "dix").rglob("*.py")]
    for folder in FOLDERS:
        paths += [ROOT / "dix" / path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py")]
    found = {}
    for path in paths:
        words = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, anywhere in it; of a package's modules, the modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


def room_of(module: str) -> str:
    """The room that a module lies in."""
    rooms = {*ALLOWED, "dix.cli", "dix.api"}
    parents = [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]
    return next(parent for parent in parents if parent in rooms)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "dix"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_what_they_may(room: str) -> None:
    # `dix` itself offers the public names of all rooms, each imported when it is asked for.
    inside = {name: path for name, path in MODULES.items() if room_of(name) == room and name != "dix"}
    assert inside, f"no module lies in {room}"
    for name, path in inside.items():
        strangers = {other for other in ours(path) if room_of(other) not in {room, *ALLOWED[room]}}
        assert not strangers, f"{name} imports {sorted(strangers)}"


def test_nobody_imports_by_the_name_of_a_top_level_folder() -> None:
    for path in [*MODULES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        assert not {n for n in imports(path) if n.split(".")[0] in (*FOLDERS, "conf")}, path


def test_the_engine_names_no_concrete_method_metric_data_set_or_model() -> None:
    for name, path in MODULES.items():
        if name.startswith("dix.bench"):
            for package, abstract in ABSTRACT.items():
                concrete = {n for n in ours(path) if n.startswith(f"{package}.")} - {f"{package}.{n}" for n in abstract}
                assert not concrete, f"{name} imports {sorted(concrete)}"


def test_only_the_command_line_knows_hydra() -> None:
    for name, path in MODULES.items():
        knows = {n for n in imports(path) if n.split(".")[0] in ("hydra", "omegaconf")}
        assert not knows or room_of(name) == "dix.cli", name


def test_no_chains_of_comparisons_with_method_names() -> None:
    """A method is chosen by its `_target_`, never by its name in code."""
    names = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")} - {"random", "center", "ones", "edges"}
    for module, path in MODULES.items():
        if module.startswith("dix.metrics."):
            continue  # metrics know no method; a schedule of theirs bears the name of one
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                compared = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not compared & names, f"{module}:{node.lineno} compares with {compared & names}"
