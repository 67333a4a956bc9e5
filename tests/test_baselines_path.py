"""IG, Guided IG, Blur IG, SmoothGrad, Input x Gradient and RISE against captum, saliency and literal replicas."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from captum.attr import IntegratedGradients as CaptumIG
from saliency.core import BlurIG as PairBlurIG
from saliency.core import GuidedIG as PairGuidedIG
from saliency.core import IntegratedGradients as PairIG
from saliency.core.base import INPUT_OUTPUT_GRADIENTS
from support.baseline_networks import traces
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, ResNet

from dix.baselines.extras_path import InputXGradient, Rise, SmoothGrad
from dix.baselines.path import (
    BlurIntegratedGradients,
    BlurPath,
    GuidedIntegratedGradients,
    GuidedPath,
    IntegratedGradients,
    StraightLine,
)
from dix.classifier import Classifier, Weights
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.explainer import Explainer
from dix.models import efficientnet_lite
from dix.passes import Passes
from dix.seeding import generator

SIDE = 32
CLASSES = 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES),
    "densenet": lambda: DenseNet(8, (2, 2, 2), 16, num_classes=CLASSES),
    "convnext": lambda: ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 2)], num_classes=CLASSES),
    "vit": lambda: timm.models.VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=CLASSES
    ),
}

ALL: dict[str, Explainer] = {
    "ig": IntegratedGradients(steps=5),
    "gig": GuidedIntegratedGradients(steps=5),
    "gig_pair": GuidedIntegratedGradients(steps=5, fraction=0.25, max_dist=0.02),
    "big": BlurIntegratedGradients(steps=5, max_sigma=10),
    "smooth_grad": SmoothGrad(samples=5),
    "input_x_gradient": InputXGradient(),
    "rise": Rise(masks=11),
}


def classifier_of(network: nn.Module, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Classifier:
    made = Classifier(
        "small",
        network,
        mean=mean,
        std=std,
        input_size=SIDE,
        layers={},
        kind="cnn",
        weights=Weights("random, seed 0", trained=False),
    )
    return made.to("cpu", torch.float64)


def classifier(name: str) -> Classifier:
    """A small network of the family with random weights, its logits spread enough for a probability to have a slope."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS[name]()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_var.mul_(0.5)
                    module.running_mean.normal_(0, 0.1)
                if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                    module.bias.normal_(0, 0.1)
    made = classifier_of(network)
    with torch.no_grad():
        spread = made.logits(images(4)).std(dim=1).mean()
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.weight.mul_(1 / spread)
        last.bias.mul_(1 / spread)
    return made


def images(count: int) -> Tensor:
    """Smooth random pictures [count, 3, SIDE, SIDE] in [0, 1]."""
    coarse = torch.rand(count, 3, 6, 6, generator=generator("pictures"), dtype=torch.float64)
    return nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=False).clamp(0, 1)


def passes_of(made: Classifier, count: int = 2, chunk: int = 32, pictures: Tensor | None = None) -> Passes:
    pictures = images(count) if pictures is None else pictures
    return Passes(made, pictures, torch.arange(len(pictures)) % CLASSES, chunk=chunk)


def pearson(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    return float(np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1])


def probability(made: Classifier, inputs: Tensor) -> Tensor:
    return made.network(inputs).softmax(dim=1)


def pair_call(made: Classifier, target: int) -> Callable[..., dict[str, np.ndarray]]:
    """The network in the form that `saliency` calls: channels last, normalised."""

    def call(x: np.ndarray, call_model_args: object = None, expected_keys: object = None) -> dict[str, np.ndarray]:
        leaf = torch.from_numpy(np.asarray(x, dtype=np.float64)).permute(0, 3, 1, 2).contiguous().requires_grad_()
        (g,) = torch.autograd.grad(probability(made, leaf)[:, target].sum(), leaf)
        return {INPUT_OUTPUT_GRADIENTS: g.permute(0, 2, 3, 1).numpy()}

    return call


