"""BEE against a literal replica that draws the same numbers, its bandit against a minimiser, and what it promises."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar
from support.baseline_networks import NETWORKS, images, in_double, resnet, traces, vit
from torch import Tensor, nn

from dix.baselines.bee import FAMILIES, OBJECTIVES, Bee, updated
from dix.classifier import Classifier
from dix.explainer import Explainer, LayerSums, PathIntegral
from dix.passes import Passes
from dix.seeding import generator

pytestmark = pytest.mark.numeric

TARGETS = torch.tensor([2, 4, 9])
SMALL = {"steps": 3}


def drawn(family: int, x: np.ndarray, random: torch.Generator) -> np.ndarray:
    """A baseline for x [C, h, w], written with numpy."""
    low, high = x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
    if family == 0:
        noise = torch.randn(x.shape, generator=random).numpy()
        return x.mean((1, 2), keepdims=True) + x.std((1, 2), keepdims=True) * noise
    if family == 1:
        return low + torch.rand(x.shape, generator=random).numpy() * (high - low)
    if family == 2:
        sigma = 0.5 + float(torch.rand((), generator=random)) * (x.shape[1] - 1) / 2
        return gaussian_filter(x, (0, sigma, sigma), mode="constant", truncate=4.0)
    return low + torch.rand((len(x), 1, 1), generator=random).numpy() * (high - low) + 0 * x


def objective(kind: str, made: Classifier, image: Tensor, target: int, attribution: np.ndarray) -> float:
    """One map's value, pixel by pixel in the order of the map."""
    if kind == "drop":
        scaled = (attribution - attribution.min()) / (attribution.max() - attribution.min())
        before, after = (
            float(made.logits(x[None]).softmax(1)[0, target]) for x in (image, image * torch.from_numpy(scaled))
        )
        return -max(0.0, before - after) / before
    flat = attribution.ravel()
    order = np.lexsort((np.arange(flat.size), flat if kind == "insertion" else -flat))
    values = []
    for tenth in range(1, 10):
        hidden = image.clone().reshape(3, -1)
        hidden[:, order[: round(tenth / 10 * flat.size)]] = 0
        values.append(float(made.logits(hidden.view_as(image)[None]).softmax(1)[0, target]))
    return float(np.mean(values)) * (1 if kind == "insertion" else -1)


def layer_map(made: Classifier, image: Tensor, target: int, layer: str, family: int, random: Any) -> np.ndarray:
    """(x - b) times the mean gradient over three steps, averaged over channels, enlarged to the image."""
    kept: list[Tensor] = []
    module = made.network.get_submodule(made.layer(layer))
    handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out))
    made.logits(image[None])
    handle.remove()
    x = kept[0]
    b = torch.from_numpy(drawn(family, x[0].numpy(), random))[None]
    total = torch.zeros_like(x)
    for n in (1, 2, 3):
        r = (b + n / 3 * (x - b)).requires_grad_()
        handle = module.register_forward_hook(lambda _m, _a, _o, r=r: r)
        logit = made.logits(image[None])[0, target]
        handle.remove()
        total += torch.autograd.grad(logit, r)[0] / 3
    small = ((x - b) * total).mean(dim=1, keepdim=True)
    return nn.functional.interpolate(small, (64, 64), mode="bilinear", align_corners=False)[0, 0].numpy()


def literal(made: Classifier, image: Tensor, target: int, name: str, kind: str, draws: int) -> np.ndarray:
    """The whole algorithm for one image, with posteriors found by a minimiser."""
    means, precisions = np.zeros(4), np.ones(4)
    seen: list[float] = []
    best, record = None, -np.inf
    for draw in range(draws):
        noise = torch.randn(4, generator=generator(0, name, f"bee arm {draw}"), dtype=torch.float64).numpy()
        arm = int(np.argmax(means + noise / np.sqrt(precisions)))
        found = []
        for layer in ("last", "second"):
            attribution = layer_map(made, image, target, layer, arm, generator(0, name, f"bee {layer} {draw}"))
            found.append(objective(kind, made, image, target, attribution))
            if found[-1] > record:
                best, record = attribution, found[-1]
        rank = np.mean([max(found) > other for other in seen]) if seen else 1
        seen.append(max(found))
        coin = float(torch.rand((), generator=generator(0, name, f"bee reward {draw}")))
        means[arm], precisions[arm] = posterior(means[arm], precisions[arm], 1 if coin < rank else -1)
    assert best is not None
    return best


def posterior(mean: float, precision: float, reward: float) -> tuple[float, float]:
    def loss(w: float) -> float:
        return precision * (w - mean) ** 2 / 2 + np.logaddexp(0, -reward * w)

    w = minimize_scalar(loss, bracket=(mean - 1, mean + 1), tol=1e-12).x
    p = 1 / (1 + np.exp(-w))
    return w, precision + p * (1 - p)


