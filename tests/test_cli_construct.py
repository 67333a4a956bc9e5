"""Configuration becomes objects: every mistake gets one message that names the key, and nothing is called before."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from dix.baselines.cam import GradCam
from dix.cli.arguments import fits, told
from dix.cli.construct import build

GC = {"_target_": "dix.baselines.cam.GradCam", "label": "GC", "layer": "last"}


def made(node: Any, kind: str = "method", key: str = "method.gc") -> Any:
    return build(OmegaConf.create(node), kind, key)


def test_a_node_becomes_the_object_that_it_describes() -> None:
    assert made(GC) == GradCam(label="GC", layer="last")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lyer": "last"}, "method.gc.lyer: GradCam has no such setting; did you mean 'layer'?"),
        ({"zzz": 1}, "method.gc.zzz: GradCam has no such setting; it has "),
        ({"_args_": ["x"]}, "method.gc._args_: GradCam has no such setting"),
        ({"_partial_": True}, "method.gc._partial_: GradCam has no such setting"),
        ({"_recursive_": False}, "method.gc._recursive_: GradCam has no such setting"),
        ({"label": 3}, "method.gc.label: expected a text, got 3"),
        ({"label": None}, "method.gc.label: expected a text, got None"),
        ({"_target_": "dix.explainer.Dix", "layer": "last"}, "method.gc.layer: Dix has no such setting"),
        ({"_target_": "os"}, "expected _target_ to be a dotted name such as my_package.MyMethod, got 'os'"),
        ({"_target_": "os.path"}, "method.gc: os.path is neither a class nor a function"),
        ({"_target_": "my_package.MyMethod"}, "No module named 'my_package'"),
        ({"_target_": "dix.baselines.cams.GradCam"}, "dix.baselines has no 'cams'; did you mean 'cam'?"),
        ({"_target_": "dix.baselines.cam.GradCan"}, "dix.baselines.cam has no 'GradCan'; did you mean 'GradCam'?"),
        ({"_target_": "dix.bench.store.rows.Path"}, "is pathlib.Path, which is not this suite's"),
        ({"_target_": "dix.cli.run.os.system"}, "which is not this suite's"),
        ({"_target_": "dix.metrics.shape.Sparseness"}, "method.gc.layer: Sparseness has no such setting"),
    ],
)
def test_mistakes_are_named_by_their_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        made({**GC, **change})
    assert str(caught.value).startswith("method.gc")


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ValueError, match=r"dataset\.root: .*set it, as in dataset\.root=VALUE"):
        build(
            OmegaConf.create({"dataset": {"_target_": "dix.datasets.folder.Folder", "root": "???"}}).dataset,
            "dataset",
            "dataset",
        )
    with pytest.raises(ValueError, match=r"model\.name: lenet5 needs it"):
        made({"_target_": "dix.models.zoo.lenet5", "layers": {}}, "model", "model")


@pytest.mark.parametrize(
    ("target", "kind", "lacks"),
    [
        ("dix.metrics.shape.Sparseness", "method", "explain, extra|explain, unsupported"),
        ("dix.baselines.controls.Ones", "metric", "higher_is_better"),
        ("dix.baselines.controls.Ones", "dataset", "fingerprint"),
        ("builtins.dict", "model", "layer"),
        ("builtins.dict", "method", "explain"),
    ],
)
def test_what_comes_out_must_be_of_the_kind(target: str, kind: str, lacks: str) -> None:
    with pytest.raises(ValueError, match=f"is no {kind}: it lacks .*(?:{lacks})"):
        made({"_target_": target}, kind, kind)


def test_a_value_error_of_a_part_is_its_own_message() -> None:
    with pytest.raises(ValueError, match=r"^method.gc: depth: expected 1, 2 or 3"):
        made({"_target_": "dix.explainer.Dix", "label": "D", "depth": 9})


def test_own_modules_come_from_the_current_folder_behind_everything_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "own_parts_here.py").write_text("from dix.baselines.controls import Ones\nimport numpy\n")
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    assert made(GC)
    assert str(tmp_path) not in sys.path, "a part of this suite needs no folder"
    assert type(made({"_target_": "own_parts_here.Ones"})).__name__ == "Ones"
    assert sys.path[-1] == str(tmp_path)
    monkeypatch.delitem(sys.modules, "own_parts_here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import not_installed_anywhere", "own_broken cannot be imported: No module named 'not_installed_anywhere'"),
        ("x = 1 / 0", "own_broken cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:", "own_broken cannot be imported: SyntaxError: "),
    ],
)
def test_a_module_that_breaks_says_why(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_broken.py").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        made({"_target_": "own_broken.Mine"})


def test_nested_nodes_are_made_first_and_checked_alike() -> None:
    nested = {"_target_": "builtins.str", "object": "last"}
    assert made({**GC, "layer": nested}) == GradCam(label="GC", layer="last")
    wrong = {"_target_": "dix.baselines.controls.Ones", "x": 1}
    with pytest.raises(ValueError, match=r"method\.gc\.layer\.x: Ones has no such setting"):
        made({**GC, "layer": wrong})


@pytest.mark.parametrize(
    ("value", "wanted", "right"),
    [
        (1, int, True), (1.5, int, False), (True, int, False), ("1", int, False), (1, float, True), (1.5, float, True),
        (True, float, False), (True, bool, True), (1, bool, False), ("a", str, True), (1, str, False),
        (None, int | None, True), (1, int | None, True), ("a", int | None, False), ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False), ([1], list[int], True), ([1], tuple[int, ...], True),
        ("ab", Sequence[str], False),
        ({}, Mapping[str, str], True), ([], dict, False), ("anything", object, True), ({"_target_": "x"}, int, True),
        ("x", Path, True),
    ],
)  # fmt: skip
def test_types_that_yaml_can_write(value: Any, wanted: Any, right: bool) -> None:
    assert fits(value, wanted) is right


def test_types_are_told_to_people() -> None:
    assert told(int | None) == "an integer or null"
    assert told(Literal["a", "b"]) == "one of a, b"
    assert told(Sequence[float]) == "a list of numbers"


@pytest.mark.parametrize("target", ["leaving.leave", "leaving_at_once.anything"])
def test_a_part_that_ends_the_process_fails_by_name(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text("def leave():\n    raise SystemExit(0)\n")
    (tmp_path / "leaving_at_once.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"method\.gc: .*it asked for the end of the process: SystemExit\(0\)"):
        made({"_target_": target})
