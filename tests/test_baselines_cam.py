"""Grad-CAM and its kin, Ablation-CAM, LIFT-CAM: against the papers' formulas, other libraries, and theorems."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.baseline_networks import (
    ALL,
    NETWORKS,
    alike,
    classifier,
    images,
    in_double,
    pearson,
    resnet,
    traces,
    trainable_copy,
    vit,
)
from torch import Tensor, nn

from dix.baselines.ablation import AblationCam, Additive, ChannelDrops
from dix.baselines.cam import GradCam, GradCamPP, HiResCam, LayerCam, XGradCam
from dix.baselines.extras_cam import EigenCam, ScoreCam, oriented
from dix.baselines.lift import Contributions, LiftCam
from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.passes import Passes

pytestmark = pytest.mark.numeric

TARGETS = torch.tensor([2, 4, 9])
METHODS = (
    *(GradCam(), GradCamPP(), XGradCam(), LayerCam(), HiResCam(), AblationCam(), LiftCam(), EigenCam()),
    *(GradCamPP(eps=1e-6), AblationCam(fill="far_below", divide_by="score"), ScoreCam(), EigenCam(centre=True)),
)


def name(method: Any) -> str:
    return f"{method.label}{'*' if method in METHODS[8:] else ''}"


def evidence(model: Classifier, layer: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the targets [B], activation and gradient of one layer, by hooks of the test's own."""
    kept: list[Tensor] = []
    module = model.network.get_submodule(model.layer(layer))
    handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out.requires_grad_()))
    score = model.logits(images().to(model.dtype)).gather(1, TARGETS[:, None])[:, 0]
    handle.remove()
    (gradient,) = torch.autograd.grad(score.sum(), kept[0])
    return score.detach(), kept[0].detach(), gradient


