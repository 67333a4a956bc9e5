"""Passes that record little give the gradients of passes that record all, to the last bit, in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from dix import recording
from dix.recording import Lean


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of whatever size are recorded in the new way."""
    monkeypatch.setattr(recording, "LEAST", 1)


@pytest.fixture
def network() -> nn.Module:
    """Layers of every kind that is recorded in another way, frozen."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(8 * 7 * 7, 5),
    )
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
                (module.weight, -2, 2),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    return made.eval().requires_grad_(False)


@contextmanager
def garbage() -> Iterator[None]:
    """While active, memory that nobody has written into is NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def gradient(network: nn.Module, images: Tensor, way: AbstractContextManager[object]) -> Tensor:
    leaf = images.clone().requires_grad_()
    with way:
        total = network(leaf).sum()
    return torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_equal_to_the_last_bit_and_do_not_hang_on_what_was_left_out(
    network: nn.Module, layout: torch.memory_format
) -> None:
    """What is not put down reads as NaN here, so that anything that reads it after all is found."""
    images = torch.rand(4, 3, 33, 33).to(memory_format=layout)
    with garbage():
        expected, found = gradient(network, images, nullcontext()), gradient(network, images, Lean())
    assert found.isfinite().all()
    assert found.count_nonzero() > 100
    assert torch.equal(found, expected)


def test_what_a_relu_passes_on_where_its_input_is_no_number() -> None:
    """NaN is neither clipped nor not; ReLU hands the gradient through, and so does what stands in for it."""
    images = torch.tensor([float("nan"), -1.0, 0.0, 2.0])
    assert torch.equal(gradient(nn.ReLU(), images, Lean()), gradient(nn.ReLU(), images, nullcontext()))


def test_weights_that_are_not_frozen_have_their_gradients(network: nn.Module) -> None:
    network.requires_grad_(True)
    weights = list(network.parameters())
    images = torch.rand(2, 3, 33, 33, requires_grad=True)
    expected = torch.autograd.grad(network(images).sum(), weights)
    with Lean():
        total = network(images).sum()
    assert all(map(torch.equal, torch.autograd.grad(total, weights), expected))


def kept_bytes(network: nn.Module, images: Tensor, way: AbstractContextManager[object]) -> int:
    """Memory that a pass holds until its way back, as the profiler counts it."""
    leaf = images.clone().requires_grad_()
    with torch.autograd.profiler.profile(profile_memory=True) as profile, way:
        total = network(leaf).sum()
    assert total.requires_grad
    return sum(event.self_cpu_memory_usage for event in profile.function_events)


def test_a_pass_of_convolutions_holds_an_eighth() -> None:
    """Of a convolution, a batch norm and a ReLU, autograd keeps two tensors of floats; this, one of bytes."""
    parts = [part for _ in range(4) for part in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())]
    network, images = nn.Sequential(*parts).eval().requires_grad_(False), torch.rand(2, 8, 32, 32)
    plain, lean = kept_bytes(network, images, nullcontext()), kept_bytes(network, images, Lean())
    one = images.numel()
    assert plain >= 4 * 2 * 4 * one
    assert lean == pytest.approx(4 * one, rel=0.1)