def pair_maps(passes: Passes, method: Any, **options: Any) -> Tensor:
    """Attributions [B, 3, S, S] of a method of `saliency` on the normalised images."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of numpy.quantile(interpolation=...); pytest resets filters
    found = []
    for image, target in zip(passes.classifier.normalise(passes.images), passes.targets.tolist(), strict=True):
        call = pair_call(passes.classifier, target)
        mask = method.GetMask(image.permute(1, 2, 0).numpy(), call, **options)
        found.append(torch.from_numpy(mask).permute(2, 0, 1))
    return torch.stack(found)


# --- Integrated Gradients -------------------------------------------------------------------------------------------


@pytest.mark.numeric
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("rule", "captum_rule"),
    [("right", "riemann_right"), ("left", "riemann_left"), ("midpoint", "riemann_middle"), ("gauss", "gausslegendre")],
)
def test_ig_equals_captum(name: str, rule: str, captum_rule: str) -> None:
    passes = passes_of(classifier(name))
    ours = passes.get(StraightLine(7, rule, "mean_colour", "probability"))
    oracle = CaptumIG(partial(probability, passes.classifier)).attribute(
        passes.classifier.normalise(passes.images),
        baselines=torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64),
        target=passes.targets,
        n_steps=7,
        method=captum_rule,
    )
    torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-6 * float(oracle.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_ig_with_endpoints_equals_saliency(name: str) -> None:
    passes = passes_of(classifier(name))
    oracle = pair_maps(passes, PairIG(), x_steps=6, batch_size=6)
    ours = passes.get(StraightLine(6, "endpoints", "mean_colour", "probability"))
    torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-8)
    ig = IntegratedGradients(steps=6, rule="endpoints").explain(passes)
    assert pearson(ig, oracle.abs().sum(dim=1)) > 0.99999


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("baseline", ["mean_colour", "white"])
def test_ig_adds_up_to_the_difference_of_scores(name: str, baseline: str) -> None:
    passes = passes_of(classifier(name))
    colour = {"mean_colour": torch.tensor(MEAN).double().view(3, 1, 1), "white": 1.0}[baseline]
    start = torch.zeros_like(passes.images) + colour
    logits = [passes.classifier.logits(x) for x in (passes.images, start)]
    difference = passes.score(logits[0]) - passes.score(logits[1])
    method = IntegratedGradients(
        steps=150,
        rule="midpoint",
        baseline=baseline,
        score="logit",
        reduction="sum",
    )
    found = method.explain(passes).flatten(1).sum(dim=1)
    torch.testing.assert_close(found, difference, rtol=0, atol=0.02 * float(difference.abs().max()))


def test_ig_of_a_linear_network_is_weight_times_difference() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    made = classifier_of(network, mean=(0.5, 0.25, 0.75), std=(0.5, 1.0, 2.0))
    pictures = images(2)
    weight = network[1].weight.detach().view(2, 3, SIDE, SIDE)
    std, mean = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.5, 1.0, 2.0), (0.5, 0.25, 0.75)))
    expected = (pictures - mean) / std * weight
    passes = Passes(made, pictures, torch.tensor([0, 1]))
    for rule in ("right", "left", "midpoint", "trapezoid", "gauss", "endpoints"):
        found = passes.get(StraightLine(3, rule, "mean_colour", "logit"))
        torch.testing.assert_close(found, expected)
    by_reduction = {
        "sum_abs": expected.abs().sum(1),
        "abs_sum": expected.sum(1).abs(),
        "max_abs": expected.abs().amax(1),
        "sum": expected.sum(1),
    }
    for reduction, wanted in by_reduction.items():
        method = IntegratedGradients(steps=2, score="logit", reduction=reduction)
        torch.testing.assert_close(method.explain(passes), wanted)


# --- Guided IG ------------------------------------------------------------------------------------------------------


@pytest.mark.numeric
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("fraction", "max_dist"), [(0.5, 1.0), (0.25, 0.02), (0.1, 0.3), (1.0, 0.0)])
def test_guided_ig_equals_saliency(name: str, fraction: float, max_dist: float) -> None:
    passes = passes_of(classifier(name))
    oracle = pair_maps(passes, PairGuidedIG(), x_steps=8, fraction=fraction, max_dist=max_dist)
    ours = passes.get(GuidedPath(8, fraction, max_dist, "mean_colour", "probability", "double")).attribution
    for found, wanted in zip(ours, oracle, strict=True):
        assert pearson(found.abs().sum(dim=0), wanted.abs().sum(dim=0)) > 0.999
    torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-9)


@pytest.mark.numeric
@pytest.mark.parametrize("precision", ["double", "native", "alone"])
def test_guided_ig_of_a_single_precision_network_draws_saliencys_map(precision: str) -> None:
    made = classifier("resnet")
    oracle = pair_maps(passes_of(made), PairGuidedIG(), x_steps=8, fraction=0.5, max_dist=1.0).abs().sum(dim=1)
    made.to("cpu", torch.float32)
    ours = GuidedIntegratedGradients(steps=8, precision=precision).explain(passes_of(made, pictures=images(2).float()))
    assert ours.dtype == torch.float32
    assert min(pearson(a, b) for a, b in zip(ours, oracle, strict=True)) > 0.999


def test_guided_ig_of_a_trained_network_does_not_depend_on_the_batch() -> None:
    """Single precision fails here: the second photo's map then correlates with itself at 0.47."""
    photos, preprocess = Photos(), Preprocess(224)
    pixels = torch.stack([preprocess.image(photos.read(i).image) for i in (0, 3)])
    network = efficientnet_lite.build_network("lite0")
    made = classifier_of(network, efficientnet_lite.IMAGE_MEAN, efficientnet_lite.IMAGE_STD).to("cpu", torch.float32)
    before = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    method = GuidedIntegratedGradients(steps=5)
    together = method.explain(Passes(made, pixels))[1:]
    alone = method.explain(Passes(made, pixels[1:]))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6 * float(alone.max()))
    assert before == {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}