def replica(method: str, a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """One image's map from A and g [C, h, w], written out pixel by pixel as the papers do."""
    channels, height, width = a.shape
    pixels = [(i, j) for i in range(height) for j in range(width)]
    weights = np.zeros(channels)
    for k in range(channels):
        total = sum(a[k, i, j] for i, j in pixels)
        for i, j in pixels:
            if method == "GC":
                weights[k] += g[k, i, j] / len(pixels)
            elif method == "XGC" and total != 0:
                weights[k] += a[k, i, j] / total * g[k, i, j]
            elif method == "GC++" and g[k, i, j] > 0:
                alpha = g[k, i, j] ** 2 / (2 * g[k, i, j] ** 2 + total * g[k, i, j] ** 3)
                weights[k] += alpha * max(g[k, i, j], 0)
    out = np.zeros((height, width))
    for i, j in pixels:
        if method == "LC":
            out[i, j] = sum(max(g[k, i, j], 0) * a[k, i, j] for k in range(channels))
        elif method == "HiResCAM":
            out[i, j] = sum(g[k, i, j] * a[k, i, j] for k in range(channels))
        else:
            out[i, j] = sum(weights[k] * a[k, i, j] for k in range(channels))
    return out if method == "HiResCAM" else np.maximum(out, 0)


@pytest.mark.parametrize("method", [GradCam, GradCamPP, XGradCam, LayerCam, HiResCam])
@pytest.mark.parametrize("layer", ["last", "second"])
def test_map_is_the_papers_formula(method: type, layer: str) -> None:
    model = in_double(resnet())
    _, a, g = evidence(model, layer)
    made = method(layer).explain(Passes(model, images().double(), TARGETS))
    for image in range(len(made)):
        want = replica(method().label, a[image].numpy(), g[image].numpy())
        np.testing.assert_allclose(made[image].numpy(), want, rtol=1e-9, atol=1e-12 * abs(want).max())


def library(model: Classifier, kind: type, layer: str, **options: Any) -> Tensor:
    """pytorch-grad-cam's map at the layer's resolution, before it is scaled."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = trainable_copy(model)
    if model.kind == "vit":
        options["reshape_transform"] = lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    module = network.get_submodule(model.layer(layer))
    normal, targets = model.normalise(images()), [ClassifierOutputTarget(int(t)) for t in TARGETS]
    with kind(network, [module], **options) as cam:
        cam.forward(normal, targets) if cam.uses_gradients else cam.activations_and_grads(normal)
        a = cam.activations_and_grads.activations[0].numpy()
        g = cam.activations_and_grads.gradients[0].numpy() if cam.uses_gradients else None
        made = cam.get_cam_image(normal, module, targets, a, g, False)
    return torch.from_numpy(np.maximum(made, 0))


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        (GradCam(), "GradCAM"),
        (GradCamPP(eps=1e-6), "GradCAMPlusPlus"),
        (XGradCam(), "XGradCAM"),
        (LayerCam(), "LayerCAM"),
    ],
    ids=["GC", "GC++", "XGC", "LC"],
)
@pytest.mark.parametrize("layer", ["last", "second"])
def test_equals_grad_cam(network: str, method: Any, theirs: str, layer: str) -> None:
    import pytorch_grad_cam

    model = ALL[network]()
    if layer not in model.layers:
        pytest.skip("the transformer names one layer")
    made = type(method)(layer, **({"eps": method.eps} if "eps" in vars(method) else {}))
    ours = made.explain(Passes(model, images(), TARGETS))
    want = library(model, getattr(pytorch_grad_cam, theirs), layer)
    torch.testing.assert_close(ours, want, rtol=1e-3, atol=1e-4 * float(want.max()))
    assert alike(ours, want)


@pytest.mark.parametrize("network", ALL)
def test_ablation_variant_equals_grad_cam(network: str) -> None:
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer, AblationLayerVit

    model = ALL[network]()
    layer = AblationLayerVit() if model.kind == "vit" else AblationLayer()
    want = library(model, AblationCAM, "last", ablation_layer=layer)
    method = AblationCam(fill="far_below", divide_by="score")
    ours = method.explain(Passes(model, images(), TARGETS))
    assert alike(ours, want)


def test_eigen_cam_variant_equals_grad_cam() -> None:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    for network in NETWORKS.values():
        _, a, _ = evidence(network(), "second")
        ours = EigenCam("second", centre=True).explain(Passes(network(), images(), TARGETS))
        assert (pearson(ours, torch.from_numpy(get_2d_projection(a.numpy()))).abs() >= 0.999).all()


def test_eigen_cam_is_positive_on_positive_activations() -> None:
    """Perron and Frobenius: the first singular vectors of a matrix of positive numbers have one sign."""
    made = EigenCam("last").explain(Passes(resnet(), images(), TARGETS))
    assert (made >= 0).all()
    assert (made.flatten(1).amax(dim=1) > 0).all()


@pytest.mark.parametrize("network", ALL)
def test_centred_eigen_cam_is_the_first_principal_component_with_its_strongest_location_positive(network: str) -> None:
    """The component from the covariance's eigenvectors, and the sign by looking at the one location.

    An eigenvector is exact to the rounding of its matrix (1e-12 of its norm for up to 256 columns in double precision)
    over the gap to the next eigenvalue.
    """
    model = in_double(ALL[network]())
    passes = Passes(model, images().double(), TARGETS)
    made = EigenCam(centre=True).explain(passes).flatten(1).numpy()
    activation = passes.activation("last")
    tokens = activation[:, 1:] if model.kind == "vit" else activation.flatten(2).transpose(1, 2)
    for found, rows in zip(made, tokens.numpy(), strict=True):
        centred = rows - rows.mean(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        want = centred @ vectors[:, -1]
        want *= np.sign(want[abs(want).argmax()])
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-12 / (1 - values[-2] / values[-1]) * abs(want).max())


@pytest.mark.parametrize("noise", [1e-5, -1e-5, 0.0])
@pytest.mark.parametrize("turned", [1, -1])
def test_rounding_does_not_turn_a_map(noise: float, turned: int) -> None:
    """By hand: a sum that counts; a nil sum with one strongest location; a nil sum with two of opposite signs."""
    maps = torch.tensor([[3.0, -4, 2, 1], [2, 1, -4, 1], [-4, 1, -1, 4]])
    exact = torch.tensor([[3.0, -4, 2, 1], [-2, -1, 4, -1], [4, -1, 1, -4]])
    shifted = maps + noise * torch.tensor([1.0, -1, 1, 1])
    torch.testing.assert_close(oriented(turned * shifted), exact, rtol=0, atol=2e-5)


def test_score_cam_is_the_papers_algorithm() -> None:
    model = ALL["densenet"]()
    _, a, _ = evidence(model, "last")
    made = ScoreCam().explain(Passes(model, images(), TARGETS, chunk=7))
    x = model.normalise(images())[:1]
    enlarged = nn.functional.interpolate(a[:1], size=x.shape[-2:], mode="bilinear", align_corners=False)[0]
    scores = []
    for mask in enlarged:
        span = mask.max() - mask.min()
        scaled = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
        scores.append(float((model.network(x * scaled) - model.network(x * 0))[0, TARGETS[0]]))
    weights = np.exp(scores) / np.exp(scores).sum()
    want = np.maximum(np.einsum("c,chw->hw", weights, a[0].numpy()), 0)
    np.testing.assert_allclose(made[0].numpy(), want, rtol=1e-4)


def ablated_by_hook(model: Classifier, layer: str, channel: int) -> Tensor:
    """[B] the targets' logits with one channel of a layer set to zero, by the plainest means."""

    def hook(_m: nn.Module, _a: object, out: Tensor) -> Tensor:
        out = out.clone()
        out[(..., channel) if out.ndim == 3 else (slice(None), channel)] = 0
        return out

    handle = model.network.get_submodule(model.layer(layer)).register_forward_hook(hook)
    logits = model.logits(images().to(model.dtype))
    handle.remove()
    return logits.gather(1, TARGETS[:, None])[:, 0]


@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize("layer", ["last", "second"])
def test_drops_are_those_of_the_whole_network_without_the_channel(network: str, layer: str) -> None:
    model = in_double(ALL[network]())
    if layer not in model.layers:
        pytest.skip("the transformer names one layer")
    whole = model.logits(images().double()).gather(1, TARGETS[:, None])[:, 0]
    drops = Passes(model, images().double(), TARGETS, chunk=50).get(ChannelDrops(layer))
    for channel in range(0, drops.shape[1], 9):
        want = whole - ablated_by_hook(model, layer, channel)
        np.testing.assert_allclose(drops[:, channel].numpy(), want.numpy(), rtol=1e-6, atol=1e-9)


def test_ablation_map_is_the_papers_formula() -> None:
    model = in_double(ALL["convnext"]())
    score, a, _ = evidence(model, "last")
    made = AblationCam().explain(Passes(model, images().double(), TARGETS))
    weights = torch.stack([(score - ablated_by_hook(model, "last", c)) / score.abs() for c in range(a.shape[1])], dim=1)
    want = torch.einsum("bc,bchw->bhw", weights, a).relu()
    torch.testing.assert_close(made, want, rtol=1e-7, atol=1e-10)


class Head(nn.Module):
    """A layer `features` whose activation is what one makes of the image, and a tail."""

    def __init__(self, features: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.features(x))


def head(channels: int, tail: Callable[[], nn.Module], side: int = 8) -> Classifier:
    torch.manual_seed(6)
    features = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
    return classifier(Head(features, tail()), {"last": "features"}, side=side)


def pooled(channels: int, classes: int = 4) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


@pytest.mark.parametrize(
    ("tail", "additive"),
    [
        (lambda: pooled(6), True),
        (lambda: nn.Sequential(nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4)), True),
        (lambda: nn.Sequential(nn.BatchNorm2d(6), pooled(6)), True),
        (lambda: nn.Sequential(nn.ReLU6(), pooled(6)), False),
        (lambda: nn.Sequential(nn.GELU(), pooled(6)), False),
        (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), pooled(6)), False),
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 4)), False),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(384, 5), nn.ReLU(), nn.Linear(5, 4)), False),
    ],
    ids=["pool", "max", "batch norm", "relu6", "gelu", "mixed", "layer norm", "mlp"],
)
def test_closed_form_is_used_exactly_where_it_holds(tail: Callable[[], nn.Module], additive: bool) -> None:
    model = head(6, tail)
    passes = Passes(model, images(2, 8), torch.tensor([0, 2]))
    assert passes.get(Additive("last")) is additive
    assert passes.get(ChannelDrops("last")).shape == (2, 6)


