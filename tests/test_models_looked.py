"""What a network takes and answers: recognised and put right, or refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dix.baselines.cam import GradCam
from dix.bench.run.batch import predict
from dix.classifier import Classifier, Weights
from dix.look import spotted
from dix.metrics.answers import by_image
from dix.metrics.api import ImageBatch
from dix.metrics.classes import reading
from dix.models import zoo
from dix.models.looked import looked
from dix.passes import Passes

SIDE = 32


def body(classes: int, channels: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


class Around(nn.Module):
    """A network whose answer is changed."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images: Tensor) -> object:
        return self.change(self.network(images))


def made(network: nn.Module, last: str = "3", space: str | None = None, **options: object) -> Classifier:
    weights = Weights("random", trained=False)
    return Classifier(
        "odd", network, mean=[0.5] * 3, std=[0.5] * 3, input_size=SIDE, layers={"last": last}, kind="cnn",
        weights=weights, label_space=space, **options,
    )  # fmt: skip


def images() -> Tensor:
    return spotted(SIDE).sigmoid()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda z: {"logits": z, "features": z}, "logits of a dict"),
        (lambda z: {"scores": z}, "logits of a dict"),
        (lambda z: (z, z.sum()), "first of a tuple"),
    ],
    ids=["dict", "dict of one", "tuple"],
)
def test_logits_are_taken_out_of_what_holds_them(change: Callable[[Tensor], object], said: str) -> None:
    network = body(5)
    classifier = looked(made(Around(network, change), "network.3"))
    assert classifier.answers == said
    assert torch.equal(classifier.logits(images()), network(classifier.normalise(images())))
    assert torch.equal(classifier.tail("last").logits(Passes(classifier, images()).activation("last")),
                       classifier.logits(images()))  # fmt: skip


@pytest.mark.parametrize("shape", ["column", "flat"])
def test_one_logit_means_a_sigmoid(shape: str) -> None:
    network = body(1)
    whole = network if shape == "column" else Around(network, lambda z: z.squeeze(1))
    classifier = looked(made(whole, "3" if shape == "column" else "network.3"))
    bare = body(1)
    z = bare(classifier.normalise(images()))[:, 0]
    expected = torch.stack([1 - z.sigmoid(), z.sigmoid()], dim=1)
    torch.testing.assert_close(classifier.logits(images()).softmax(dim=1), expected)
    assert classifier.answers.endswith("sigmoid of one logit")
    passes = Passes(classifier, images(), torch.ones(7, dtype=torch.int64))
    own = torch.autograd.grad(bare[4:](leaf := passes.activation("last").requires_grad_()).sum(), leaf)[0]
    torch.testing.assert_close(passes.gradient("last"), own)


def test_a_sigmoid_behind_one_logit_is_not_taken_twice() -> None:
    classifier = looked(made(nn.Sequential(*body(1), nn.Sigmoid())))
    z = body(1)(classifier.normalise(images()))[:, 0]
    expected = torch.stack([1 - z.sigmoid(), z.sigmoid()], dim=1)
    torch.testing.assert_close(classifier.probabilities(classifier.logits(images())), expected)
    assert classifier.answers == "sigmoid inside, sigmoid of one logit"


