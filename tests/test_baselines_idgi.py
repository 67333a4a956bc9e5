"""IDGI: against a literal replica on paths of the test's own and of `saliency`, closed forms, and completeness."""

from __future__ import annotations

import warnings
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from saliency.core import GuidedIG
from saliency.core.base import INPUT_OUTPUT_GRADIENTS
from scipy.ndimage import gaussian_filter
from support.baseline_networks import ALL, classifier, images, in_double, traces
from torch import Tensor, nn

from dix.baselines.idgi import BlurredWalk, GuidedWalk, Idgi, StraightWalk, Walk
from dix.baselines.path import GuidedIntegratedGradients, IntegratedGradients, shares
from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.passes import Passes

pytestmark = pytest.mark.numeric

SIDE = 32
TARGETS = torch.tensor([2, 4])
WALKS: dict[str, Walk] = {"ig": StraightWalk(4), "gig": GuidedWalk(4), "big": BlurredWalk(4, max_sigma=6)}


def pictures() -> Tensor:
    return images(2, SIDE).double()


def small(name: str) -> Classifier:
    """A network whose probabilities have a slope: logits of a random one are scaled to a spread of 1."""
    made = in_double(ALL[name]())
    last = [module for module in made.network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        spread = made.logits(images(2, made.input_size).double()).std(dim=1).mean()
        last.weight.mul_(1 / spread)
        last.bias.mul_(1 / spread)
    return made


def passes_of(name: str, chunk: int = 32) -> Passes:
    made = small(name)
    return Passes(made, images(2, made.input_size).double(), TARGETS, chunk=chunk)


def ask(made: Classifier, inputs: np.ndarray, target: int) -> tuple[float, np.ndarray]:
    """Probability and gradient at one normalised input [3, S, S]."""
    leaf = torch.from_numpy(inputs.copy())[None].requires_grad_()
    p = made.network(leaf).softmax(dim=1)[0, target]
    (gradient,) = torch.autograd.grad(p, leaf)
    return float(p.detach()), gradient[0].numpy()


def literal(made: Classifier, path: list[np.ndarray], target: int) -> np.ndarray:
    """The paper's algorithm, one step at a time."""
    asked = [ask(made, x, target) for x in path]
    total = np.zeros_like(path[0])
    for (here, gradient), (there, _) in pairwise(asked):
        total += gradient * gradient * (there - here) / np.sum(gradient * gradient)
    return total


def guided(made: Classifier, x: np.ndarray, target: int) -> list[np.ndarray]:
    """The points at which `saliency`'s Guided IG asks for gradients, and the image that it ends at."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of numpy.quantile(interpolation=...); pytest resets filters
    asked: list[np.ndarray] = []

    def call(points: np.ndarray, call_model_args: object = None, expected_keys: object = None) -> dict[str, np.ndarray]:
        point = np.array(points[0], dtype=np.float64).transpose(2, 0, 1)  # a copy: the library moves it on
        asked.append(point)
        return {INPUT_OUTPUT_GRADIENTS: ask(made, point, target)[1].transpose(1, 2, 0)[None]}

    last = x.transpose(1, 2, 0)
    GuidedIG().GetMask(last, call, x_baseline=np.zeros_like(last), x_steps=4, fraction=0.5, max_dist=1.0)
    return [*asked, x]


def path_of(walk: str, made: Classifier, x: np.ndarray, target: int) -> list[np.ndarray]:
    if walk == "ig":
        return [j / 4 * x for j in range(5)]
    if walk == "big":
        sigmas = [6 * (1 - j / 4) for j in range(4)]
        return [gaussian_filter(x, (0, s, s), mode="constant", truncate=4.0) for s in sigmas] + [x]
    return guided(made, x, target)


@pytest.mark.parametrize(("network", "walk"), [("resnet", "ig"), ("convnext", "gig"), ("vit", "big")])
def test_idgi_is_the_papers_algorithm(network: str, walk: str) -> None:
    passes = passes_of(network)
    made = Idgi(WALKS[walk], reduction="sum").explain(passes)
    for i, x in enumerate(passes.classifier.normalise(passes.images).numpy()):
        path = path_of(walk, passes.classifier, x, int(TARGETS[i]))
        want = literal(passes.classifier, path, int(TARGETS[i])).sum(axis=0)
        np.testing.assert_allclose(made[i].numpy(), want, rtol=1e-6, atol=1e-9 * abs(want).max())


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("steps", [1, 7])
def test_maps_add_up_exactly_whatever_the_number_of_steps(walk: str, steps: int) -> None:
    """IG misses by the error of its Riemann sum; here every step's shares sum to 1."""
    made = small("convnext")
    x = images(2, made.input_size).double()
    mean = made.mean.double()
    start = mean.expand_as(x)
    if walk == "big":
        normal = made.normalise(x).numpy()
        blurred = gaussian_filter(normal, (0, 0, 6, 6), mode="constant", truncate=4.0)
        start = torch.from_numpy(blurred) * made.std + mean
    kind: Any = type(WALKS[walk])
    path = kind(steps, max_sigma=6.0) if walk == "big" else kind(steps)
    passes = Passes(made, x, TARGETS)
    gained = passes.score(made.logits(x), kind="probability") - passes.score(made.logits(start), kind="probability")
    found = Idgi(path, reduction="sum").explain(passes).sum(dim=(1, 2))
    torch.testing.assert_close(found, gained, rtol=1e-7, atol=1e-10)  # a guided path ends within 1e-9 of its image


def test_idgi_of_a_linear_network_lays_the_gain_on_squared_weights() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    made = classifier(network, {}, side=SIDE).to("cpu", torch.float64)
    weight = network[1].weight.detach().view(2, 3, SIDE, SIDE)
    passes = Passes(made, pictures(), torch.tensor([0, 1]))
    gain = (made.normalise(passes.images) * weight).sum(dim=(1, 2, 3))
    want = gain.view(2, 1, 1) * weight.square().sum(dim=1) / weight.square().sum(dim=(1, 2, 3)).view(2, 1, 1)
    for walk in (StraightWalk(3), GuidedWalk(3)):
        torch.testing.assert_close(Idgi(walk, "logit", "sum").explain(passes), want)


def test_shares_of_gradients_too_small_to_square_and_of_none() -> None:
    gradient = torch.zeros(3, 3, 2, 2)
    gradient[0, 0, 0, :2] = torch.tensor([1e-30, -3e-30])
    gradient[1, 2, 1, 1] = 5.0
    found = shares(gradient)
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.1, 0.9]))
    assert found[1, 2, 1, 1] == 1
    assert (found[2] == 1 / 12).all()


