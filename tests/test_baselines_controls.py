"""The maps that explain nothing: random, ones, centre and edges."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy import ndimage
from support.baseline_networks import images, resnet, vit

from dix.baselines.controls import CenterGaussian, Edges, Ones, Random
from dix.explainer import Explainer
from dix.passes import Passes

CONTROLS = {"random": Random(), "ones": Ones(), "center": CenterGaussian(), "edges": Edges()}


@pytest.mark.parametrize("name", CONTROLS)
def test_configuration_is_the_method(name: str) -> None:
    tree = OmegaConf.create(files("dix.conf").joinpath(f"method/{name}.yaml").read_text())
    assert list(tree) == [name]
    made = instantiate(tree[name])
    assert made == CONTROLS[name]
    assert isinstance(made, Explainer)
    assert made.extra


@pytest.mark.parametrize("method", CONTROLS.values(), ids=list(CONTROLS))
def test_works_for_every_network_and_image_shape(method: Any) -> None:
    for model in (resnet(), vit()):
        assert method.unsupported(model) == ""
        made = method.explain(Passes(model, images(2)[:, :, :40]))
        assert made.shape == (2, 40, 64)
        assert made.isfinite().all()


@pytest.mark.numeric
@pytest.mark.parametrize("method", CONTROLS.values(), ids=list(CONTROLS))
def test_batch_and_order_change_nothing(method: Any) -> None:
    """To the bit, but for the edges: a dozen roundings of slopes of up to 8 in single precision, twice for the norm."""
    atol = 2 * 12 * 8 * 2.0**-24 if isinstance(method, Edges) else 0.0
    x, ids = images(), ["a", "b", "c"]
    together = method.explain(Passes(resnet(), x, ids=ids))
    alone = [method.explain(Passes(resnet(), x[i : i + 1], ids=[ids[i]]))[0] for i in (2, 0, 1)]
    torch.testing.assert_close(together[[2, 0, 1]], torch.stack(alone), rtol=0, atol=atol)


def test_random_maps_differ_by_image_and_seed_and_are_uniform() -> None:
    x = images(2)
    a, b = Random().explain(Passes(resnet(), x, ids=["a", "b"]))
    again = Random().explain(Passes(resnet(), x, ids=["a", "b"], seed=1))[0]
    assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.1
    assert abs(np.corrcoef(a.flatten(), again.flatten())[0, 1]) < 0.1
    shares = np.histogram(a.numpy(), bins=4, range=(0, 1))[0] / a.numel()
    np.testing.assert_allclose(shares, 0.25, atol=0.03)  # 4096 pixels: standard error 0.007


def test_random_maps_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    Random().explain(Passes(resnet(), images(1)))
    assert torch.equal(torch.rand(1), want)


def test_ones() -> None:
    assert torch.equal(Ones().explain(Passes(resnet(), images(2))), torch.ones(2, 64, 64))


def test_centre_is_a_gaussian_in_image_sides() -> None:
    made = CenterGaussian(sigma=0.2).explain(Passes(resnet(), images(1)[:, :, :32]))[0]
    for row, column in ((0, 0), (15, 31), (16, 32), (3, 60)):
        v, u = (row + 0.5) / 32 - 0.5, (column + 0.5) / 64 - 0.5
        assert made[row, column].item() == pytest.approx(np.exp(-(u**2 + v**2) / (2 * 0.2**2)), rel=1e-5)
    torch.testing.assert_close(made, made.flip(0).flip(1))


def test_centre_refuses_a_width_of_nothing() -> None:
    with pytest.raises(ValueError, match="sigma: expected a positive fraction"):
        CenterGaussian(sigma=0)


def test_edges_are_sobels_magnitude() -> None:
    x = images(2)
    made = Edges().explain(Passes(resnet(), x))
    for image, edges in zip(x.double().numpy(), made.numpy(), strict=True):
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        want = np.hypot(*(ndimage.sobel(grey, axis=axis, mode="nearest") for axis in (0, 1)))
        np.testing.assert_allclose(edges, want, rtol=1e-4, atol=1e-5)
