"""Equal networks are looked at once in a process, and networks that may answer otherwise are looked at anew."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import timm
import torch
from support.random_weights import seeded
from support.transformers import SIDE, cait, seen, timm_vit, torchvision_vit
from torch import Tensor, nn

from dix.look import look
from dix.models.sketch import Unlike, sketch
from dix.models.structure import _answered
from dix.passes import Passes


class Net(nn.Module):
    """A network with a weight, a buffer, a part that is used twice, and attributes of several kinds."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.again = self.conv
        self.act = nn.ReLU()
        self.register_buffer("level", torch.zeros(1))
        self.settings: dict[str, object] = {"pool": "mean", "sizes": (1, 2)}
        self.kept = [torch.ones(2)]

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.conv(images)).mean(dim=(2, 3)) + self.level


def conv() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def timm_swin() -> nn.Module:
    shape = {"img_size": SIDE, "patch_size": 2, "window_size": 4, "embed_dim": 12, "num_classes": 5}
    return timm.models.SwinTransformer(**shape, depths=(1, 1), num_heads=(3, 3))


def hook(*_: object) -> None:
    return None


def weight(net: Net) -> None:
    net.conv.weight.data[0, 0, 0, 0] += 1e-3


def swapped(net: Net) -> None:
    net.conv.weight.data = net.conv.weight.data.flip(0)


def own_part(net: Net) -> None:
    net.again = nn.Conv2d(3, 4, 3)
    net.again.load_state_dict(net.conv.state_dict())


def patched(net: Net) -> None:
    net.__class__ = type("Net", (Net,), {"forward": lambda self, images: Net.forward(self, -images)})


CHANGES: dict[str, Callable[[Net], Any]] = {
    "a weight": weight,
    "weights of equal sums": swapped,
    "a buffer": lambda net: net.level.add_(1),
    "precision": lambda net: net.double(),
    "an activation": lambda net: setattr(net, "act", nn.GELU()),
    "a part of its own": own_part,
    "an attribute": lambda net: net.settings.update(pool="max"),
    "a number's kind": lambda net: setattr(net.conv, "padding", (0.0, 0)),
    "a tensor that is no weight": lambda net: net.kept[0].add_(1),
    "a hook": lambda net: net.act.register_forward_hook(hook),
    "other code": patched,
    "mode": lambda net: net.train(),
}


def test_equal_networks_have_equal_sketches() -> None:
    assert sketch(seeded(Net)) == sketch(seeded(Net))
    one, other = seeded(Net), seeded(Net)
    for net in (one, other):  # hooks are numbered through the whole process
        net.act.register_forward_hook(hook)
    assert sketch(one) == sketch(other) != sketch(seeded(Net))


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_answer_changes_the_sketch(change: str) -> None:
    net = seeded(Net)
    before = sketch(net)
    CHANGES[change](net)
    assert sketch(net) != before


def test_a_method_put_into_a_class_changes_the_sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sketch(seeded(Net))
    monkeypatch.setattr(Net, "forward", lambda self, images: images.mean(dim=(2, 3)))
    assert sketch(seeded(Net)) != before


@pytest.mark.parametrize(
    "put", [lambda net: (lambda x: x + net.scale), lambda net: MethodType(Net.forward, net), lambda net: [nn.ReLU()]],
    ids=["a function made inside another", "a bound method", "a part that is none"],
)  # fmt: skip
def test_what_cannot_be_compared_is_not(put: Callable[[Net], Any]) -> None:
    net = seeded(Net)
    net.settings["own"] = put(net)
    with pytest.raises(Unlike):
        sketch(net)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes at which networks were looked at, in their order."""
    found: list[int] = []

    def counting(network: nn.Module, size: int, *names: Any) -> Any:
        found.append(size)
        return look(network, size, *names)

    monkeypatch.setattr("dix.models.structure.look", counting)
    _answered.cache_clear()
    return found


@pytest.mark.parametrize("build", [torchvision_vit, timm_vit, cait, timm_swin, conv])
def test_equal_networks_are_looked_at_once(build: Callable[[], nn.Module], asked: list[int]) -> None:
    one, other = seen(build), seen(build)
    assert asked == [SIDE]
    assert (one.kind, one.layers, one.layouts, one.attention) == (
        other.kind,
        other.layers,
        other.layouts,
        other.attention,
    )
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.logits(images), other.logits(images))
    for classifier in (one, other):
        passes = Passes(classifier, images)
        assert all(passes.activation(name).isfinite().all() for name in classifier.attention_layers)


def test_other_networks_and_sizes_are_looked_at_anew(asked: list[int]) -> None:
    for build in (torchvision_vit, lambda: torchvision_vit(depth=4), conv):
        seen(build)
    seen(conv, side=2 * SIDE)
    assert asked == [SIDE] * 3 + [2 * SIDE]


def test_a_network_is_not_kept_alive_by_what_is_known_of_it() -> None:
    _answered.cache_clear()
    classifier = seen(torchvision_vit)
    network = weakref.ref(classifier.network)
    assert _answered.cache_info().currsize == 1
    del classifier
    gc.collect()
    assert network() is None