@pytest.mark.parametrize("inside", [False, True], ids=["logits", "sigmoid inside"])
def test_a_multi_label_head_has_a_sigmoid_for_each_class(inside: bool) -> None:
    network = body(5)
    whole = nn.Sequential(*network, nn.Sigmoid()) if inside else network
    classifier = looked(made(whole, probability="sigmoid"))
    z = body(5)(classifier.normalise(images()))
    torch.testing.assert_close(classifier.logits(images()), z, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(classifier.probabilities(classifier.logits(images())), z.sigmoid())
    assert classifier.identity()["probability"] == "sigmoid"
    targets = torch.arange(7) % 5
    said = predict(classifier, images(), targets, 3)
    rows = torch.arange(7)
    torch.testing.assert_close(said.probability, z.sigmoid()[rows, targets])
    assert torch.equal(said.predicted, z.argmax(dim=1))
    batch = ImageBatch([str(i) for i in range(7)], images(), targets, said, (targets + 1) % 5)
    torch.testing.assert_close(reading(batch, said, "label"), z.sigmoid()[rows, (targets + 1) % 5])
    trace = by_image(predict(classifier, images()[:6], targets[:6], 6), 2)
    clean = predict(classifier, images()[:3], targets[:3], 3)
    three = replace(batch, ids=batch.ids[:3], labels=targets[1:4], clean=clean)
    expected = z.sigmoid()[:6].view(3, 2, 5).gather(2, targets[1:4].view(3, 1, 1).expand(3, 2, 1))[..., 0]
    torch.testing.assert_close(reading(three, trace, "label"), expected)
    passes = Passes(classifier, images(), targets)
    torch.testing.assert_close(passes.score(passes.logits, kind="probability"), z.sigmoid()[rows, targets])


def test_what_a_head_is_gets_said_and_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"ends in a sigmoid for each class; say model.probability=sigmoid"):
        looked(made(nn.Sequential(*body(5), nn.Sigmoid())))
    with pytest.raises(ValueError, match="sigmoid, but the network ends in a softmax"):
        looked(made(nn.Sequential(*body(5), nn.Softmax(dim=1)), probability="sigmoid"))
    with pytest.raises(ValueError, match="expected softmax or sigmoid, got 'argmax'"):
        made(body(5), probability="argmax")
    model = zoo.timm_model("heads", "resnet10t", weights="random", arguments={"num_classes": 3}, probability="sigmoid")
    assert (model.probability, model.label_space) == ("sigmoid", None)


def test_a_softmax_inside_is_not_taken_twice() -> None:
    network = body(5)
    classifier = looked(made(nn.Sequential(*network, nn.Softmax(dim=1))))
    expected = network(classifier.normalise(images())).softmax(dim=1)
    torch.testing.assert_close(classifier.logits(images()).softmax(dim=1), expected)
    assert classifier.answers == "softmax inside"
    assert classifier.identity()["answers"] == "softmax inside"


def test_grey_networks_are_shown_the_mean_of_the_channels() -> None:
    network = body(5, channels=1)
    classifier = looked(made(network))
    assert classifier.answers == "grey input"
    bare = body(5, channels=1)
    expected = bare(classifier.normalise(images()).mean(dim=1, keepdim=True))
    torch.testing.assert_close(classifier.logits(images()), expected)
    assert GradCam().explain(Passes(classifier, images())).shape == (7, 4, 4)


def test_wrappers_are_taken_off() -> None:
    network = body(5)
    for wrapped, last in (
        (nn.DataParallel(network), "module.3"),
        (torch.compile(network, backend="eager"), "_orig_mod.3"),
    ):
        classifier = looked(made(wrapped, last))
        assert classifier.network is network
        assert classifier.layers == {"last": "3"}


def test_torchscript_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch advises against it, too
        traced = torch.jit.trace(body(5), images())
    with pytest.raises(ValueError, match="TorchScript cannot be watched"):
        made(traced)


