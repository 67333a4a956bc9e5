"""Randomised copies: which weights change, that the original never does, and that a seed tells everything."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from support.small_networks import CNNS, randomise, small_cnn, small_vit
from torch import Tensor, nn
from torchvision.models import vgg19

from dix.bench.sanity.randomise import Randomiser, layers_named, randomised, weight_layers
from dix.bench.sanity.series import MODES, depths
from dix.bench.sanity.settings import Sanity
from dix.classifier import Classifier, Weights
from dix.models.zoo import lenet5

LAYERS = {"last": "network.bn2", "second": "network.pool1", "third": "network.relu1"}
KINDS = [*CNNS, "vit", "lenet5"]


def classifier_of(kind: str) -> Classifier:
    if kind == "vit":
        return small_vit()
    if kind != "lenet5":
        return small_cnn(kind)
    made = lenet5("lenet5", LAYERS).to("cpu", torch.float64)
    randomise(made.network, seed=3)
    return made


def images_of(classifier: Classifier) -> Tensor:
    side = classifier.input_size
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(5)).to(classifier.mean)


def differing(first: Classifier, second: Classifier) -> set[str]:
    """Names of the parameters (not buffers) that are not bit-equal."""
    other = dict(second.network.named_parameters())
    return {name for name, tensor in first.network.named_parameters() if not torch.equal(tensor, other[name])}


def own_parameters(classifier: Classifier, modules: tuple[str, ...]) -> set[str]:
    return {
        f"{module}.{name}".lstrip(".")
        for module in modules
        for name, _ in classifier.network.get_submodule(module).named_parameters(recurse=False)
    }


@pytest.fixture(scope="module")
def vgg() -> Classifier:
    """VGG-19 in its real size, without memory for its weights."""
    with torch.device("meta"):
        network = vgg19(weights=None, init_weights=False)
    weights = Weights("none", trained=False)
    made = Classifier(
        "vgg19", network, mean=[0.5] * 3, std=[1] * 3, input_size=224, layers={}, kind="cnn", weights=weights
    )
    return made.to("meta")


def test_vgg19_has_nineteen_weight_layers_output_first(vgg: Classifier) -> None:
    names = [layer.name for layer in weight_layers(vgg)]
    assert len(names) == 19
    assert names[:4] == ["classifier.6", "classifier.3", "classifier.0", "features.34"]
    assert names[-1] == "features.0"
    assert all(layer.modules == (layer.name,) for layer in weight_layers(vgg))


def test_convolutions_alone(vgg: Classifier) -> None:
    names = [layer.name for layer in weight_layers(vgg, "conv")]
    assert len(names) == 16
    assert names == [layer.name for layer in weight_layers(vgg)][3:]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_belongs_to_exactly_one_layer(kind: str) -> None:
    classifier = classifier_of(kind)
    found = [name for layer in weight_layers(classifier) for name in sorted(own_parameters(classifier, layer.modules))]
    assert sorted(found) == sorted(name for name, _ in classifier.network.named_parameters())


def test_normalisation_goes_with_the_convolution_before_it() -> None:
    by_name = {layer.name: layer.modules for layer in weight_layers(small_cnn("resnet"))}
    assert by_name["conv1"] == ("conv1", "bn1")
    assert by_name["layer2.0.downsample.0"] == ("layer2.0.downsample.0", "layer2.0.downsample.1")


def test_class_token_and_positions_go_with_the_patch_embedding() -> None:
    layers = weight_layers(small_vit())
    assert layers[0].name == "head"
    assert layers[-1].name == "patch_embed.proj"
    assert "" in layers[-1].modules


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_named_layers_differ_and_the_original_stays_bit_equal(kind: str) -> None:
    classifier = classifier_of(kind)
    images = images_of(classifier)
    before, fingerprint = classifier.logits(images), classifier.fingerprint
    layers = weight_layers(classifier)
    chosen = [layers[0], layers[len(layers) // 2], layers[-1]]
    copy = randomised(classifier, [layer.name for layer in chosen], seed=0)
    expected = {name for layer in chosen for name in own_parameters(classifier, layer.modules)}
    assert differing(copy, classifier) == expected
    assert not torch.equal(copy.logits(images), before)
    assert torch.equal(classifier.logits(images), before)
    del classifier.__dict__["fingerprint"]
    assert classifier.fingerprint == fingerprint
    assert copy.fingerprint != fingerprint


def test_a_copy_of_nothing_gives_the_same_bits() -> None:
    classifier = small_cnn("resnet")
    images = images_of(classifier)
    assert torch.equal(randomised(classifier, [], seed=0).logits(images), classifier.logits(images))


def test_layers_are_put_back_when_the_next_copy_keeps_them() -> None:
    classifier = small_cnn("resnet")
    layers = weight_layers(classifier)
    randomiser = Randomiser(classifier, 0)
    randomiser.at(layers)
    second = randomiser.at(layers[3:4])
    assert differing(second, classifier) == own_parameters(classifier, layers[3].modules)
    images = images_of(classifier)
    assert torch.equal(randomiser.at([]).logits(images), classifier.logits(images))


def test_running_statistics_start_anew() -> None:
    copy = randomised(small_cnn("resnet"), ["conv1"], seed=0)
    state = copy.network.state_dict()
    assert torch.equal(state["bn1.running_mean"], torch.zeros_like(state["bn1.running_mean"]))
    assert torch.equal(state["bn1.running_var"], torch.ones_like(state["bn1.running_var"]))


def test_a_seed_tells_everything() -> None:
    classifier = small_cnn("vgg")
    torch.manual_seed(1)
    first = randomised(classifier, ["classifier.0"], seed=3)
    torch.manual_seed(2)
    assert not differing(randomised(classifier, ["classifier.0"], seed=3), first)
    assert differing(randomised(classifier, ["classifier.0"], seed=4), first) == {
        "classifier.0.weight",
        "classifier.0.bias",
    }


def test_a_layer_is_drawn_alike_alone_and_in_a_cascade() -> None:
    classifier = small_cnn("vgg")
    names = [layer.name for layer in weight_layers(classifier)]
    cascade = randomised(classifier, names[:3], seed=3).network.state_dict()
    alone = randomised(classifier, names[2:3], seed=3).network.state_dict()
    key = f"{names[2]}.weight"
    assert torch.equal(cascade[key], alone[key])


def test_layers_of_equal_shape_get_different_draws() -> None:
    state = randomised(small_cnn("vgg"), ["features.9", "features.11"], seed=3).network.state_dict()
    assert state["features.9.weight"].shape == state["features.11.weight"].shape
    assert not torch.equal(state["features.9.weight"], state["features.11.weight"])


def test_torchs_own_generator_is_left_as_it_was() -> None:
    classifier = small_cnn("convnext")
    before = torch.get_rng_state()
    randomised(classifier, [layer.name for layer in weight_layers(classifier)], seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precisions_draw_the_same_weights(dtype: torch.dtype) -> None:
    drawn = randomised(small_cnn("vgg", dtype), ["classifier.0"], seed=0).network.state_dict()["classifier.0.weight"]
    wide = randomised(small_cnn("vgg"), ["classifier.0"], seed=0).network.state_dict()["classifier.0.weight"]
    assert drawn.dtype == dtype
    assert torch.equal(drawn.double(), wide)


def test_torchs_default_is_uniform_within_one_over_the_root_of_fan_in() -> None:
    weight = randomised(small_cnn("vgg"), ["classifier.0"], seed=0).network.state_dict()["classifier.0.weight"]
    bound = (12 * 49) ** -0.5
    assert stats.kstest(weight.flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01


def test_he_is_normal_with_variance_two_over_fan_in_without_bias() -> None:
    state = randomised(small_cnn("vgg"), ["classifier.0"], seed=0, init="he").network.state_dict()
    weight = state["classifier.0.weight"].flatten().numpy()
    assert stats.kstest(weight, stats.norm(0, (2 / (12 * 49)) ** 0.5).cdf).pvalue > 0.01
    assert not state["classifier.0.bias"].any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("relu", r"layer 'relu' of resnet \(ReLU\) has no parameters to randomise; weight layers, output first: fc, "),
        ("layer9", "resnet has no layer 'layer9'"),
        ("bn1", r"layer 'bn1' of resnet \(BatchNorm2d\) is not a weight layer by itself"),
    ],
)
def test_what_cannot_be_randomised_is_said(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        randomised(small_cnn("resnet"), [name], seed=0)


def test_unknown_kinds_and_initialisations_are_said() -> None:
    classifier = small_cnn("vgg")
    with pytest.raises(ValueError, match=r"sanity.layers: expected one of all, conv, got 'fc'"):
        weight_layers(classifier, "fc")
    with pytest.raises(ValueError, match=r"sanity.init: expected one of torch, he, got 'xavier'"):
        Randomiser(classifier, 0, "xavier")


class Idle(nn.Module):
    """A network with a head that its forward pass does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, 4]."""
        return self.conv(images).mean(dim=(2, 3))


def test_parameters_that_no_forward_pass_reaches_are_said() -> None:
    made = Classifier(
        "idle",
        Idle(),
        mean=[0] * 3,
        std=[1] * 3,
        input_size=8,
        layers={"last": "conv"},
        kind="cnn",
        weights=Weights("random", trained=False),
    )
    with pytest.raises(ValueError, match="idle: unused: parameters of modules that do not run"):
        weight_layers(made)


def test_modes_choose_the_last_k_or_the_kth() -> None:
    layers = layers_named(small_cnn("vgg"), ["classifier.3", "classifier.0", "features.11"])
    assert [layer.name for layer in MODES["cascading"](layers, 2)] == ["classifier.3", "classifier.0"]
    assert [layer.name for layer in MODES["independent"](layers, 2)] == ["classifier.0"]
    assert MODES["cascading"](layers, 0) == MODES["independent"](layers, 0) == []


def test_depths() -> None:
    assert depths(Sanity(), 5) == (0, 1, 2, 3, 4, 5)
    assert depths(Sanity(every=2), 5) == (0, 2, 4, 5)
    assert depths(Sanity(depths=[4, 1]), 5) == (0, 1, 4)
    with pytest.raises(ValueError, match=r"sanity.depths: expected 0 to 5 \(the network's weight layers\), got 6"):
        depths(Sanity(depths=[6]), 5)
