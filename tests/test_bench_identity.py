"""What names a stored row's numbers: the code and its parameters, not where the code lies."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import engine_jobs as parts

from dix.bench.run.evaluate import evaluate
from dix.bench.store.errors import StaleResults
from dix.bench.store.results import ResultStore
from dix.cli.config import composed, options
from dix.cli.construct import many
from dix.datasets import coco, folder, imagenet, imagenet_seg, mnist, mosaic, photos, voc
from dix.identity import describe, path_of, version

METHOD = """
    from dataclasses import dataclass
    from typing import ClassVar
    import torch

    POWER = 1

    def powered(images):
        return images.mean(dim=1) ** POWER

    @dataclass(frozen=True)
    class Mine:
        label: str = "Mine"
        extra: bool = True
        scale: float = 1.0

        def unsupported(self, classifier):
            return ""

        def explain(self, passes):
            return self.scale * powered(passes.images)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``write(name, code)`` imports the code as a module of that name; the same name again is the code edited."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def import_(name: str, code: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            module = importlib.import_module(name)
        finally:
            sys.dont_write_bytecode = before
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return import_


def run(folder: Path, method: Any) -> int:
    """New rows of a job with one method."""
    return evaluate(parts.job(methods={"mine": method}), ResultStore(folder)).rows


def test_a_class_that_moves_leaves_a_results_folder_valid(tmp_path: Path, write: Any) -> None:
    before = write("here", METHOD).Mine()
    assert run(tmp_path / "r", before) == 8 * 4
    after = write("elsewhere", METHOD).Mine()
    assert path_of(before) != path_of(after)
    assert run(tmp_path / "r", after) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.scale * powered", "self.scale + powered"),  # the class itself
        ("** POWER", "** POWER + 1"),  # a function of its module
        ("POWER = 1", "POWER = 2"),  # a constant that the function reads
    ],
)
def test_an_own_class_that_is_edited_is_not_mixed_with_its_old_rows(
    old: str, new: str, tmp_path: Path, write: Any
) -> None:
    run(tmp_path / "r", write("here", METHOD).Mine())
    assert old in METHOD
    with pytest.raises(StaleResults, match=r"method\.version"):
        run(tmp_path / "r", write("here", METHOD.replace(old, new)).Mine())


def test_comments_and_neighbours_are_no_edit(write: Any) -> None:
    plain = version(write("here", METHOD).Mine)
    commented = METHOD.replace("            return self", "            # a remark\n            return self")
    assert version(write("here", commented).Mine) == plain
    assert version(write("here", METHOD + "\n\n    def unused():\n        return 3\n").Mine) == plain


def test_a_declared_version_says_when_numbers_change(tmp_path: Path, write: Any) -> None:
    declared = METHOD.replace('label: str = "Mine"', 'version: ClassVar[int] = 1\n        label: str = "Mine"')
    run(tmp_path / "r", write("here", declared).Mine())
    assert run(tmp_path / "r", write("here", declared.replace("** POWER", "+ 0")).Mine()) == 0
    with pytest.raises(StaleResults, match=r"method\.version: stored 1, wanted 2"):
        run(tmp_path / "r", write("here", declared.replace("[int] = 1", "[int] = 2")).Mine())


def test_a_subclass_does_not_inherit_the_version_of_another_classes_numbers(write: Any) -> None:
    declared = METHOD.replace('label: str = "Mine"', 'version: ClassVar[int] = 1\n        label: str = "Mine"')
    child = "\n\n    class Child(Mine):\n        def unsupported(self, classifier):\n            return str(1)\n"
    first = version(write("here", declared + child).Child)
    assert version(write("here", declared + child.replace("str(1)", "str(2)")).Child) != first
    assert version(write("here", (declared + child).replace("[int] = 1", "[int] = 2")).Child) != first


def test_a_field_called_version_is_told_from_the_class(write: Any) -> None:
    fielded = METHOD.replace("scale: float = 1.0", "scale: float = 1.0\n        version: int = 7")
    described = describe(write("here", fielded).Mine())
    assert described["field version"] == 7
    assert isinstance(described["version"], str)


def test_a_class_without_source_is_known_by_its_compiled_code() -> None:
    def made(body: str) -> type:
        names: dict[str, Any] = {}
        exec(f"class Typed:\n    def explain(self):\n        return {body}", names)
        kind: type = names["Typed"]
        return kind

    assert version(made("1 + self")) == version(made("1 + self"))
    assert version(made("1 + self")) != version(made("2 + self"))


def parts_of(thing: Any) -> Iterator[type]:
    """The classes of an object and of everything that it is described by."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield type(thing)
        for field in dataclasses.fields(thing):
            yield from parts_of(getattr(thing, field.name))
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from parts_of(value)


@pytest.mark.parametrize("group", ["method", "metric"])
def test_everything_that_this_project_ships_declares_its_version(group: str) -> None:
    for option in options(group):
        for thing in many(composed([f"{group}=[{option}]"])[group], group).values():
            kinds = {*parts_of(thing), *parts_of(getattr(thing, "probe", None))}
            assert kinds
            undeclared = [kind for kind in kinds if not isinstance(vars(kind).get("version"), int)]
            assert not undeclared, f"{option}: {undeclared}"


@pytest.mark.parametrize(
    "reader",
    [
        coco.Coco,
        folder.Folder,
        imagenet.ImageNet,
        imagenet_seg.ImageNetSeg,
        mnist.Mnist,
        mosaic.Mosaic,
        photos.Photos,
        voc.Voc,
    ],
)
def test_readers_declare_their_version(reader: type) -> None:
    assert isinstance(vars(reader).get("version"), int)


def test_no_identity_holds_a_python_path() -> None:
    [*cells] = parts.job().cells().values()
    text = str([cell.identity for cell in cells])
    assert "dix." not in text
    assert "support." not in text