def test_the_number_of_outputs_must_fit_the_labels() -> None:
    with pytest.raises(ValueError, match="10 outputs, but 1000 classes in the label space imagenet"):
        looked(made(body(10), space="imagenet"))
    with pytest.raises(ValueError, match="10 outputs, but 3 classes are listed"):
        looked(made(body(10), space="imagenet", classes=[4, 5, 6]))
    assert looked(made(body(10), space="mnist")).label_space == "mnist"
    assert looked(made(body(3), space="imagenet", classes=[4, 5, 6])).classes == (4, 5, 6)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Around(body(5), lambda z: z[:, :, None]), r"expected logits \[1, classes\] for one image, got \(1, 5, 1\)"),
        (Around(body(5), lambda z: "five"), r"expected logits \[1, classes\] for one image, got str"),
        (
            nn.Sequential(nn.Conv2d(7, 2, 3), nn.ReLU(), nn.ReLU(), nn.ReLU()),
            "the network fails on an image of 32 x 32",
        ),
    ],
    ids=["three axes", "text", "seven channels"],
)
def test_what_cannot_be_a_classifier_is_refused(network: nn.Module, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        looked(made(network, "network.3" if isinstance(network, Around) else "3"))


def test_layers_are_found_where_the_builder_names_none() -> None:
    classifier = Classifier(
        "odd", body(5), mean=[0.5], std=[0.5], input_size=SIDE, layers={}, kind="cnn",
        weights=Weights("random", trained=False), label_space=None,
    )  # fmt: skip
    assert looked(classifier).layers["last"] == "3"
    assert looked(classifier) is classifier


@pytest.mark.parametrize(
    ("architecture", "size", "arguments"), [("efficientnet_b1", 240, {}), ("googlenet", 224, {"init_weights": False})]
)
def test_torchvisions_own_settings_come_with_its_weights(
    architecture: str, size: int, arguments: dict[str, object]
) -> None:
    """Sizes and means as torchvision's documentation states them."""
    classifier = zoo.torchvision_model("m", architecture, weights="random", arguments=arguments)
    assert classifier.input_size == size
    assert float(classifier.mean[0, 0]) == pytest.approx(0.485)
    assert getattr(classifier.network, "transform_input", True)
    assert classifier.label_space == "imagenet"


@pytest.mark.parametrize(
    ("architecture", "size", "crop", "interpolation", "mean"),
    [
        ("efficientnet_v2_l", 480, 1.0, "bicubic", 0.5),
        ("efficientnet_b4", 380, 380 / 384, "bicubic", 0.485),
        ("swin_v2_t", 256, 256 / 260, "bicubic", 0.485),
    ],
)
def test_a_set_of_weights_brings_its_own_settings(
    architecture: str, size: int, crop: float, interpolation: str, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchvision's documentation states them; another network stands in, since the builder's would take seconds."""
    monkeypatch.setattr(torchvision.models, "get_model_builder", lambda _name: lambda weights: body(1000))
    classifier = zoo.torchvision_model("m", architecture, weights="random")
    assert classifier.input_size == size
    assert classifier.recommended["crop_pct"] == pytest.approx(crop)
    assert classifier.recommended["interpolation"] == interpolation
    assert float(classifier.mean[0, 0]) == pytest.approx(mean)


def test_a_network_without_a_head_has_no_labels() -> None:
    small = {"img_size": 56, "depth": 2}
    features = zoo.timm_model("m", "eva02_tiny_patch14_224", weights="random", input_size=56, arguments=small)
    assert (features.logits(torch.rand(1, 3, 56, 56)).shape, features.label_space) == ((1, 192), None)


def test_arguments_of_a_builder_and_labels_that_mean_something_else() -> None:
    three = zoo.torchvision_model("m", "resnet18", weights="random", input_size=64, arguments={"num_classes": 3})
    assert (three.logits(torch.rand(1, 3, 64, 64)).shape, three.label_space) == ((1, 3), None)
    small = {"img_size": 64, "depth": 2}
    many = zoo.timm_model("m", "vit_tiny_patch16_224.augreg_in21k", weights="random", input_size=64, arguments=small)
    assert (many.logits(torch.rand(1, 3, 64, 64)).shape, many.label_space) == ((1, 21843), None)
    with pytest.raises(ValueError, match=r"model.tag: torchvision's resnet18 has IMAGENET1K_V1, got 'none'"):
        zoo.torchvision_model("m", "resnet18", tag="none", weights="random")


def test_a_saved_file_of_a_publishers_network_keeps_its_settings(tmp_path: Path) -> None:
    first = zoo.torchvision_model("m", "mobilenet_v3_small", weights="random", seed=1)
    torch.save(first.network.state_dict(), tmp_path / "weights.pth")
    again = zoo.torchvision_model("m", "mobilenet_v3_small", weights=str(tmp_path / "weights.pth"))
    assert again.fingerprint == first.fingerprint
    assert again.input_size == first.input_size == 224