def test_small_networks_differ_in_their_heads() -> None:
    found = {key: Passes(make(), images(), TARGETS).get(Additive("last")) for key, make in ALL.items()}
    assert found == {"resnet": True, "densenet": True, "convnext": False, "vit": False}


def test_ablation_of_the_only_channel_shows_that_channel() -> None:
    model = head(1, lambda: pooled(1))
    linear = model.network.get_submodule("tail.2")
    linear.weight.data.copy_(torch.tensor([[2.0], [1.0], [-1.0], [0.5]]))
    linear.bias.data.zero_()
    passes = Passes(model, images(1, 8), torch.tensor([0]))
    made = AblationCam().explain(passes)
    torch.testing.assert_close(made, passes.activation("last")[:, 0])  # y_c = 0, so the weight is 1


@pytest.mark.parametrize("bias", [5.0, -5.0])
def test_supporting_channels_light_up_whatever_the_sign_of_the_logit(bias: float) -> None:
    model = head(2, lambda: pooled(2))
    linear = model.network.get_submodule("tail.2")
    linear.weight.data.copy_(torch.tensor([[1.0, -1.0]]).expand(4, 2))
    linear.bias.data.fill_(bias)
    passes = Passes(model, images(1, 8), torch.tensor([0]))
    assert (passes.score(passes.logits) > 0).item() is (bias > 0)
    a = passes.activation("last")
    mean = a.mean(dim=(2, 3))
    y = mean[:, 0] - mean[:, 1] + bias
    want = ((mean[:, 0] / y.abs())[:, None, None] * a[:, 0] - (mean[:, 1] / y.abs())[:, None, None] * a[:, 1]).relu()
    torch.testing.assert_close(AblationCam().explain(passes), want)
    by_score = AblationCam(divide_by="score").explain(passes)
    turned = ((mean[:, 0] / y)[:, None, None] * a[:, 0] - (mean[:, 1] / y)[:, None, None] * a[:, 1]).relu()
    torch.testing.assert_close(by_score, turned)


