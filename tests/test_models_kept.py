"""Tensors that networks keep of one pass for the next: weights that change are used all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from support.architectures import small
from timm import models
from torch import Tensor, nn

import dix
from dix.classifier import Classifier
from dix.look import spotted
from dix.models.kept import attributes, forget_before_passes
from dix.models.sketch import sketch
from dix.precision import evaluator

CLASSES = 5
#: Networks of timm that look their position biases up once, and the side of their images.
KEEPING: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "levit": (
        64,
        lambda: models.Levit(
            64, num_classes=CLASSES, embed_dim=(16, 24, 32), key_dim=8, depth=(1, 1, 1), num_heads=(2, 2, 2),
            stem_type="s8",
        ),
    ),
    "efficientformer": (
        224,
        lambda: timm.create_model(
            "efficientformer_l1", num_classes=CLASSES, depths=(1, 1, 1, 2), embed_dims=(8, 8, 16, 16)
        ),
    ),
    "tiny vit": (
        64,
        lambda: models.TinyVit(
            num_classes=CLASSES, embed_dims=(8, 16, 16), depths=(1, 1, 1), num_heads=(2, 2, 2), window_sizes=(4, 4, 4)
        ),
    ),
}  # fmt: skip


class Keeping(nn.Module):
    """Keeps twice its weight once it has it, and notes so elsewhere."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, channels))
        self.has, self.runs = False, 0
        self.table: dict[str, Any] = {"names": ["double"]}

    def forward(self, images: Tensor) -> Tensor:
        self.runs += 1
        if not self.has:
            self.has, self.doubled = True, 2 * self.weight
        self.table["kept"] = [self.doubled]
        return images.mean(dim=(2, 3)) @ self.table["kept"][0].T


@pytest.fixture(params=KEEPING)
def pair(request: pytest.FixtureRequest) -> tuple[Classifier, nn.Module]:
    """A classifier that has run, and the same network as its library builds it, which never ran."""
    side, build = KEEPING[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = dix.wrap(build().eval(), size=side, classes=[f"{i}" for i in range(CLASSES)])
    return classifier, build().eval()


def drawn(network: nn.Module) -> dict[str, Tensor]:
    """Other values for all weights; statistics of norms stay."""
    random = torch.Generator().manual_seed(1)
    state = network.state_dict()
    names = {name for name, _ in network.named_parameters()}
    return {k: torch.randn(v.shape, generator=random) * 0.2 + v if k in names else v for k, v in state.items()}


def test_weights_that_are_loaded_after_a_pass_are_used(pair: tuple[Classifier, nn.Module]) -> None:
    classifier, fresh = pair
    images = classifier.normalise(spotted(classifier.input_size)[:2].sigmoid())
    state = drawn(classifier.network)
    fresh.load_state_dict(state)
    with torch.no_grad():
        before = classifier.network(images)
        classifier.network.load_state_dict(state)
        found, expected = classifier.network(images), fresh(images)
    # Attention is computed explicitly in one and in one step in the other: a thousand roundings.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert (found - before).abs().max() > 0.1 * expected.abs().max()


def test_double_precision_is_double_after_a_pass_in_single(pair: tuple[Classifier, nn.Module]) -> None:
    classifier, fresh = pair
    images = spotted(classifier.input_size)[:2].sigmoid()
    classifier.network.load_state_dict(drawn(classifier.network))
    fresh.load_state_dict(classifier.network.state_dict())
    with torch.no_grad():
        single = classifier.logits(images)
        double = evaluator(classifier, "double")(classifier.normalise(images))
        expected = fresh.double()(classifier.normalise(images).double())
        again = classifier.logits(images)
    torch.testing.assert_close(double, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))
    assert again.dtype == torch.float32
    assert torch.equal(again, single)


def test_a_module_that_keeps_tensors_begins_every_pass_as_it_was_built() -> None:
    network, images = Keeping().eval(), torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = attributes(network)
    first = network(images)
    assert forget_before_passes(network, before) == [""]
    with torch.no_grad():
        network.weight.mul_(4)  # to the bit
    assert torch.equal(network(images), 4 * first)
    assert network.runs == 1
    assert network.table["names"] == ["double"]
    assert sketch(network) is not None  # so that equal networks are still looked at once


@pytest.mark.parametrize("name", ["torchvision swin_t", "timm vit_tiny_patch16_224", "timm sequencer2d_s"])
def test_networks_that_keep_nothing_get_no_hook(name: str) -> None:
    assert not small(name).network._forward_pre_hooks
