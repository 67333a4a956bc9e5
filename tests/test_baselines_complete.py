"""FullGrad and LIFT on networks with layers that they have no rule for: refused by name, never half a map."""

from __future__ import annotations

import torch
from support.small_networks import SIDE, pixels, small_cnn
from torch import Tensor, nn

from dix.baselines.complete import incomplete, kept, missed
from dix.baselines.fullgrad import FullGrad
from dix.baselines.lift import LiftCam
from dix.classifier import Classifier, Weights
from dix.passes import Passes


def made(norm: nn.Module) -> Classifier:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, 2, 1), norm, nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return Classifier(
        "norm", network, mean=[0.5] * 3, std=[0.5] * 3, input_size=32, layers={"last": "4"}, kind="cnn",
        weights=Weights("random", trained=False),
    )  # fmt: skip


class Cubed(nn.Module):
    """What no rule knows: x -> w x^3 + 1 with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x**3 + 1


def test_a_layer_without_a_rule_is_a_reason() -> None:
    assert "of the logit: it has no rule for a layer of this network" in FullGrad().unsupported(made(Cubed()))
    assert "of the logit: it has no rule for a layer of this network" in FullGrad().unsupported(
        made(nn.GroupNorm(2, 8))
    )


def test_known_layers_are_no_reason() -> None:
    for norm in (nn.BatchNorm2d(8), nn.Identity()):
        assert FullGrad().unsupported(made(norm)) == LiftCam().unsupported(made(norm)) == ""
    for kind in ("resnet", "vgg", "convnext", "densenet"):
        assert FullGrad().unsupported(small_cnn(kind)) == LiftCam().unsupported(small_cnn(kind)) == ""


def test_plain_networks_are_not_tried() -> None:
    classifier, runs = made(nn.BatchNorm2d(8)), []
    classifier.network.register_forward_hook(lambda *_: runs.append(1))
    assert FullGrad().unsupported(classifier) == ""
    assert not runs


def test_a_network_that_shifts_its_input_is_tried() -> None:
    """As Inception does with ImageNet's normalisation: the constant is a bias that no rule knows."""

    class Shifted(nn.Sequential):
        transform_input = True

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + 20)

    classifier = made(nn.BatchNorm2d(8))
    classifier.network = Shifted(*classifier.network.children())
    assert "of the logit: it has no rule for a layer of this network" in FullGrad().unsupported(classifier)


def test_biases_of_one_kind_alone_are_never_complete_and_are_no_reason() -> None:
    assert FullGrad("convolutions").unsupported(made(Cubed())) == ""


def test_an_image_whose_terms_miss_the_logit_has_no_map() -> None:
    class Half:
        """Terms that add up on every other image."""

        def residual(self, passes: Passes) -> Tensor:
            return passes.logits.abs().amax(dim=1) * torch.tensor([0.0, 0.02, 0.009, torch.nan])

    passes = Passes(small_cnn("resnet"), pixels(4, SIDE))
    residual = Half().residual(passes)
    share = missed(residual, passes)
    torch.testing.assert_close(share, torch.tensor([0.0, 0.02, 0.009, torch.inf]).to(share))
    maps = kept(torch.ones(4, 2, 2).to(passes.images), residual, passes)
    assert maps.isfinite().flatten(1).all(dim=1).tolist() == [True, False, True, False]
    assert incomplete(Half(), made(nn.BatchNorm2d(8))) == ""