@pytest.mark.parametrize("network", ["resnet", "densenet"])
def test_theorems_of_pooling_heads(network: str) -> None:
    """Behind pooling and a linear layer the gradient is w_c / (h w) everywhere, which makes methods coincide."""
    model = in_double(NETWORKS[network]())
    passes = Passes(model, images().double(), TARGETS)
    a = passes.activation("last")
    weight = [m for m in model.network.modules() if isinstance(m, nn.Linear)][-1].weight[TARGETS]
    want = torch.einsum("bc,bchw->bhw", weight, a) / a[0, 0].numel()
    torch.testing.assert_close(HiResCam().explain(passes), want)
    torch.testing.assert_close(GradCam().explain(passes), want.relu())
    torch.testing.assert_close(XGradCam().explain(passes), want.relu())
    torch.testing.assert_close(
        LiftCam().explain(passes), torch.einsum("bc,bchw->bhw", weight * a.mean((2, 3)), a).relu()
    )
    score = passes.score(passes.logits).abs()[:, None, None]
    torch.testing.assert_close(AblationCam().explain(passes) * score, LiftCam().explain(passes))


@pytest.mark.parametrize("network", NETWORKS)
def test_lift_contributions_add_up(network: str) -> None:
    """DeepLIFT: all contributions sum to y(A) - y(0); y(0) by a hook of the test's own."""
    model = in_double(NETWORKS[network]())
    passes = Passes(model, images().double(), TARGETS)
    handle = model.network.get_submodule(model.layer("last")).register_forward_hook(lambda _m, _a, out: out * 0)
    empty = model.logits(images().double()).gather(1, TARGETS[:, None])[:, 0]
    handle.remove()
    total = passes.get(Contributions("last")).sum(dim=1)
    torch.testing.assert_close(total, passes.score(passes.logits) - empty, rtol=1e-9, atol=1e-9)
    assert (LiftCam().residual(passes).abs() < 1e-9).all()


def test_lift_of_a_layer_norm_head_is_its_formula() -> None:
    """ConvNeXt: p_c (u_c - mean u) / sqrt(var p + eps), u the classifier's row times the layer norm's weight."""
    model = in_double(NETWORKS["convnext"]())
    passes = Passes(model, images().double(), TARGETS)
    norm, _, linear = model.network.get_submodule("classifier").children()
    p = passes.activation("last").mean(dim=(2, 3)).numpy()
    u = (linear.weight[TARGETS] * norm.weight).numpy()
    want = p * (u - u.mean(axis=1, keepdims=True)) / np.sqrt(p.var(axis=1, keepdims=True) + norm.eps)
    np.testing.assert_allclose(passes.get(Contributions("last")).numpy(), want, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU, nn.Softplus, nn.Sigmoid])
