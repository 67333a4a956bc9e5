"""Own networks from YAML: code by its name, weights that execute nothing, and what a stranger may not name."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from support import grey_shapes

from dix.classifier import Classifier
from dix.cli.config import composed
from dix.cli.construct import build
from dix.cli.trust import Untrusted, vetted

NODE = {
    "_target_": "dix.models.wrap.network", "name": "grey", "module": "my_networks.GreyNet", "input_size": 64,
    "classes": ["disc", "ring", "bar"], "mean": [0.5], "std": 0.25,
}  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    grey_shapes.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("my_networks", None)
    return tmp_path


def made(**changes: Any) -> Classifier:
    return build(OmegaConf.create({**NODE, **changes}), "model", "model")  # type: ignore[no-any-return]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_module_and_its_weights_come_from_yaml(suffix: str, work: Path) -> None:
    built = made()
    state = {name: value + 0.01 for name, value in built.network.state_dict().items()}
    file = work / f"grey{suffix}"
    torch.save(state, file) if suffix == ".pth" else save_file(state, file)
    loaded = made(weights=str(file))
    for name, value in loaded.network.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    assert loaded.weights.source == f"file grey{suffix}"
    assert loaded.fingerprint != built.fingerprint == made().fingerprint
    assert [loaded.class_name(i) for i in range(3)] == ["disc", "ring", "bar"]
    assert loaded.layers["last"] == "features.2"
    assert not made(weights="random").weights.trained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": "my_networks.GrayNet"}, "model.module: my_networks.GrayNet: my_networks has no 'GrayNet'; did you"),
        ({"module": "gone.Net"}, "model.module: gone.Net: No module named 'gone'"),
        ({"module": "my_networks"}, "model.module: expected _target_ to be a dotted name"),
        ({"module": "builtins.dict"}, "dict gave dict, which is no torch.nn.Module"),
        ({"arguments": {"wide": 3}}, "model: network: TypeError"),
        ({"weights": "gone.pth"}, "model.weights: no file gone.pth"),
        ({"classes": ["a", "b"]}, "model: 3 outputs, but 2 class names: a, b"),
        ({"input_size": 4}, "the network fails on an image of 4 x 4"),
        ({"layers": {"last": "feature.2"}}, "model: no layer 'feature.2' in GreyNet; some that exist: features"),
    ],
)
def test_mistakes_in_a_configuration_are_told(change: dict[str, Any], message: str, work: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        made(**change)


def test_weights_that_hold_code_are_not_executed(work: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (work / "executed",))

    torch.save({"state_dict": Evil()}, "evil.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        made(weights="evil.pth")
    assert not (work / "executed").exists()


def test_a_strangers_folder_names_no_code_of_its_own(work: Path) -> None:
    """The user has a network of their own; a folder asks for another module by the same, known, target."""
    (work / "conf" / "model").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(NODE), work / "conf" / "model" / "grey.yaml")
    config: Any = OmegaConf.to_container(
        composed(["model=lenet5", "dataset=mnist", "method=[gc]", "metric=[ins]"]), resolve=True
    )
    for module, refused in (("my_networks.GreyNet", False), ("evil.Net", True), ("os.system", True)):
        asked = copy.deepcopy(config) | {"model": {**NODE, "module": module}}
        if not refused:
            assert vetted(asked, [work / "conf"])["model"]["module"] == module
            continue
        before = set(sys.modules)
        with pytest.raises(
            Untrusted, match=r"^model(\.module)?: .* is not in this suite's own configurations|names code"
        ):
            vetted(asked, [work / "conf"])
        assert "evil" not in set(sys.modules) - before
