"""Adapters: the library's own numbers, for one image alone, from its seed, and nothing changed that others rely on."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support.baseline_networks import densenet, images, resnet, trainable_copy, vit
from torch import Tensor, nn

import dix
from dix.baselines.cam import GradCam
from dix.baselines.path import IntegratedGradients
from dix.baselines.wrap import Captum, Function, Lxt, PytorchGradCam, Saliency, Zennit
from dix.baselines.wrap.adapter import Settings, quiet
from dix.baselines.wrap.offers import offers
from dix.bench.run.contracts import explainer_contract
from dix.classifier import Classifier
from dix.cli import main
from dix.cli.construct import build
from dix.explainer import Explainer
from dix.extras import MissingExtra
from dix.identity import describe
from dix.maps import min_max, resize
from dix.passes import Passes

TARGETS = torch.tensor([1, 4, 7])


def installed(name: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed")


def maps(method: Explainer, model: Classifier, count: int = 1, ids: tuple[str, ...] = ("a", "b", "c")) -> Tensor:
    """Maps of the first images."""
    return method.explain(Passes(model, images(3)[:count], TARGETS[:count], ids=ids[:count]))


def input_of(model: Classifier) -> Tensor:
    """The first image as the network takes it."""
    return model.normalise(images(3)[:1]).requires_grad_()


# The library's own numbers


def captum_by_hand(name: str, model: Classifier, **arguments: Any) -> Tensor:
    attr = importlib.import_module("captum.attr")
    network = trainable_copy(model)
    found = getattr(attr, name)(network).attribute(input_of(model), target=1, **arguments)
    return found.detach()[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("network", [resnet, vit])
def test_captum_on_pixels(network: Callable[[], Classifier]) -> None:
    model = network()
    expected = captum_by_hand("IntegratedGradients", model, n_steps=4).abs().sum(dim=0)
    found = maps(Captum(attribution="IntegratedGradients", arguments={"n_steps": 4}), model)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    given = {"sliding_window_shapes": [3, 16, 16], "strides": [3, 16, 16], "baselines": 0.5}
    window: dict[str, Any] = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 16, 16), "baselines": 0.5}
    expected = captum_by_hand("Occlusion", model, **window).sum(dim=0)
    found = maps(Captum(attribution="Occlusion", arguments=given), model)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_captum_changes_the_squares_of_a_grid() -> None:
    mask = torch.arange(4).view(1, 1, 2, 2).repeat_interleave(32, 2).repeat_interleave(32, 3)
    expected = captum_by_hand("FeatureAblation", resnet(), feature_mask=mask).sum(dim=0)
    found = maps(Captum(attribution="FeatureAblation", cells=2), resnet())[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", [resnet, densenet, vit])
def test_layers_are_channels_over_places_for_every_library(network: Callable[[], Classifier]) -> None:
    """Grad-CAM of three libraries is the suite's own, on feature maps and on tokens."""
    model = network()
    own = maps(GradCam(), model)
    captum = maps(Captum(attribution="LayerGradCam", arguments={"relu_attributions": True}), model)
    torch.testing.assert_close(captum, own, rtol=1e-4, atol=1e-6)
    saliency = maps(Saliency(method="GradCam", score="logit"), model)
    torch.testing.assert_close(saliency, own, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        maps(PytorchGradCam(cam="GradCAM"), model), min_max(resize(min_max(own), (64, 64))), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", ["GradCAMPlusPlus", "EigenGradCAM", "AblationCAM", "FEM", "FinerCAM", "ShapleyCAM"])
@pytest.mark.parametrize("network", [resnet, vit])
def test_grad_cam_by_hand(name: str, network: Callable[[], Classifier]) -> None:
    model = network()
    package = importlib.import_module("pytorch_grad_cam")
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    copy = trainable_copy(model)
    settings: dict[str, Any] = {}
    if model.kind == "vit":
        settings["reshape_transform"] = lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        if name in ("AblationCAM", "ShapleyCAM"):
            pytest.skip("the library changes class tokens, too, where the adapter leaves them alone; or it fails")
    wanted: dict[str, Any] = {"targets": [targets.ClassifierOutputTarget(1)]}
    with quiet(), getattr(package, name)(copy, [copy.get_submodule(model.layer("last"))], **settings) as cam:
        expected = cam(input_of(model), **({"target_idx": 1} if name == "FinerCAM" else wanted))
    found = maps(PytorchGradCam(cam=name), model)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_saliency_is_the_suites_integral() -> None:
    """The library's sum over N points from 0 to 1, both included, each weighed by 1/N."""
    own = IntegratedGradients(steps=4, rule="endpoints", score="probability")
    found = maps(Saliency(method="IntegratedGradients", arguments={"x_steps": 4}), resnet())
    torch.testing.assert_close(found, maps(own, resnet()), rtol=1e-3, atol=1e-7)


@installed("zennit")
def test_zennit_by_hand() -> None:
    attribution, composites, canonizers = (
        importlib.import_module(f"zennit.{name}") for name in ("attribution", "composites", "canonizers")
    )
    network = trainable_copy(resnet())
    composite = composites.EpsilonPlus(epsilon=1e-4, canonizers=[canonizers.SequentialMergeBatchNorm()])
    with attribution.Gradient(network, composite) as attributor:
        _, expected = attributor(input_of(resnet()).detach(), torch.eye(10)[[1]])
    found = maps(Zennit(composite="EpsilonPlus", arguments={"epsilon": 1e-4}), resnet())
    torch.testing.assert_close(found, expected.detach().sum(dim=1), rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def torchvision_vit() -> Classifier:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=10)
    nn.init.normal_(network.heads.head.weight)
    return dix.wrap(network, size=64)


@installed("lxt")
def test_lxt_by_hand_and_torchs_classes_are_put_back(torchvision_vit: Classifier) -> None:
    """Gradient times input, where GELU(x) has the gradient GELU(x)/x, and deviations and attention have none."""
    kinds = (nn.GELU, nn.LayerNorm, nn.MultiheadAttention)
    before = [dict(vars(kind)) for kind in kinds]
    found = maps(Lxt(), torchvision_vit)[0]
    assert [dict(vars(kind)) for kind in kinds] == before

    def gelu(self: nn.GELU, x: Tensor) -> Tensor:
        return x * (nn.functional.gelu(x) / (x + 1e-10)).detach()

    def norm(self: nn.LayerNorm, x: Tensor) -> Tensor:
        spread = (x.var(dim=-1, unbiased=False, keepdim=True) + self.eps).sqrt().detach()
        return (x - x.mean(dim=-1, keepdim=True)) / spread * self.weight + self.bias

    def attention(self: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> Any:
        return original(self, q.detach(), k.detach(), v, **kwargs)

    original, network, image = nn.MultiheadAttention.forward, trainable_copy(torchvision_vit), input_of(torchvision_vit)
    with pytest.MonkeyPatch.context() as patch:
        for kind, forward in zip(kinds, (gelu, norm, attention), strict=True):
            patch.setattr(kind, "forward", forward)
        [gradient] = torch.autograd.grad(network(image)[0, 1], image)
    torch.testing.assert_close(found, (image * gradient).sum(dim=1)[0].detach(), rtol=1e-3, atol=1e-6)
    gamma = maps(Lxt(arguments={"conv_gamma": 0.25, "linear_gamma": 0.05}), torchvision_vit)[0]
    assert gamma.isfinite().all()
    assert not torch.allclose(gamma, found)
    assert [dict(vars(kind)) for kind in kinds] == before


# One image alone, from its own seed


RANDOM = [
    lambda: Captum(attribution="GradientShap", arguments={"n_samples": 2, "stdevs": 0.1}),
    lambda: Captum(attribution="KernelShap", arguments={"n_samples": 8}, cells=2),
    lambda: Captum(attribution="NoiseTunnel", arguments={"nt_samples": 2, "stdevs": 0.2}),
    lambda: PytorchGradCam(cam="RandomCAM"),
    lambda: Saliency(method="GradientSaliency", smoothed=True, arguments={"nsamples": 2}),
]


@pytest.mark.parametrize("make", RANDOM, ids=lambda make: make().name)
def test_random_methods_depend_on_the_image_alone(make: Callable[[], Explainer]) -> None:
    together, alone = maps(make(), resnet(), 2), maps(make(), resnet(), 1)
    torch.testing.assert_close(together[0], alone[0], rtol=0, atol=0)
    other = maps(make(), resnet(), 1, ids=("other",))
    assert not torch.equal(other, alone), "the seed is the image's"


CONTRACT: list[Callable[[], Explainer]] = [
    *RANDOM,
    lambda: Captum(attribution="LayerIntegratedGradients", arguments={"n_steps": 2}),
    lambda: Captum(attribution="DeepLift"),
    lambda: PytorchGradCam(cam="ScoreCAM", layer="third"),
    lambda: PytorchGradCam(cam="AblationCAM", arguments={"ratio_channels_to_ablate": 0.1}),
    lambda: Function(function=gradient_times_input),
]


@pytest.mark.parametrize("make", CONTRACT, ids=lambda make: make().name)
@pytest.mark.parametrize("network", [resnet, vit])
def test_adapters_hold_the_contract_of_methods(
    make: Callable[[], Explainer], network: Callable[[], Classifier]
) -> None:
    found = {finding.clause: finding.problem for finding in explainer_contract(make(), network(), images(2))}
    assert {clause: problem for clause, problem in found.items() if problem} == {}


@installed("zennit")
@installed("lxt")
def test_relevance_holds_the_contract(torchvision_vit: Classifier) -> None:
    for method, model in ((Zennit(), resnet()), (Lxt(arguments={"linear_gamma": 0.05}), torchvision_vit)):
        found = list(explainer_contract(method, model, images(2)))
        assert [finding for finding in found if finding.problem] == []
        assert len(found) > 5


def gradient_times_input(model: nn.Module, images: Tensor, targets: Tensor, power: float = 1.0) -> Tensor:
    """A method as people write them."""
    score = model(images).gather(1, targets[:, None]).sum()
    return (torch.autograd.grad(score, images)[0] * images).abs().sum(dim=1) ** power


def test_a_plain_function_is_a_method() -> None:
    found = maps(Function(function=gradient_times_input), resnet(), 2)
    expected = captum_by_hand("InputXGradient", resnet()).abs().sum(dim=0)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-7)
    known = dix.wrap(resnet().network, mean=[0.4, 0.5, 0.6], std=[0.3, 0.25, 0.2], size=64)
    made = dix.explain(known, images(3)[0], method=gradient_times_input, target=1)
    np.testing.assert_allclose(made.maps[0], expected.numpy(), rtol=1e-3, atol=1e-6)
    assert made.method == "gradient_times_input"
    assert describe(Function(function=gradient_times_input))["function"]["function"] == "gradient_times_input"


# Configuration


def from_yaml(text: str) -> Any:
    return build(OmegaConf.create(text), "method", "method.mine")


def test_one_line_of_yaml() -> None:
    made = from_yaml("_target_: dix.baselines.wrap.Captum\nattribution: Occlusion\narguments: {strides: [3, 9, 9]}")
    assert made == Captum(attribution="Occlusion", arguments={"strides": (3, 9, 9)})
    assert made.label == "Occlusion (captum)"
    assert hash(made) == hash(Captum(attribution="Occlusion", arguments={"strides": [3, 9, 9]}))
    assert describe(made)["arguments"] == {"strides": [3, 9, 9]}
    code = from_yaml(f"_target_: dix.baselines.wrap.Function\nfunction: {__name__}.gradient_times_input")
    assert code.function is gradient_times_input
    assert hash(Settings({"a": 1, "b": {"c": [2]}})) == hash(Settings({"b": {"c": (2,)}, "a": 1}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Captum(attribution="Oclusion"), "attribution: expected one of "),
        (lambda: Captum(attribution="NeuronGradient"), "attribution: expected one of "),
        (lambda: Captum(attribution="FeaturePermutation"), "permutes the images of a batch"),
        (lambda: Captum(attribution="ShapleyValues"), "runs through all orders of the squares"),
        (
            lambda: Captum(attribution="Saliency", arguments={"n_steps": 3}),
            "captum's Saliency: expected one of abs, got",
        ),
        (lambda: Captum(reduction="mean"), "reduction: expected one of "),  # type: ignore[arg-type]
        (lambda: PytorchGradCam(cam="GradCam"), "cam: expected one of "),
        (lambda: PytorchGradCam(cam="SESS", arguments={"base_method": "x"}), "base_method of SESS: expected one of "),
        (lambda: Saliency(method="GIG"), "method: expected one of BlurIG, GradCam"),
        (lambda: Saliency(arguments={"nsamples": 3}), "arguments of saliency's IntegratedGradients: expected one of "),
        (lambda: Saliency(score="loss"), "score"),  # type: ignore[arg-type]
        (lambda: Function(), "function: expected one, in YAML by its dotted name"),
    ],
)
def test_mistakes_are_told_before_anything_runs(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("make", "network", "reason"),
    [
        (lambda: Captum(attribution="GuidedBackprop"), vit, "its rule is for nn.ReLU, and the network has none (GELU)"),
        (lambda: Captum(attribution="DeepLift"), vit, "captum's DeepLIFT has no rule for GELU"),
        (lambda: Captum(attribution="LRP"), vit, "captum's LRP has no rule for GELU, Identity, LayerNorm"),
        (lambda: Captum(attribution="LayerGradCam", layer="fourth"), resnet, "the model names no layer fourth"),
        (lambda: PytorchGradCam(cam="FullGrad"), vit, "leaves out the biases of LayerNorm, Linear"),
        (lambda: Captum(attribution="DeepLift"), resnet, ""),
        (lambda: PytorchGradCam(cam="FullGrad"), resnet, ""),
    ],
)
def test_what_would_be_wrong_is_refused(
    make: Callable[[], Explainer], network: Callable[[], Classifier], reason: str
) -> None:
    found = make().unsupported(network())
    assert (reason in found) if reason else found == ""


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (Captum, "captum"),
        (PytorchGradCam, "pytorch_grad_cam"),
        (Saliency, "saliency"),
        (Zennit, "zennit"),
        (Lxt, "lxt"),
    ],
)
def test_a_missing_library_names_its_extra(
    make: Callable[[], object], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    extra = package.replace("pytorch_grad_cam", "grad-cam")
    with pytest.raises(MissingExtra, match=rf"the package '{package}'.*pip install 'dix-bench\[{extra}\]'"):
        make()
    assert {offer.adapter for offer in offers() if offer.missing} >= {make.__name__}  # type: ignore[attr-defined]


def test_the_list_says_what_libraries_offer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "method", "--libraries"]) == 0
    said = capsys.readouterr().out
    for word in ("_target_: dix.baselines.wrap.Captum", "  KernelShap", "  GradCAMElementWise", "  XRAI"):
        assert f"{word}\n" in said
    assert "not FeaturePermutation: it permutes the images" in said
    assert main(["list", "model", "--libraries"]) == 1


def test_the_table_of_libraries_has_all_that_they_offer_and_says_what_runs() -> None:
    """At least thirty methods on both embedded networks; where one does not run, its reason."""
    text = Path(__file__).resolve().parents[1].joinpath("docs", "libraries.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.count(" | ") == 3][2:]
    told = {method.split(",")[0].split(" with")[0] for _, method, *_ in rows}
    assert {name for offer in offers() for name in offer.names} <= told
    assert sum(all(word.startswith("runs, ") for word in networks) for _, _, *networks in rows) >= 30
    assert [row for row in rows if not all(re.match(r"runs, |no: \w+", word) for word in row[2:])] == []
