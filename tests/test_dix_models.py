"""Every backbone that a configuration file names: tails, completeness of the integral, and models left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from hydra.utils import instantiate
from support.small_networks import pixels
from torch import Tensor, nn

from dix.classifier import Classifier
from dix.explainer import Dix, LayerSums, PathIntegral
from dix.models import zoo
from dix.models.densenet import NamedReluDenseNet
from dix.models.structure import structure
from dix.passes import Passes
from dix.released import Released

CONF = Path(zoo.__file__).parents[2] / "conf" / "model"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))
ALIASES = ("last", "second", "third")
#: Convolutional networks take smaller images: the same layers at a twelfth of the cost.
SMALL = 64


def configured(name: str) -> Classifier:
    """The classifier of a configuration file, with seeded random weights where its own would be fetched."""
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    if settings.get("weights") == "pretrained":
        settings["weights"] = "random"
    if settings["_target_"].endswith("torchvision_model"):
        settings["input_size"] = SMALL
    return instantiate(settings)


#: Of logits in single precision: 200 layers (DenseNet-201) sum up to 2,000 terms each, and the errors of 200 x 2,000
#: roundings add up like a random walk (630), with some to spare. A wrong tail is wrong by a share of the logits.
TOLERANCE = 1024 * 2.0**-24


@pytest.fixture(scope="module", params=NAMES)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return configured(request.param)


def images_for(classifier: Classifier, count: int = 1) -> Tensor:
    return pixels(count, classifier.input_size, torch.float32)


def test_tails_are_the_rest_of_the_network(classifier: Classifier) -> None:
    """Within rounding of the largest logit (random deep networks have logits of any size)."""
    images = images_for(classifier, 2)
    passes = Passes(classifier, images)
    assert list(classifier.layers) == list(ALIASES)
    expected = classifier.logits(images)
    for layer in [*ALIASES, *classifier.attention_layers[-3:]]:
        found = classifier.tail(layer).logits(passes.activation(layer), passes.context(layer))
        assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.numeric
def test_tails_take_rows_of_any_image(classifier: Classifier) -> None:
    images = images_for(classifier, 2)
    passes = Passes(classifier, images)
    expected = classifier.logits(images)
    rows = torch.tensor([1, 0, 1])
    for layer in [*ALIASES, *classifier.attention_layers[-1:]]:
        found = classifier.tail(layer).logits(passes.activation(layer)[rows], passes.context(layer), rows)
        assert (found - expected[rows]).abs().max() <= TOLERANCE * expected.abs().max()


def test_the_last_three_layers_have_rising_resolution(classifier: Classifier) -> None:
    passes = Passes(classifier, images_for(classifier))
    shapes = [passes.activation(alias).shape[2:] for alias in ALIASES]
    if classifier.kind == "vit" or classifier.name == "planted":  # a linear network that pools nothing
        assert shapes[0] == shapes[1] == shapes[2]
    else:
        assert shapes[0] < shapes[1] < shapes[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_integral_is_complete(name: str) -> None:
    """Eq. 1 with N = 200 midpoints: attributions with phi = g sum to f(x) - f(z), within 1e-3 of the difference.

    Weights are random (the embedded networks' trained). A ViT's path is that of the attention matrices, from zero; a
    CNN's that of the activations, from channel minima. Differences below a twentieth of the logits' range count as
    that. The EfficientNets' gradients jump too often along the path (ReLU6 has two kinks): there it is 1e-2 of the
    logits' range, and 3e-4 of the difference only at N = 3200 (measured for Lite1).
    """
    classifier = configured(name)
    passes = Passes(classifier, images_for(classifier))
    share, tolerance = (1.0, 1e-2) if name.startswith("efficientnet") else (0.05, 1e-3)
    is_vit = classifier.kind == "vit"
    layers = classifier.attention_layers[-3:] if is_vit else ALIASES
    for layer in layers:
        h, sums = passes.get(LayerSums(layer, PathIntegral(200, "midpoint", "zero" if is_vit else "channel_min")))
        z = passes.activation(layer) - h
        with torch.no_grad():
            empty = passes.score(classifier.tail(layer).logits(z, passes.context(layer)))
        expected = float(passes.score(passes.logits) - empty)
        found = float((h * sums["gradient"]).double().sum())
        scale = max(abs(expected), share * float(passes.logits.max() - passes.logits.min()))
        assert abs(found - expected) <= tolerance * scale, (layer, found, expected)


def hooks_of(network: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def state_of(network: nn.Module) -> list[object]:
    """Everything about a network that explaining could leave behind."""
    flags = [(m.training, "forward" in m.__dict__) for m in network.modules()]
    return [hooks_of(network), flags, [(p.requires_grad, p.grad) for p in network.parameters()]]


def test_explaining_leaves_the_model_as_it_was(classifier: Classifier) -> None:
    images = images_for(classifier)
    before, state = classifier.logits(images), state_of(classifier.network)
    passes = Passes(classifier, images)
    assert torch.equal(passes.logits, before)
    for method in (Dix(path=PathIntegral(steps=2)), Released(depth=2)):
        if not method.unsupported(classifier):
            method.explain(passes)
    assert state_of(classifier.network) == state
    assert torch.equal(classifier.logits(images), before)


def test_densenet_is_torchvisions() -> None:
    """The named ReLU changes no bit of torchvision's own logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        original = torchvision.models.densenet201(weights=None).eval()
    images = pixels(2, SMALL, torch.float32)
    with torch.no_grad():
        expected = original(images)
        found = NamedReluDenseNet(original)(images)
    assert torch.equal(found, expected)


def test_densenets_last_layer_is_behind_its_relu() -> None:
    classifier = configured("densenet201")
    passes = Passes(classifier, images_for(classifier))
    last = passes.activation("last")
    assert last.shape[1] == 1920
    assert (last >= 0).all()
    assert torch.equal(last, passes.activation("features.norm5").relu())


def test_lenets_layers_are_its_stages() -> None:
    """The features before the second ReLU (the data-randomisation test's layer), the first pooling, the first ReLU."""
    classifier = configured("lenet5")
    images = pixels(2, 32, torch.float32)
    passes = Passes(classifier, images)
    grey = images.mean(dim=1, keepdim=True)
    net = classifier.network.network
    first = net.bn1(net.conv1(grey)).relu()
    pooled = torch.nn.functional.avg_pool2d(first, 2)
    torch.testing.assert_close(passes.activation("third"), first)
    torch.testing.assert_close(passes.activation("second"), pooled)
    torch.testing.assert_close(passes.activation("last"), net.bn2(net.conv2(pooled)))
    assert [passes.activation(a).shape[1:] for a in ALIASES] == [(16, 10, 10), (6, 14, 14), (6, 28, 28)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", {"last": "layer4", "second": "layer3", "third": "layer2"}),
        ("densenet201", {"last": "relu5", "second": "features.denseblock3", "third": "features.denseblock2"}),
        ("efficientnet_lite0", {"last": "bn2", "second": "blocks.4", "third": "blocks.2"}),
        ("convnext_base", {"last": "features.7", "second": "features.5", "third": "features.3"}),
        ("vit_small", {"last": "blocks.11.norm1", "second": "blocks.10.norm1", "third": "blocks.9.norm1"}),
    ],
)
def test_layers_are_found_where_none_are_named(name: str, expected: dict[str, str]) -> None:
    """At 64 pixels ResNet's last layer has 2 x 2 places, and each sees a spot anywhere: nothing tells them apart."""
    classifier = configured(name)
    found = structure(classifier.network, max(classifier.input_size, 96))
    assert (found.kind, found.layouts) == (classifier.kind, {})
    assert {alias: found.layers[alias] for alias in ALIASES} == expected


def test_any_torchvision_or_timm_model_needs_no_layers() -> None:
    """A model that no configuration file names explains itself with the layers found."""
    for classifier in (
        zoo.torchvision_model("m", "mobilenet_v3_small", weights="random", input_size=SMALL),
        zoo.timm_model("r", "resnet10t.c3_in1k", weights="random", input_size=SMALL),
    ):
        method = Dix(path=PathIntegral(steps=2))
        assert method.unsupported(classifier) == ""
        found = method.explain(Passes(classifier, images_for(classifier)))
        assert found.shape == (1, SMALL, SMALL)
        assert found.max() > found.min()


def test_a_missing_layer_is_a_reason_to_skip() -> None:
    classifier = zoo.torchvision_model(
        "r", "resnet18", {"last": "layer4", "second": "layer3"}, weights="random", input_size=SMALL
    )
    assert Dix(depth=2).unsupported(classifier) == ""
    assert Dix(depth=3).unsupported(classifier) == "the model names no layer third"
    assert Released(depth=3).unsupported(classifier) == "the model names no layer third"
