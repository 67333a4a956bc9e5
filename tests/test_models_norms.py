"""Gradients of norms for one image, against their formulas: torch has others where memory is in another order."""

from __future__ import annotations

import pytest
import torch
from support.architectures import small
from torch import Tensor, nn

from dix.baselines.fullgrad import FullGrad
from dix.baselines.orientation import patches
from dix.classifier import prepare
from dix.passes import Passes


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


class Turned(nn.Module):
    """A norm whose output is read as tokens, so that its gradient comes with channels last."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("count", [1, 2])
def test_the_gradient_of_batch_norm_is_its_formulas(count: int) -> None:
    """The gradient of what comes in is that of what goes out times weight / sqrt(variance + eps)."""
    norm = nn.BatchNorm2d(6).double()
    norm.weight.data, norm.running_var = random(6), random(6).square()
    network, x, back = prepare(Turned(norm)), random(count, 6, 5, 5).requires_grad_(), random(count, 25, 6)
    [found] = torch.autograd.grad(network(x), x, back)
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(found, back.transpose(1, 2).view_as(x) * factor.view(-1, 1, 1))


@pytest.mark.parametrize("count", [1, 2])
def test_the_gradient_of_instance_norm_is_that_of_its_definition(count: int) -> None:
    x, back = random(count, 6, 5, 5).requires_grad_(), random(count, 25, 6)
    [found] = torch.autograd.grad(prepare(Turned(nn.InstanceNorm2d(6)))(x), x, back)
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    plain = ((x - mean) / (variance + 1e-5).sqrt()).flatten(2)
    [expected] = torch.autograd.grad(plain, x, back.transpose(1, 2).contiguous())
    torch.testing.assert_close(found, expected)


def test_a_network_is_mended_once() -> None:
    norm = nn.BatchNorm2d(3)
    prepare(prepare(nn.Sequential(norm)))
    assert len(norm._forward_hooks) == 1


@pytest.mark.parametrize("name", ["timm efficientformer_l1", "timm xcit_nano_12_p16_224"])
def test_fullgrad_of_one_image_has_the_same_sum_as_in_a_batch(name: str) -> None:
    """Before, one image's terms missed up to 2 % of the logit, and its map was refused without a reason."""
    classifier = small(name).to("cpu", torch.float64)
    images = patches(classifier.input_size)[:2].double()
    both, alone = (FullGrad().residual(Passes(classifier, shown)) for shown in (images, images[:1]))
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-9)
