"""What `import dix` offers: the examples as documented, the same rows as the command line, and messages for people."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support import grey_shapes
from torch import nn

import dix
from dix.baselines.cam import GradCam
from dix.bench.store.results import ResultStore
from dix.datasets.folder import Folder
from dix.passes import Passes

ROOT = Path(__file__).resolve().parent.parent
PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user with a network and pictures of their own."""
    grey_shapes.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    sys.modules.pop("my_networks", None)
    return tmp_path


def grey() -> nn.Module:
    """The user's network."""
    return importlib.import_module("my_networks").GreyNet()  # type: ignore[no-any-return]


def wrapped(**changes: Any) -> dix.Classifier:
    return dix.wrap(grey(), **{"classes": ["disc", "ring", "bar"], "mean": 0.5, "std": 0.25, "size": 64, **changes})


def statements(code: str) -> int:
    """Lines of code: not empty, no comment."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in code.splitlines())


def test_public_names_are_offered_lazily_and_none_is_a_submodules() -> None:
    names = ["explain", "wrap", "benchmark", "load_results", "Dix", "Explainer", "Metric", "Dataset", "Classifier"]
    assert set(names) == set(dix.__all__) - {"__version__"}
    assert not {module.name for module in pkgutil.iter_modules(dix.__path__)} & set(dix.__all__)
    code = f"import dix, sys; assert 'torch' not in sys.modules; [getattr(dix, n) for n in {names}]"
    check = "; import dix.cli.explain; assert callable(dix.explain) and callable(dix.benchmark) and callable(dix.wrap)"
    subprocess.run([sys.executable, "-c", code + check], check=True)


@pytest.mark.parametrize("module", ["dix.api.explaining", "dix.api.benchmarking", "dix.models.wrap"])
def test_the_examples_of_the_docstrings(module: str, tmp_path: Path) -> None:
    given = {"folder": str(tmp_path / "results")}
    found = doctest.testmod(importlib.import_module(module), extraglobs=given, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 3
    assert found.failed == 0


@pytest.mark.parametrize(("place", "most"), [(0, 8), (1, 15)], ids=["explained", "benchmarked"])
def test_the_documented_examples_run_and_are_short(
    place: int, most: int, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = PYTHON[place]
    assert statements(code) <= most
    exec(compile(code, "docs/python.md", "exec"), {})
    if place == 0:
        assert "one column" not in (said := capsys.readouterr().out)
        assert "3 classes (disc, ring, bar)" in said
        assert "grey input" in said
        assert "features.2: 24 channels on 8 x 8 places, channels first" in said
        assert len(list((work / "maps").glob("*-ring-DIX3.png"))) == 2
    else:
        assert {"gc", "ig", "dix3", "random"} <= set(ResultStore(work / "results" / "own").rows()["method"])
        assert (work / "ins.png").stat().st_size > 5000


def test_python_and_the_command_line_store_the_same_rows(work: Path) -> None:
    (work / "conf" / "model").mkdir(parents=True)
    (work / "conf" / "model" / "grey.yaml").write_text(
        "_target_: dix.models.wrap.network\nname: GreyNet\nmodule: my_networks.GreyNet\nclasses: [disc, ring, bar]\n"
        "mean: 0.5\nstd: 0.25\ninput_size: 64\n"
    )
    words = ["run", "model=grey", "method=[gc,dix2]", "metric=[ins,ap_object]", "dataset=folder", "dataset.root=shapes"]
    script = [str(Path(sys.executable).with_name("dix")), *words, "--config-dir", "conf", "run.name=line"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = dix.benchmark(wrapped(), ["gc", "dix2"], ["ins", "ap_object"], "shapes", out="results/objects")
    names = dix.benchmark(
        "grey", ["gc", "dix2"], ["ins", "ap_object"], Path("shapes"), out="results/names", config_dir="conf"
    )
    line = ResultStore(work / "results" / "line").rows()
    assert len(line) == 8
    for other in (objects, names):
        pd.testing.assert_frame_equal(line, ResultStore(other.folder).rows(), check_exact=True)
    assert (
        dix.benchmark(wrapped(), ["gc", "dix2"], ["ins", "ap_object"], "shapes", out="results/line").folder.name
        == "line"
    )
    assert len(ResultStore(work / "results" / "line").rows()) == 8, "nothing is computed twice"


def test_results_are_tidy_and_their_numbers_agree(work: Path) -> None:
    dix.benchmark(wrapped(), ["gc", "random"], ["ins"], Folder(root="shapes"), out="results/own", progress=False)
    results = dix.load_results("own")
    frame = results.frame()
    assert list(frame.columns) == [
        "model",
        "dataset",
        "method",
        "metric",
        "protocol",
        "image",
        "value",
        "reason",
        "note",
    ]
    means = frame.groupby("method")["value"].mean()
    table = results.table()
    for name in ("gc", "random"):
        np.testing.assert_allclose(table[name].item(), means[name], rtol=1e-12)
    [row] = results.compare("gc", "random").to_dict("records")
    np.testing.assert_allclose(row["lead"], means["gc"] - means["random"], rtol=1e-9)
    assert row["n"] == 2
    assert row["verdict"] == "undecided at this n"
    [back] = results.compare("random", "gc").to_dict("records")
    np.testing.assert_allclose(back["lead"], -row["lead"], rtol=1e-9)
    assert results.report().is_file()


def test_maps_are_those_of_the_method_itself(work: Path) -> None:
    classifier, image = wrapped(), torch.rand(3, 64, 64)
    passes = Passes(classifier, image[None], torch.tensor([1]))
    expected = nn.functional.interpolate(GradCam().explain(passes)[None], (64, 64), mode="bilinear")[0, 0].numpy()
    with torch.no_grad():
        quiet = dix.explain(wrapped(), image, method=GradCam(label="mine"), target="ring")
    with torch.inference_mode():
        silent = dix.explain(classifier, image.clone(), method="gc", target=1)
    for found in (quiet, silent):
        np.testing.assert_allclose(found.maps[0], expected, rtol=1e-5, atol=1e-6)
        assert (found[0].target, found[0].label) == (1, "ring")
    assert not torch.is_inference_mode_enabled()


def test_images_come_in_any_form(work: Path) -> None:
    classifier, photo = wrapped(), Image.open("shapes/one.png")
    forms = ["shapes/one.png", Path("shapes/one.png"), photo, np.asarray(photo), np.asarray(photo.convert("RGB"))]
    found = dix.explain(classifier, forms, method="gc", target=0)
    assert len(found) == 5
    for one in found:
        np.testing.assert_array_equal(one.map, found[0].map)
        assert one.photo.shape == (60, 80, 3)
        assert one.overlay().size == (80, 60)
    assert len(dix.explain(classifier, torch.rand(2, 1, 64, 64), method="gc", target=["disc", "bar"])) == 2
    np.testing.assert_array_equal(np.asarray(found), found.maps)


def test_the_users_network_stays_as_it_is(work: Path) -> None:
    network = grey().train()
    dix.wrap(network, size=64)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert network.features[0][1].inplace
    assert not network._forward_pre_hooks


def nothing(*_: object) -> None:
    """A method that is none."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: dix.explain(c, torch.rand(3, 64, 64), target="rong"), "no class 'rong'; did you mean 'ring'"),
        (lambda c: dix.explain(c, torch.rand(3, 64, 64), target="r"), "'r' may be ring (1), bar (2); give the number"),
        (lambda c: dix.explain(c, torch.rand(3, 64, 64), target=3), "GreyNet has no output for class 3"),
        (lambda c: dix.explain(c, torch.rand(2, 3, 64, 64), target=[0]), "one for each of 2 images, got 1"),
        (lambda c: dix.explain(c, torch.randn(3, 64, 64)), "expected pixels in [0, 1]"),
        (lambda c: dix.explain(c, torch.rand(4, 64, 64)), "expected numbers [3, H, W] or [1, H, W]"),
        (lambda c: dix.explain(c, 7), "expected paths, PIL images, arrays or tensors, got int"),
        (lambda c: dix.explain(c, "gone.png"), "gone.png: cannot be read"),
        (lambda c: dix.explain(c, torch.rand(3, 64, 64), method="gae"), "gae cannot explain GreyNet: "),
        (lambda c: dix.explain(c, torch.rand(3, 64, 64), method="dix4"), "no method called 'dix4'"),
        (lambda c: dix.explain(7, torch.rand(3, 64, 64)), "a name of `dix list model` or a dix.Classifier, got int"),
        (lambda c: dix.benchmark(c.network, ["gc"], ["ins"], "shapes"), "dix.wrap(network, classes=..."),
        (lambda c: dix.benchmark(c, ["gc"], ["ins"], "shapez"), "no dataset called 'shapez'"),
        (lambda c: dix.benchmark(c, ["gc"], ["inz"], "shapes"), "no metric called 'inz'"),
        (lambda c: dix.benchmark(c, [GradCam(label="gc")], ["ins"], "shapes"), "'gc' is the name of another method"),
        (lambda c: dix.benchmark(c, {"x": 7}, ["ins"], "shapes"), "methods.x: got int, which is no method"),
        (
            lambda c: dix.benchmark(c, ["gc"], ["ins"], "shapes", limits=3),
            "no setting called 'run.limits'; did you mean",
        ),
        (lambda c: dix.benchmark(c, ["gc"], ["ins"], "shapes", limit="x"), "run.limit"),
        (lambda c: dix.load_results("gone"), "no results in 'gone'"),
        (lambda c: dix.wrap(7), "expected a torch.nn.Module, got int"),
        (lambda c: wrapped(classes=["a", "b"]), "3 outputs, but 2 class names: a, b"),
        (lambda c: wrapped(mean=[0.5, 0.5]), "mean: expected one number or three"),
        (lambda c: wrapped(std=0.0), "std: expected positive numbers"),
        (lambda c: wrapped(classes=["a", 1, "b"]), "classes: expected names, or indices"),
    ],
)
def test_mistakes_are_told(call: Callable[[dix.Classifier], object], message: str, work: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call(wrapped())