@pytest.mark.parametrize("walk", WALKS)
def test_batch_order_and_chunk_change_nothing(walk: str) -> None:
    made = small("vit")
    x, targets = images(3, made.input_size).double(), torch.tensor([3, 1, 4])
    method = Idgi(WALKS[walk])
    whole = method.explain(Passes(made, x, targets))
    order = [2, 0, 1]
    turned = method.explain(Passes(made, x[order], targets[order], chunk=2))
    torch.testing.assert_close(turned, whole[order], rtol=1e-6, atol=1e-10)
    alone = method.explain(Passes(made, x[1:2], targets[1:2], chunk=1))
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("walk", WALKS)
def test_every_point_passes_the_network_once_and_reductions_share_it(walk: str) -> None:
    passes = passes_of("resnet", chunk=6)
    count: list[int] = []
    handle = passes.classifier.network.register_forward_pre_hook(lambda _m, inputs: count.append(len(inputs[0])))
    for reduction in ("sum_abs", "sum"):
        Idgi(WALKS[walk], reduction=reduction).explain(passes)
    handle.remove()
    assert sum(count) == 2 * 5
    assert traces(passes.classifier.network) == []


@pytest.mark.parametrize("idgi_first", [False, True])
def test_guided_ig_and_idgi_walk_the_guided_path_once(idgi_first: bool) -> None:
    """Four steps of two images, and the image at the path's end, where only IDGI looks; the same maps as alone."""
    methods: list[Explainer] = [GuidedIntegratedGradients(4), Idgi(GuidedWalk(4))]
    alone = [method.explain(passes_of("resnet")) for method in methods]
    passes = passes_of("resnet")
    count: list[int] = []
    handle = passes.classifier.network.register_forward_pre_hook(lambda _m, inputs: count.append(len(inputs[0])))
    order = (1, 0) if idgi_first else (0, 1)
    found = {i: methods[i].explain(passes) for i in order}
    handle.remove()
    assert sum(count) == 2 * 5
    assert all(torch.equal(found[i], alone[i]) for i in order)


def test_idgi_is_steadier_than_ig_where_the_path_is_coarse() -> None:
    """With a step in two, the maps of IDGI still look like those of many steps, by their sum: IG's sum is off."""
    passes = passes_of("convnext")
    exact = Idgi(StraightWalk(60), reduction="sum").explain(passes).sum(dim=(1, 2))
    idgi = Idgi(StraightWalk(2), reduction="sum").explain(passes).sum(dim=(1, 2))
    ig = IntegratedGradients(2, reduction="sum").explain(passes).sum(dim=(1, 2))
    assert ((idgi - exact).abs() < 1e-12).all()
    assert ((ig - exact).abs() > 1e-6).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StraightWalk(0), "steps: expected an integer of at least 1, got 0"),
        (lambda: BlurredWalk(max_sigma=0), "max_sigma: expected a number above 0, got 0"),
        (lambda: GuidedWalk(fraction=2), "fraction: expected a number from 0 to 1, got 2"),
        (lambda: GuidedWalk(precision="half"), "precision: expected one of"),  # type: ignore[arg-type]
        (lambda: Idgi(score="loss"), "score: expected one of logit, probability"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_refused_with_its_key(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("file", "method"),
    [
        ("idgi", Idgi()),
        ("idgi_gig", Idgi(GuidedWalk(), label="IDGI-GIG")),
        ("idgi_big", Idgi(BlurredWalk(), label="IDGI-BIG")),
    ],
)
def test_configuration_is_the_method(file: str, method: Any) -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath(f"method/{file}.yaml").read_text())[file])
    assert made == method
    assert isinstance(made, Explainer)
