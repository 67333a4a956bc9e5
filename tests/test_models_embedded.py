"""The networks whose weights installed packages carry, and the seeded LeNet-5."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import dix
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.models import efficientnet_lite, embedded_vit, lenet, vit_backbone
from dix.models.carried import CarriedFile
from dix.models.few_shot_head import FewShotHead, load_head

Build = Callable[[], nn.Module]
TOKENS = "/backbone/layernorm/Add_1_output_0"  #: what the decoder of the ONNX graph reads
HEAD_FILE = Path(dix.__file__).parent / "models" / "embedded_vit_head.npz"


def labelled_photos() -> tuple[list[int], list[int]]:
    labels = Photos().labels
    indices = [index for index, label in enumerate(labels) if label is not None]
    return indices, [label for label in labels if label is not None]


def pixels(indices: list[int], preprocess: Preprocess, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    images = torch.stack([preprocess.image(Photos().read(index).image) for index in indices])
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@torch.no_grad()
def predicted(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(chunk) for chunk in images.split(5)]).argmax(dim=1)


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return embedded_vit.build_network()


@pytest.fixture(scope="module")
def vit_pixels() -> Tensor:
    return pixels(labelled_photos()[0], Preprocess(), embedded_vit.IMAGE_MEAN, embedded_vit.IMAGE_STD)


@pytest.fixture
def global_random_state() -> Iterator[None]:
    """Fails the test if it leaves torch's global generator in another state."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


def onnx_tokens(image: np.ndarray) -> np.ndarray:
    """The graph's own tokens, computed in NumPy by ONNX's reference evaluator."""
    model = onnx.load_model_from_string(vit_backbone.SOURCE.read())
    last = next(index for index, node in enumerate(model.graph.node) if TOKENS in node.output)
    del model.graph.node[last + 1 :], model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(TOKENS, onnx.TensorProto.FLOAT, None))
    (tokens,) = ReferenceEvaluator(model).run([TOKENS], {"input_image": image})
    return np.asarray(tokens)


@torch.no_grad()
@pytest.mark.numeric
def test_vit_tokens_are_those_of_the_onnx_graph(vit: nn.Module, vit_pixels: Tensor) -> None:
    image = vit_pixels[:1]
    tokens = vit.forward_features(image)  # type: ignore[operator]
    assert tokens.shape == (1, 257, 384)
    np.testing.assert_allclose(tokens.numpy(), onnx_tokens(image.numpy()), rtol=0, atol=1e-4)


def test_vit_head_is_right_on_every_labelled_photo(vit: nn.Module, vit_pixels: Tensor) -> None:
    labels = labelled_photos()[1]
    assert len(labels) == 24
    assert [embedded_vit.CLASSES[output] for output in predicted(vit, vit_pixels)] == labels


