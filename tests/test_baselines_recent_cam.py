"""Finer-CAM, ShapleyCAM and RefineCAM: against the papers' formulas, pytorch-grad-cam, and theorems."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from support.baseline_networks import ALL, NETWORKS, alike, images, in_double, resnet, traces, trainable_copy, vit
from torch import Tensor, nn

from dix.baselines.cam import GradCam
from dix.baselines.recent_cam import FinerCam, RefineCam, ShapleyCam, nearest
from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.maps import min_max, resize
from dix.passes import Passes

pytestmark = pytest.mark.numeric

TARGETS = torch.tensor([2, 4, 9])
METHODS = (FinerCam(), FinerCam(shares="probability"), ShapleyCam(), ShapleyCam(utility="logit"), RefineCam())
NAMES = ["finer", "finer by probability", "shapley", "shapley of the logit", "refine"]


def seen(model: Classifier, layer: str) -> tuple[Tensor, Tensor]:
    """Activation of one layer, with its graph, and the logits [B, K], by a hook of the test's own."""
    kept: list[Tensor] = []
    module = model.network.get_submodule(model.layer(layer))
    handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out.requires_grad_()))
    logits = model.logits(images().to(model.dtype))
    handle.remove()
    return kept[0], logits


def mean_weighted(model: Classifier, factor: Tensor, a: Tensor) -> np.ndarray:
    """[B, h, w] ReLU of the sum over channels of (mean over pixels of the factor) A, tokens as the 4 x 4 grid."""
    if model.kind == "vit":
        factor, a = (t[:, 1:].transpose(1, 2).unflatten(2, (4, 4)) for t in (factor, a))
    return np.maximum(np.einsum("bc,bchw->bhw", factor.mean(dim=(2, 3)).numpy(), a.detach().numpy()), 0)


def library(model: Classifier, kind: Any, layers: list[str], score: Any, **options: Any) -> Tensor:
    """[B, S, S] pytorch-grad-cam's maps, in [0, 1], one image at a time. score: a target's function of the logits."""
    network = trainable_copy(model)
    if model.kind == "vit":
        options["reshape_transform"] = lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    made = kind(network, [network.get_submodule(model.layer(layer)) for layer in layers], **options)
    normal = model.normalise(images())
    return torch.cat([torch.from_numpy(np.asarray(score(made, normal[i : i + 1], int(t)))) for i, t in pairs()])


def pairs() -> list[tuple[int, Tensor]]:
    return list(enumerate(TARGETS))


def same_picture(ours: Tensor, theirs: Tensor) -> None:
    """Enlarged and scaled alike. The library computes in single precision and adds 1e-7 to what it divides by."""
    large = min_max(resize(ours, (64, 64)))
    torch.testing.assert_close(large, theirs, rtol=0, atol=2e-3)
    assert alike(large, theirs)


# --- Finer-CAM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("shares", ["equal", "probability"])
def test_finer_cam_is_its_formula(network: str, shares: Any) -> None:
    model = in_double(ALL[network]())
    a, logits = seen(model, "last")
    total = logits.new_zeros(())
    for i, target in pairs():
        y = logits[i]
        distance = (y - y[target]).detach().abs().tolist()
        like = sorted((d for d in range(10) if d != target), key=distance.__getitem__)[:3]
        weight = {d: y.softmax(0)[d] if shares == "probability" else 1.0 for d in like}
        total = total + sum(weight[d] * (y[target] - 0.6 * y[d]) for d in like) / sum(weight.values())
    (gradient,) = torch.autograd.grad(total, a)
    made = FinerCam(shares=shares).explain(Passes(model, images().double(), TARGETS))
    want = mean_weighted(model, gradient, a)
    np.testing.assert_allclose(made.numpy(), want, rtol=1e-9, atol=1e-12 * want.max())