@pytest.mark.parametrize(("network", "kind"), [("resnet", "insertion"), ("convnext", "deletion"), ("densenet", "drop")])
def test_bee_is_its_algorithm(network: str, kind: Any) -> None:
    made, x = in_double(NETWORKS[network]()), images(2).double()
    found = Bee(kind, draws=4, **SMALL).explain(Passes(made, x, TARGETS[:2], ids=["a", "b"], chunk=5))
    for i, name in enumerate("ab"):
        want = literal(made, x[i], int(TARGETS[i]), name, kind, 4)
        np.testing.assert_allclose(found[i].numpy(), want, rtol=1e-6, atol=1e-9 * abs(want).max())


@pytest.mark.parametrize("reward", [1.0, -1.0])
@pytest.mark.parametrize("before", [(0.0, 1.0), (0.8, 1.7), (-3.0, 0.2)])
def test_posterior_is_where_the_loss_is_least(before: tuple[float, float], reward: float) -> None:
    np.testing.assert_allclose(updated(*before, reward), posterior(*before, reward), atol=1e-6)


def test_more_draws_never_make_the_objective_worse() -> None:
    made, x = in_double(resnet()), images().double()
    passes = Passes(made, x, TARGETS)
    values = [OBJECTIVES["insertion"](passes, Bee(draws=draws, **SMALL).explain(passes), 32) for draws in (1, 2, 4)]
    assert (values[0] <= values[1] + 1e-12).all()
    assert (values[1] <= values[2] + 1e-12).all()
    assert (values[0] < values[2]).any()


def test_a_map_adds_up_to_what_the_baseline_lacks() -> None:
    """Behind pooling and a linear layer a sum of any steps is the integral: all of it is y(x) - y(b)."""
    made, x = in_double(resnet()), images(1).double()
    passes = Passes(made, x, TARGETS[:1], ids=["a"])
    a = passes.activation("last")
    for family in FAMILIES:
        b = family(a[0], generator("a baseline"))[None]
        h, sums = LayerSums("last", PathIntegral(steps=3)).between(passes, b)
        lost = passes.score(passes.logits) - passes.score(made.tail("last").logits(b))
        torch.testing.assert_close((h * sums["gradient"]).sum(dim=(1, 2, 3)), lost, rtol=1e-9, atol=1e-12)


def test_baselines_stay_within_what_they_are_drawn_from() -> None:
    x = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = x.amin(dim=(1, 2)), x.amax(dim=(1, 2))
    for family in FAMILIES:
        made = family(x, torch.Generator().manual_seed(2))
        assert made.shape == x.shape
        assert not torch.equal(made, x)
    for family in FAMILIES[1], FAMILIES[3]:
        made = family(x, torch.Generator().manual_seed(2))
        assert (made.amin(dim=(1, 2)) >= low).all()
        assert (made.amax(dim=(1, 2)) <= high).all()


def test_batch_order_and_chunk_change_nothing() -> None:
    made, x = in_double(resnet()), images().double()
    method, ids = Bee(draws=3, **SMALL), ["a", "b", "c"]
    whole = method.explain(Passes(made, x, TARGETS, ids=ids))
    order = [2, 0, 1]
    turned = method.explain(Passes(made, x[order], TARGETS[order], ids=[ids[i] for i in order], chunk=2))
    torch.testing.assert_close(turned, whole[order], rtol=1e-7, atol=1e-10)
    alone = method.explain(Passes(made, x[1:2], TARGETS[1:2], ids=ids[1:2], chunk=1))
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-7, atol=1e-10)
    again = method.explain(Passes(made, x, TARGETS, ids=ids, seed=1))
    assert not torch.allclose(again, whole)
    assert traces(made.network) == []


def test_every_judgement_is_nine_forward_passes() -> None:
    made, count = resnet(), []
    made.tail("last"), made.tail("second")  # recorded once for a classifier
    handle = made.network.layer1[0].conv1.register_forward_hook(lambda _m, _a, out: count.append(len(out)))
    Bee(draws=2, **SMALL).explain(Passes(made, images(), TARGETS))
    handle.remove()
    assert sum(count) == 3 * (1 + 2 * 2 * 9)


def test_what_cannot_be_explained_says_why() -> None:
    assert "attention" in Bee().unsupported(vit())
    assert Bee(depth=3).unsupported(resnet()) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bee("accuracy"), "objective: expected one of insertion, deletion, drop, got 'accuracy'"),  # type: ignore[arg-type]
        (lambda: Bee(draws=0), "draws: expected an integer of at least 1, got 0"),
        (lambda: Bee(depth=0), "depth: expected 1, 2 or 3 layers, got 0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_configuration_is_the_method() -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath("method/bee.yaml").read_text())["bee"])
    assert made == Bee()
    assert isinstance(made, Explainer)
