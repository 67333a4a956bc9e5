"""The repair of `import torchvision`: it works where it is needed and does nothing where it is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dix import torchvision_repair

CHECK = """
    import sys
    sys.path.insert(0, {folder!r})
    before = list(sys.meta_path)
    import dix
    from dix import torchvision_repair
    assert sys.meta_path == before, "importing dix must change nothing"
    torchvision_repair.install()
    assert "torch" not in sys.modules, "importing dix must stay cheap"
    import torchvision
    print(torchvision.MARK)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)


def package(folder: Path, body: str) -> None:
    """A stand-in for torchvision."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(textwrap.dedent(body))
    (folder / "torchvision" / "part.py").write_text("LOADED = True\n")


def test_the_real_package_imports_with_models_and_timm() -> None:
    code = """
        import dix.models
        import torch, torchvision, timm
        from torchvision.transforms import v2
        network = torchvision.models.resnet18(weights=None).eval()
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    """
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_missing_operators_are_defined_and_the_import_is_tried_again(tmp_path: Path) -> None:
    package(
        tmp_path,
        """
        import torch
        from torchvision import part
        torch.library.register_fake("torchvision::nms", lambda dets, scores, iou_threshold: dets)
        MARK = torch.ops.torchvision.nms.default._schema.name
        """,
    )
    result = run(CHECK.format(folder=str(tmp_path)))
    assert result.stdout.strip() == "torchvision::nms", result.stderr


def test_a_users_own_module_may_import_it_first(tmp_path: Path) -> None:
    package(
        tmp_path,
        """
        import torch
        from torchvision import part
        torch.library.register_fake("torchvision::nms", lambda dets, scores, iou_threshold: dets)
        MARK = torch.ops.torchvision.nms.default._schema.name
        """,
    )
    (tmp_path / "own.py").write_text("import torchvision\n\n\ndef build():\n    return torchvision.MARK\n")
    code = """
        import sys
        sys.path.insert(0, {folder!r})
        from dix.cli.construct import located
        print(located("own.build", "model")())
    """
    result = run(code.format(folder=str(tmp_path)))
    assert result.stdout.strip() == "torchvision::nms", result.stderr


def test_an_intact_package_is_left_alone(tmp_path: Path) -> None:
    package(tmp_path, "import sys\nMARK = 'torch' in sys.modules\n")
    result = run(CHECK.format(folder=str(tmp_path)))
    assert result.stdout.strip() == "False", result.stderr  # nothing was defined, torch was never imported


def test_other_errors_pass(tmp_path: Path) -> None:
    package(tmp_path, "raise RuntimeError('something else')\n")
    result = run(CHECK.format(folder=str(tmp_path)))
    assert result.returncode != 0
    assert "something else" in result.stderr


def test_it_is_installed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path)
    torchvision_repair.install()
    assert sys.meta_path == before