@pytest.mark.parametrize("network", ALL)
def test_finer_cam_equals_grad_cam_library(network: str) -> None:
    model = ALL[network]()
    want = library(model, pytorch_grad_cam.FinerCAM, ["last"], lambda cam, x, t: cam(x, None, target_idx=t, alpha=0.6))
    same_picture(FinerCam(shares="probability").explain(Passes(model, images(), TARGETS)), want)


def test_finer_cam_without_comparison_is_grad_cam() -> None:
    for make in ALL.values():
        passes = Passes(in_double(make()), images().double(), TARGETS)
        torch.testing.assert_close(FinerCam(gamma=0).explain(passes), GradCam().explain(passes))


def test_classes_most_alike_are_those_with_the_nearest_logits() -> None:
    logits = torch.tensor([[0.0, 5, 4, 9, 7], [1, 2, 2, 2, 8]])
    assert nearest(logits, torch.tensor([1, 2]), 3).tolist() == [[2, 4, 3], [1, 3, 0]]
    assert nearest(logits[:, :2], torch.tensor([1, 0]), 3).tolist() == [[0], [1]]


# --- ShapleyCAM -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["convnext", "vit"])
@pytest.mark.parametrize("utility", ["rest", "logit"])
def test_shapley_cam_is_its_formula(network: str, utility: Any) -> None:
    """H A as the central difference of gradients at (1 + s) A and (1 - s) A: exact up to the order of s squared."""
    model = in_double(ALL[network]())
    module, name = model.network.get_submodule(model.layer("last")), "A"
    kept: dict[str, Tensor] = {}

    def gradient(factor: float) -> Tensor:
        def scaled(_m: object, _a: object, out: Tensor) -> Tensor:
            kept[name] = (factor * out).detach().requires_grad_()
            return kept[name]

        handle = module.register_forward_hook(scaled)
        y = model.logits(images().double())
        handle.remove()
        own = y.gather(1, TARGETS[:, None])
        total = own if utility == "logit" else own + y.log_softmax(1).gather(1, TARGETS[:, None])
        return torch.autograd.grad(total.sum(), kept[name])[0]

    step = 1e-4
    curvature = (gradient(1 + step) - gradient(1 - step)) / (2 * step)
    factor = gradient(1) - curvature / 2
    want = mean_weighted(model, factor, kept[name])
    made = ShapleyCam(utility=utility).explain(Passes(model, images().double(), TARGETS)).numpy()
    assert float(curvature.abs().max()) > 1e-3 * float(factor.abs().max())
    np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-6 * want.max())


@pytest.mark.parametrize("network", ["resnet", "densenet"])
def test_shapley_cam_behind_pooling_and_a_linear_layer(network: str) -> None:
    """U = 2 y_c - ln sum exp y, y = W p + b, p the mean over pixels: its derivatives by p, written out."""
    model = in_double(NETWORKS[network]())
    passes = Passes(model, images().double(), TARGETS)
    a = passes.activation("last").numpy()
    linear = [m for m in model.network.modules() if isinstance(m, nn.Linear)][-1]
    w, p = linear.weight.numpy(), a.mean(axis=(2, 3))
    shares = passes.logits.softmax(1).numpy()
    for i, target in pairs():
        s = shares[i]
        slope = 2 * w[int(target)] - s @ w
        hessian = -(w.T * s) @ w + np.outer(s @ w, s @ w)
        weights = (slope - hessian @ p[i] / 2) / a[0, 0].size
        want = np.maximum(np.einsum("c,chw->hw", weights, a[i]), 0)
        np.testing.assert_allclose(ShapleyCam().explain(passes)[i].numpy(), want, rtol=1e-8, atol=1e-12 * want.max())


def test_shapley_cam_of_a_piecewise_linear_network_is_grad_cam() -> None:
    for layer in ("last", "second"):
        passes = Passes(in_double(resnet()), images().double(), TARGETS)
        torch.testing.assert_close(ShapleyCam(layer, "logit").explain(passes), GradCam(layer).explain(passes))