def test_lift_equals_captum_on_a_nonlinear_head(activation: Callable[[], nn.Module]) -> None:
    from captum.attr import DeepLift

    def tail() -> nn.Module:
        first, second = nn.Linear(5 * 64, 7), nn.Linear(7, 4)
        return nn.Sequential(nn.Flatten(), first, activation(), nn.Dropout(), second)

    model = head(5, tail).to("cpu", torch.float64)
    targets = torch.tensor([0, 2])
    passes = Passes(model, images(2, 8).double(), targets)
    a = passes.activation("last")
    with pytest.warns(UserWarning, match="hooks"):
        theirs = DeepLift(trainable_copy(model).tail).attribute(a.clone().requires_grad_(), a * 0, target=targets)
    torch.testing.assert_close(
        passes.get(Contributions("last")), theirs.sum(dim=(2, 3)).detach(), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("method", METHODS, ids=name)
@pytest.mark.parametrize("network", ["densenet", "convnext", "vit"])
def test_batch_order_and_chunk_change_nothing(method: Any, network: str) -> None:
    model = in_double(ALL[network]())
    if method.unsupported(model):
        pytest.skip(method.unsupported(model))
    x = images().double()
    together = method.explain(Passes(model, x, TARGETS, chunk=64))
    order = torch.tensor([2, 0, 1])
    shuffled = method.explain(Passes(model, x[order], TARGETS[order], chunk=2 if len(name(method)) < 6 else 5))
    alone = torch.cat([method.explain(Passes(model, x[i : i + 1], TARGETS[i : i + 1], chunk=16)) for i in range(3)])
    tolerance = {"rtol": 1e-6, "atol": 1e-9 * float(together.abs().max())}
    torch.testing.assert_close(together[order], shuffled, **tolerance)
    torch.testing.assert_close(together, alone, **tolerance)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_nothing_is_left_behind(method: Any) -> None:
    for make in (ALL["convnext"], vit):
        model = make()
        before = {key: value.clone() for key, value in model.network.state_dict().items()}
        if not method.unsupported(model):
            method.explain(Passes(model, images(), TARGETS))
        assert traces(model.network) == []
        assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_nothing_is_left_behind_by_a_failure(method: Any) -> None:
    """The shared pass succeeds; then the network's last layer fails under the methods that run it again."""
    model = ALL["convnext"]()
    passes = Passes(model, images(), TARGETS)
    passes.gradient("last")
    runs = 0

    def fail(_m: nn.Module, _a: object) -> None:
        nonlocal runs
        runs += 1
        raise ArithmeticError

    handle = model.network.get_submodule("classifier.2").register_forward_pre_hook(fail)
    with contextlib.suppress(ArithmeticError):
        method.explain(passes)
    handle.remove()
    assert runs == isinstance(method, AblationCam | LiftCam | ScoreCam)
    assert torch._C._len_torch_function_stack() == 0
    assert traces(model.network) == []


def test_cams_cost_one_forward_pass_of_the_network() -> None:
    """Counted where no tail of the last layer comes by: rows through the first block's first convolution."""
    model, count = resnet(), []
    handle = model.network.layer1[0].conv1.register_forward_hook(lambda _m, _a, out: count.append(len(out)))
    passes = Passes(model, images(), TARGETS)
    for method in (GradCam(), GradCamPP(), XGradCam(), LayerCam(), HiResCam(), AblationCam(), LiftCam(), EigenCam()):
        method.explain(passes)
    handle.remove()
    assert sum(count) == 3


def test_a_layer_the_model_lacks_is_a_reason_not_an_error() -> None:
    for method in (GradCam("fourth"), AblationCam("fourth"), LiftCam("fourth"), EigenCam("fourth")):
        assert "fourth" in method.unsupported(resnet())
        assert isinstance(method, Explainer)
    assert GradCam("layer2").unsupported(resnet()) == ""
    assert "attention" in LiftCam().unsupported(vit())


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="fill: expected zero or far_below, got 'mean'"):
        AblationCam(fill="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="divide_by"):
        AblationCam(divide_by="logit")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "method"),
    [
        *(("gc", GradCam()), ("gcpp", GradCamPP()), ("xgc", XGradCam()), ("lc", LayerCam()), ("ac", AblationCam())),
        *(("lift", LiftCam()), ("hires_cam", HiResCam()), ("eigen_cam", EigenCam()), ("score_cam", ScoreCam())),
        ("gcpp_pgc", GradCamPP(eps=1e-6, label="GC++-pgc", extra=True)),
        ("ac_pgc", AblationCam(fill="far_below", divide_by="score", label="AC-pgc", extra=True)),
    ],
)
def test_configuration_is_the_method(file: str, method: Any) -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath(f"method/{file}.yaml").read_text())[file])
    assert made == method
    assert isinstance(made, Explainer)