@pytest.mark.numeric
@pytest.mark.parametrize("chunk", [1, 3])
def test_guided_ig_of_images_alone_is_the_same_to_the_bit_in_every_batch(chunk: int) -> None:
    made = classifier("resnet").to("cpu", torch.float32)
    pictures = images(4).float()
    method = GuidedIntegratedGradients(steps=6, precision="alone")
    together = method.explain(Passes(made, pictures, chunk=chunk))
    for i in range(4):
        assert torch.equal(method.explain(Passes(made, pictures[i : i + 1], chunk=32))[0], together[i])


def test_guided_ig_moves_features_of_small_gradient_first() -> None:
    """For score = exp(a) b the order decides who gets what: from (0, 0), a has gradient b = 0 and moves at no gain."""

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x[:, 0, 0, 0].exp() * x[:, 0, 0, 1] + 2 * x[:, 0, 0, 1]
            return torch.stack([score, -score], dim=1)

    made = classifier_of(Product(), mean=(0, 0, 0), std=(1, 1, 1))
    pictures = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64)
    pictures[0, 0, 0, :2] = 1
    method = GuidedIntegratedGradients(
        steps=50, fraction=0.0, max_dist=1.0, baseline="black", score="logit", reduction="sum"
    )
    found = method.explain(Passes(made, pictures, torch.tensor([0])))[0]
    expected = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    expected[0, 1] = math.e + 2  # all of the difference; plain IG would share it with the other pixel
    torch.testing.assert_close(found, expected)


def test_guided_ig_of_the_baseline_itself_is_zero() -> None:
    pictures = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.float64)
    pictures[1] = images(1)[0]
    maps = GuidedIntegratedGradients(steps=4, baseline="black").explain(passes_of(classifier("vit"), pictures=pictures))
    assert (maps[0] == 0).all()
    assert (maps[1] > 0).any()


def test_guided_ig_ends_where_gradients_are_not_numbers() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(x.sum(dim=(1, 2, 3)) * 0 - 1).sqrt(), x.sum(dim=(1, 2, 3))], dim=1)

    maps = GuidedIntegratedGradients(steps=3, score="logit").explain(passes_of(classifier_of(Broken())))
    assert maps.isnan().any()


# --- Blur IG --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_blur_ig_equals_saliency(name: str) -> None:
    passes = passes_of(classifier(name))
    oracle = pair_maps(passes, PairBlurIG(), max_sigma=12, steps=9, grad_step=0.01, batch_size=9)
    ours = passes.get(BlurPath(9, 12.0, 0.01, "mean_colour", "probability"))
    torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-10)
    assert pearson(BlurIntegratedGradients(steps=9, max_sigma=12).explain(passes), oracle.abs().sum(dim=1)) > 0.99999