@torch.no_grad()
@pytest.mark.numeric
def test_vit_logits_are_the_head_on_the_standardised_cls_token(vit: nn.Module, vit_pixels: Tensor) -> None:
    images, head = vit_pixels[:2], embedded_vit.HEAD
    token = vit.forward_features(images)[:, 0].double().numpy()  # type: ignore[operator]
    expected = (token - head.mean) / head.std @ head.weight.astype(np.float64).T + head.bias
    np.testing.assert_allclose(vit(images).numpy(), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_vit_shows_its_attention(vit: nn.Module, vit_pixels: Tensor) -> None:
    seen: list[Tensor] = []
    hooks = [
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for block in vit.get_submodule("blocks").children()
    ]
    vit(vit_pixels[:1])
    for hook in hooks:
        hook.remove()
    assert [tuple(attention.shape) for attention in seen] == [(1, 6, 257, 257)] * 12
    torch.testing.assert_close(torch.stack(seen).sum(dim=-1), torch.ones(12, 1, 6, 257))


def test_vit_is_a_plain_network_in_evaluation_mode(vit: nn.Module) -> None:
    assert type(vit.head) is nn.Linear
    assert not any(module.training for module in vit.modules())
    assert {parameter.dtype for parameter in vit.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in vit.parameters()} == {"cpu"}


def test_head_file_is_small_and_says_what_it_is() -> None:
    head = load_head(HEAD_FILE)
    assert HEAD_FILE.stat().st_size <= 50_000
    assert set(labelled_photos()[1]) <= set(head.classes)
    assert head.classes == tuple(sorted(set(head.classes)))
    assert head.weight.shape == (len(head.classes), 384)
    assert "nothing about unseen instances" in head.facts["note"]
    assert head.facts["backbone_sha256"] == embedded_vit.SHA256
    assert sorted(set(head.facts["photos"].values())) == list(head.classes)


def test_head_survives_its_file_and_equal_heads_give_equal_bytes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    head = FewShotHead((3, 7), *(random.random(shape) for shape in ((2, 5), 2, 5, 5)), facts={"note": "n"})  # type: ignore[misc]
    files = [tmp_path / name for name in ("a.npz", "b.npz")]
    for file in files:
        head.save(file)
    read = load_head(files[0])
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (read.classes, read.facts) == (head.classes, head.facts)
    np.testing.assert_array_equal(read.weight, head.weight.astype(np.float32))


def foolbox_hits(network: nn.Module, preprocess: Preprocess) -> int:
    images = pixels(list(range(20)), preprocess, efficientnet_lite.IMAGE_MEAN, efficientnet_lite.IMAGE_STD)
    labels = torch.tensor([label for label in Photos().labels[:20] if label is not None])
    return int((predicted(network, images) == labels).sum())


@pytest.mark.parametrize(
    ("preprocess", "hits"),
    [
        # Wrong with its own preprocessing: both jeeps. With the direct resize: buckeye, spoonbill and one jeep.
        (Preprocess(224, "crop", efficientnet_lite.CROP, efficientnet_lite.INTERPOLATION), 18),
        (Preprocess(224), 17),
    ],
    ids=["own", "direct"],
)
def test_lite0_names_foolbox_photos(preprocess: Preprocess, hits: int) -> None:
    assert foolbox_hits(efficientnet_lite.build_network("lite0"), preprocess) == hits


@pytest.mark.parametrize("variant", ["lite1", "lite2"])
def test_larger_lites_name_foolbox_photos(variant: efficientnet_lite.Variant) -> None:
    release = efficientnet_lite.RELEASES[variant]
    pytest.importorskip(release.source.package, reason=f"{release.source.distribution} is optional")
    size = release.image_size
    preprocess = Preprocess(size, "crop", efficientnet_lite.CROP, efficientnet_lite.INTERPOLATION)
    assert foolbox_hits(efficientnet_lite.build_network(variant), preprocess) >= 18


def test_unknown_variant_is_named() -> None:
    with pytest.raises(ValueError, match=r"variant: expected one of lite0, lite1, lite2, got 'lite9'"):
        efficientnet_lite.build_network("lite9")  # type: ignore[arg-type]


@pytest.mark.usefixtures("global_random_state")
def test_builders_leave_the_global_generator_alone() -> None:
    embedded_vit.build_network()
    efficientnet_lite.build_network()
    lenet.build_network(1)


SOURCES = [
    pytest.param(vit_backbone.SOURCE, vit_backbone.build_backbone, id="vit"),
    pytest.param(efficientnet_lite.RELEASES["lite0"].source, efficientnet_lite.build_network, id="lite0"),
]


@pytest.mark.parametrize(("source", "build"), SOURCES)
def test_missing_package_is_named_with_the_remedy(
    source: CarriedFile, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, source.package, None)
    with pytest.raises(ValueError, match=rf"the package {source.distribution}.*`dix data prepare embedded`"):
        build()


@pytest.mark.parametrize("damage", [None, b"", b"0" * 1000], ids=["absent", "empty", "other"])
@pytest.mark.parametrize(("source", "build"), SOURCES)
def test_damaged_file_is_named_with_the_remedy(
    source: CarriedFile,
    build: Build,
    damage: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / source.package / source.path
    file.parent.mkdir(parents=True)
    (tmp_path / source.package / "__init__.py").touch()
    if damage is not None:
        file.write_bytes(damage)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=rf"expected {file} .*{source.distribution}.*`dix data prepare embedded`"):
        build()


def test_truncated_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = efficientnet_lite.RELEASES["lite0"].source
    file = tmp_path / source.package / source.path
    file.parent.mkdir(parents=True)
    (tmp_path / source.package / "__init__.py").touch()
    shutil.copyfile(source.locate(), file)
    with file.open("rb+") as opened:
        opened.truncate(1_000_000)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"1000000 bytes: truncated, corrupt or of another version"):
        efficientnet_lite.build_network()


def test_lenet_has_the_published_shapes_and_named_stages() -> None:
    network, shapes = lenet.build_network(), {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)}))
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert [shapes[name] for name in ("conv1", "pool1")] == [(2, 6, 28, 28), (2, 6, 14, 14)]
    assert [shapes[name] for name in ("bn2", "relu2", "pool2")] == [(2, 16, 10, 10), (2, 16, 10, 10), (2, 16, 5, 5)]
    assert [shapes[name] for name in ("flatten", "fc1", "fc2")] == [(2, 400), (2, 120), (2, 84)]
    assert sum(parameter.numel() for parameter in network.parameters()) == 61_706 + 2 * (6 + 16)


def test_lenet_keeps_the_features_before_the_relu() -> None:
    network, seen = lenet.build_network(), {}
    for name in ("bn2", "relu2"):
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    network(torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert (seen["bn2"] < 0).any()
    torch.testing.assert_close(seen["relu2"], seen["bn2"].clamp(min=0))


def test_lenet_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (lenet.build_network(seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc3.weight"], other["fc3.weight"])


def test_lenet_weights_fill_torchs_default_interval() -> None:
    network = lenet.build_network(0, num_classes=3, in_channels=2)
    assert network(torch.zeros(1, 2, 32, 32)).shape == (1, 3)
    for name, fan_in in [("conv1", 50), ("conv2", 150), ("fc1", 400), ("fc2", 120)]:
        weight = network.get_submodule(name).weight
        assert weight.abs().max() <= fan_in**-0.5
        assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)
