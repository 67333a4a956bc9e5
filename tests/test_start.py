"""What a start leaves out: torch's compiler and libraries that no first forward pass needs."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from dix import compiler_later
from dix.cli.garbage import nothing_to_collect
from dix.models.unfilled import unfilled


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)


def test_a_network_is_ready_without_the_compiler_and_the_statistics() -> None:
    """What the embedded network's job imports; and both functions that ask for the compiler get it when called."""
    code = """
        import sys
        import dix.cli.task, dix.metrics.faithfulness, dix.metrics.information
        from dix.models import efficientnet_lite, zoo
        with efficientnet_lite.unfilled():
            efficientnet_lite.timm.create_model("tf_efficientnet_lite0", pretrained=False)
        from dix.bench.store.cells import Group
        from dix.bench.store.results import ResultStore
        assert ResultStore("nowhere").done(Group("a", "b", "c"), {"cell"}, {"image"}) == {}
        late = {"pandas", "torch._dynamo", "sympy", "scipy", "matplotlib", "transformers"} & set(sys.modules)
        assert not late, late
        import torch
        from timm.layers import disable_compiler
        from torchvision.ops import roi_align
        assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("mps") is False
        assert "torch._dynamo.utils" in sys.modules
        assert disable_compiler(lambda x, y: x + y)(1, y=2) == 3
        assert torch.compiler.disable.__module__ == "torch.compiler"
    """
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_a_module_that_wants_more_of_the_compiler_gets_the_real_one(tmp_path: Path) -> None:
    """A stand-in package in the place of torchvision, whose module asks for something else."""
    (tmp_path / "torchvision" / "ops").mkdir(parents=True)
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    (tmp_path / "torchvision" / "ops" / "__init__.py").write_text("")
    (tmp_path / "torchvision" / "ops" / "roi_align.py").write_text("from torch._dynamo.utils import counters\n")
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from dix import compiler_later
        compiler_later.install()
        import torchvision.ops.roi_align as loaded
        assert loaded.counters is sys.modules["torch._dynamo.utils"].counters
    """
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_the_finder_is_installed_once_and_minds_two_modules_only() -> None:
    importlib.import_module("dix.models")
    before = list(sys.meta_path)
    compiler_later.install()
    assert sys.meta_path == before
    [finder] = [each for each in sys.meta_path if type(each).__module__ == compiler_later.__name__]
    assert finder.find_spec("json", None) is None


@pytest.mark.parametrize("build", [lambda: nn.Linear(3, 4), lambda: nn.Conv2d(3, 4, 3), lambda: nn.LayerNorm(3)])
def test_what_is_built_unfilled_has_shapes_and_no_memory_and_draws_nothing(build) -> None:
    torch.manual_seed(0)
    expected = {name: tensor.shape for name, tensor in build().state_dict().items()}
    state = torch.random.get_rng_state()
    with unfilled():
        made = build()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {name: tensor.shape for name, tensor in made.state_dict().items()} == expected
    assert all(tensor.is_meta for tensor in made.state_dict().values())
    assert torch.randn(1).isfinite()  # outside, numbers are drawn again


@pytest.mark.parametrize("before", [True, False])
def test_python_looks_for_garbage_again_once_everything_is_loaded(before: bool) -> None:
    """Also after an error, and not where somebody had switched it off."""
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with nothing_to_collect():
            assert not gc.isenabled()
        assert gc.isenabled() is before
        with pytest.raises(ZeroDivisionError), nothing_to_collect():
            1 / 0  # noqa: B018
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