def test_blur_ig_takes_images_that_are_not_square() -> None:
    made = classifier("resnet")
    passes = passes_of(made, pictures=images(2)[:, :, :, :20].contiguous())
    oracle = pair_maps(passes, PairBlurIG(), max_sigma=6, steps=5, grad_step=0.01, batch_size=5)
    ours = passes.get(BlurPath(5, 6.0, 0.01, "mean_colour", "probability"))
    torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-10)


@pytest.mark.numeric
def test_blur_ig_keeps_its_precision_in_single_precision() -> None:
    """The difference of two blurs that are 0.01 sigma apart is not taken between rounded images."""
    made = classifier("resnet")
    wanted = passes_of(made).get(BlurPath(9, 12.0, 0.01, "mean_colour", "probability"))
    made.to("cpu", torch.float32)
    found = passes_of(made, pictures=images(2).float()).get(BlurPath(9, 12.0, 0.01, "mean_colour", "probability"))
    assert float((found - wanted).norm() / wanted.norm()) < 1e-4


def test_blur_ig_adds_up_to_the_difference_from_the_blurred_image() -> None:
    made = classifier("vit")
    pictures = images(2)
    mean = torch.tensor(MEAN).double().view(3, 1, 1)
    passes = passes_of(made, pictures=pictures)
    method = BlurIntegratedGradients(steps=400, max_sigma=4, score="logit", reduction="sum")
    x = np.arange(SIDE)
    kernel = np.exp(-0.5 * (np.subtract.outer(x, x) / 4.0) ** 2) / math.sqrt(2 * math.pi * 16)
    matrix = torch.from_numpy(kernel)
    blurred = matrix @ (pictures - mean) @ matrix.T + mean
    difference = passes.score(made.logits(pictures)) - passes.score(made.logits(blurred))
    found = method.explain(passes).flatten(1).sum(dim=1)
    torch.testing.assert_close(found, difference, rtol=0, atol=0.03 * float(difference.abs().max()))


# --- extras ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_input_x_gradient_equals_captum(name: str) -> None:
    passes = passes_of(classifier(name))
    inputs = passes.classifier.normalise(passes.images).requires_grad_()
    oracle = CaptumInputXGradient(passes.classifier.network).attribute(inputs, target=passes.targets).detach()
    torch.testing.assert_close(InputXGradient().explain(passes), oracle.abs().sum(dim=1))


def test_smooth_grad_is_the_mean_gradient_of_noisy_copies() -> None:
    passes = passes_of(classifier("resnet"))
    expected = []
    for i, picture in enumerate(passes.images):
        total = torch.zeros_like(picture)
        for sample in range(3):
            noise = torch.randn(3, SIDE, SIDE, generator=generator(0, str(i), f"smooth_grad {sample}")).double()
            leaf = (picture + 0.2 * (picture.max() - picture.min()) * noise)[None].requires_grad_()
            (g,) = torch.autograd.grad(passes.classifier.logits(leaf)[0, passes.targets[i]], leaf)
            total += g[0]
        expected.append((total / 3).abs().sum(dim=0))
    torch.testing.assert_close(SmoothGrad(samples=3, spread=0.2).explain(passes), torch.stack(expected))


def test_rise_weighs_its_masks_by_what_is_seen_through_them() -> None:
    """For the score "value of one pixel", the expected map is the covariance of masks with that pixel's mask."""

    class OnePixel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, 12, 20], x[:, 0, 0, 0]], dim=1)

    made = classifier_of(OnePixel(), mean=(0, 0, 0), std=(1, 1, 1))
    method = Rise(masks=3000, cells=4, keep=0.5, score="logit")
    passes = Passes(made, torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0]), chunk=500)
    found = method.explain(passes)[0]
    assert divmod(int(found.argmax()), SIDE) == pytest.approx((12, 20), abs=2)
    # far from the pixel the masks are independent: E[M M'] / p = p
    assert float(found[25:, :8].mean()) == pytest.approx(0.5, abs=0.04)
    # E[M^2] / p at the pixel itself: bilinear weights w of four independent cells, E over the offset of sum of w^2
    fine = (torch.arange(8) + 0.5) / 8
    axis = ((1 - fine) ** 2 + fine**2).mean()
    second = 0.25 + 0.25 * float(axis**2)
    assert float(found[12, 20]) == pytest.approx(second / 0.5, abs=0.04)