@pytest.mark.parametrize("network", NETWORKS)  # on the ViT the library fails: it detaches a view in place
@pytest.mark.parametrize("utility", ["rest", "logit"])
def test_shapley_cam_equals_grad_cam_library(network: str, utility: Any) -> None:
    def rest(target: int) -> Any:
        return lambda y: y[target] + y.log_softmax(-1)[target]

    of = ClassifierOutputTarget if utility == "logit" else rest
    model = ALL[network]()
    want = library(model, pytorch_grad_cam.ShapleyCAM, ["last"], lambda cam, x, t: cam(x, [of(t)]))
    same_picture(ShapleyCam(utility=utility).explain(Passes(model, images(), TARGETS)), want)


# --- RefineCAM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("depth", [2, 3])
def test_refine_cam_equals_grad_cam_library(network: str, depth: int) -> None:
    model = NETWORKS[network]()
    layers = ["last", "second", "third"][:depth]
    want = library(model, pytorch_grad_cam.RefineCAM, layers, lambda cam, x, t: cam(x, [ClassifierOutputTarget(t)]))
    same_picture(RefineCam(depth).explain(Passes(model, images(), TARGETS)), want)


def test_refine_cam_is_dark_where_one_layer_is() -> None:
    passes = Passes(resnet(), images(), TARGETS)
    made = RefineCam(2).explain(passes)
    for depth in (1, 2):
        assert (made <= RefineCam(depth).explain(passes)).all()
    assert (made >= RefineCam(3).explain(passes)).all()


# --- what holds for all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
@pytest.mark.parametrize("network", ["densenet", "convnext", "vit"])
def test_batch_and_order_change_nothing(method: Any, network: str) -> None:
    model = in_double(ALL[network]())
    if method.unsupported(model):
        pytest.skip(method.unsupported(model))
    x = images().double()
    together = method.explain(Passes(model, x, TARGETS))
    order = torch.tensor([2, 0, 1])
    shuffled = method.explain(Passes(model, x[order], TARGETS[order], chunk=1))
    alone = torch.cat([method.explain(Passes(model, x[i : i + 1], TARGETS[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together[order], shuffled, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(together, alone, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_nothing_is_left_behind(method: Any) -> None:
    for make in (ALL["convnext"], vit):
        model = make()
        passes = Passes(model, images(), TARGETS)
        if not method.unsupported(model):
            method.explain(passes)
            assert not passes.activation("last").requires_grad
        assert traces(model.network) == []
        assert torch.is_grad_enabled()


def test_the_network_before_the_layer_runs_once() -> None:
    model, count = resnet(), []
    handle = model.network.layer1[0].conv1.register_forward_hook(lambda _m, _a, out: count.append(len(out)))
    passes = Passes(model, images(), TARGETS)
    model.tail("last"), model.tail("second")  # recorded once for a classifier
    count.clear()
    for method in METHODS:
        method.explain(passes)
    handle.remove()
    assert sum(count) == 3


def test_a_layer_the_model_lacks_is_a_reason_not_an_error() -> None:
    assert "fourth" in FinerCam("fourth").unsupported(resnet())
    assert "fourth" in ShapleyCam("fourth").unsupported(resnet())
    assert "second" in RefineCam().unsupported(vit())
    assert RefineCam(1).unsupported(vit()) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FinerCam(similar=0), "similar: expected an integer of at least 1, got 0"),
        (lambda: FinerCam(shares="all"), "shares: expected equal or probability, got 'all'"),  # type: ignore[arg-type]
        (lambda: ShapleyCam(utility="loss"), "utility: expected rest or logit, got 'loss'"),  # type: ignore[arg-type]
        (lambda: RefineCam(4), "depth: expected 1, 2 or 3 layers, got 4"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("file", "method"), [("finer_cam", FinerCam()), ("shapley_cam", ShapleyCam()), ("refine_cam", RefineCam())]
)
def test_configuration_is_the_method(file: str, method: Any) -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath(f"method/{file}.yaml").read_text())[file])
    assert made == method
    assert isinstance(made, Explainer)