def test_rise_with_every_cell_kept_is_the_score_itself() -> None:
    passes = passes_of(classifier("resnet"))
    expected = passes.score(passes.logits, kind="probability").view(2, 1, 1).expand(2, SIDE, SIDE)
    torch.testing.assert_close(Rise(masks=4, keep=1.0).explain(passes), expected)


# --- what holds for all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL.values(), ids=ALL)
@pytest.mark.parametrize("name", ["densenet", "vit"])
def test_maps_do_not_depend_on_batch_order_or_chunk(name: str, method: Explainer) -> None:
    made = classifier(name)
    pictures, targets, ids = images(4), torch.tensor([3, 1, 4, 1]), ["a", "b", "c", "d"]
    whole = method.explain(Passes(made, pictures, targets, ids=ids))
    assert whole.shape == (4, SIDE, SIDE)
    assert not any((m == m[0, 0]).all() for m in whole)
    order = [2, 0, 3, 1]
    turned = Passes(made, pictures[order], targets[order], ids=[ids[i] for i in order], chunk=3)
    torch.testing.assert_close(method.explain(turned), whole[order], rtol=1e-6, atol=1e-10)
    alone = Passes(made, pictures[1:2], targets[1:2], ids=ids[1:2], chunk=1)
    torch.testing.assert_close(method.explain(alone), whole[1:2], rtol=1e-6, atol=1e-10)


@dataclass
class Count:
    rows: int = 0
    calls: int = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.rows += len(inputs[0])
        self.calls += 1


COSTS = {"ig": 5, "gig": 5, "gig_pair": 5, "big": 5, "smooth_grad": 5, "input_x_gradient": 1, "rise": 11}


@pytest.mark.parametrize("key", ALL)
def test_each_step_of_each_image_passes_the_network_once(key: str) -> None:
    made = classifier("resnet")
    count = Count()
    handle = made.network.register_forward_pre_hook(count)
    passes = passes_of(made, 3, chunk=6)
    ALL[key].explain(passes)
    handle.remove()
    assert count.rows == 3 * COSTS[key]
    sequential = key in ("gig", "gig_pair")  # a step needs the one before
    assert count.calls == (COSTS[key] if sequential else math.ceil(COSTS[key] / 2))


def test_equal_paths_are_walked_once() -> None:
    passes = passes_of(classifier("resnet"))
    count = Count()
    handle = passes.classifier.network.register_forward_pre_hook(count)
    chosen: list[Any] = [ALL["ig"], ALL["gig"], ALL["big"]]
    for method in chosen:
        method.explain(passes)
        before = count.rows
        replace(method, reduction="sum", label="other").explain(passes)
        assert count.rows == before
    handle.remove()


@pytest.mark.parametrize("method", ALL.values(), ids=ALL)
def test_nothing_is_left_behind_also_after_an_exception(method: Explainer) -> None:
    made = classifier("resnet")
    passes = passes_of(made)
    method.explain(passes)
    modules = list(made.network.modules())
    assert traces(made.network) == []

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    handle = modules[-1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="device lost"):
        method.explain(passes_of(made))
    handle.remove()
    assert traces(made.network) == []
    assert not any(p.requires_grad or p.grad is not None for p in made.network.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(steps=0), "steps: expected an integer of at least 1, got 0"),
        (lambda: IntegratedGradients(rule="simpson"), "rule: expected .* got 'simpson'"),
        (lambda: IntegratedGradients(rule="endpoints", steps=0), "steps"),
        (
            lambda: IntegratedGradients(baseline="blur"),
            "baseline: expected one of mean_colour, black, white, got 'blur'",
        ),
        (lambda: IntegratedGradients(score="loss"), "score: expected one of logit, probability"),
        (lambda: GuidedIntegratedGradients(fraction=1.5), "fraction: expected a number from 0 to 1, got 1.5"),
        (lambda: GuidedIntegratedGradients(max_dist=-1), "max_dist"),
        (
            lambda: GuidedIntegratedGradients(precision="half"),
            "precision: expected one of double, native, alone, got 'half'",
        ),
        (lambda: BlurIntegratedGradients(max_sigma=0), "max_sigma: expected a number above 0"),
        (lambda: BlurIntegratedGradients(border="reflect"), "border: expected one of"),
        (lambda: BlurIntegratedGradients(reduction="mean"), "reduction: expected one of"),
        (lambda: SmoothGrad(samples=0), "samples"),
        (lambda: Rise(keep=0), "keep"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
