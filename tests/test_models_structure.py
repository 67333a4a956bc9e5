"""What a network is, found by looking: layouts, layers, attention, readout; on small networks of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from support.random_weights import seeded
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from dix.baselines.attention import Gae
from dix.baselines.cam import GradCam
from dix.classifier import Classifier, Weights
from dix.explainer import Dix, Explainer, PathIntegral, Rollout
from dix.layout import CHANNELS_FIRST, BatchSecond, ChannelsLast, Layout, Tokens
from dix.look import SPOTS, follows, look, sight, spotted
from dix.models.structure import Structure, structure
from dix.passes import Passes

SIDE = 64
VIT = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 3, "num_classes": 5}


def classifier_of(network: nn.Module, found: Structure, side: int = SIDE) -> Classifier:
    return Classifier(
        "small", network, mean=(0.5,) * 3, std=(0.25,) * 3, input_size=side, layers=found.layers, kind=found.kind,
        weights=Weights("random", trained=False), layouts=found.layouts, attention=found.attention,
    )  # fmt: skip


def swin() -> nn.Module:
    return SwinTransformer([2, 2], 12, [2, 2, 2], [3, 3, 3], [4, 4], num_classes=5)


def timm_swin() -> nn.Module:
    shape = {"img_size": SIDE, "patch_size": 2, "window_size": 4, "embed_dim": 12}
    return timm.models.SwinTransformer(**shape, depths=(2, 2, 2), num_heads=(3, 3, 3), num_classes=5)


HIERARCHIES = {"torchvision swin": swin, "timm swin": timm_swin}
ALIKE = {
    "mixer": lambda: timm.models.MlpMixer(num_classes=5, img_size=SIDE, patch_size=8, num_blocks=4, embed_dim=24),
    "xcit": lambda: timm.models.xcit.Xcit(
        img_size=SIDE, patch_size=8, embed_dim=24, depth=4, num_heads=3, num_classes=5
    ),
}
#: By network, the tokens before the patches, and those whose mean the head reads.
READOUTS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "class token": (lambda: VisionTransformer(**VIT), 1, (0,)),
    "registers, class token": (lambda: VisionTransformer(**VIT, reg_tokens=4), 5, (0,)),
    "mean of patches": (lambda: VisionTransformer(**VIT, global_pool="avg", class_token=False), 0, tuple(range(64))),
    "registers, mean of patches": (
        lambda: VisionTransformer(**VIT, global_pool="avg", class_token=False, reg_tokens=4), 4, tuple(range(4, 68)),
    ),
    "beit": (lambda: Beit(**VIT, use_abs_pos_emb=True), 1, tuple(range(1, 65))),
    "eva": (lambda: Eva(**VIT), 1, tuple(range(1, 65))),
    "distilled": (lambda: timm.models.deit.VisionTransformerDistilled(**VIT), 2, (0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", HIERARCHIES)
def test_stages_of_a_hierarchy_are_found_and_lie_right(name: str) -> None:
    network = seeded(HIERARCHIES[name])
    found = structure(network, SIDE)
    assert found.kind == "cnn"
    classifier = classifier_of(network, found)
    passes = Passes(classifier, torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))
    sides = [passes.activation(alias).shape[-1] for alias in ("last", "second", "third")]
    assert sides == [8, 16, 32]


@pytest.mark.parametrize("name", ALIKE)
def test_the_last_blocks_are_found_where_all_have_one_resolution(name: str) -> None:
    network = seeded(ALIKE[name])
    found = structure(network, SIDE)
    numbers = [int(found.layers[alias].rsplit(".", 1)[-1]) for alias in ("last", "second", "third")]
    assert numbers[0] == numbers[1] + 1 == numbers[2] + 2
    for layout in found.layouts.values():
        assert isinstance(layout, Tokens)
        assert (layout.height, layout.width) == (8, 8)


@pytest.mark.parametrize("name", READOUTS)
def test_what_the_head_reads_is_seen(name: str) -> None:
    build, before, readout = READOUTS[name]
    found = structure(seeded(build), SIDE)
    assert found.kind == "vit"
    assert found.attention is not None
    assert found.attention.layers == tuple(f"blocks.{i}.attn.attn_drop" for i in range(4))
    assert (found.attention.prefix, found.attention.readout) == (before, readout)
    assert found.layers == {alias: f"blocks.{3 - i}.norm1" for i, alias in enumerate(("last", "second", "third"))}


def test_gae_of_a_network_that_pools_its_patches_by_hand() -> None:
    """R = the product of (E_b + I), without I, what skips carry; the mean of the patches' rows: Chefer et al. 2021b."""
    build, before, _ = READOUTS["registers, mean of patches"]
    network = seeded(build)
    classifier = classifier_of(network, structure(network, SIDE))
    passes = Passes(classifier, torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)))
    expected = torch.eye(68).repeat(2, 1, 1)
    for name in classifier.attention_layers:
        e = (passes.gradient(name) * passes.activation(name)).relu().mean(dim=1)
        expected = expected + e @ expected
    rows = (expected - torch.eye(68))[:, before:, before:].mean(dim=1).view(2, 8, 8)
    # Sums of 68 products in four blocks, all positive: roundings grow by some 300 units in the last place at most.
    torch.testing.assert_close(Gae().explain(passes), rows, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("size", [1e-1, 1e-13])
@pytest.mark.parametrize("normalise", [True, False], ids=["rows of one", "rows as they are"])
@pytest.mark.parametrize("residual", [True, False], ids=["skips", "no skips"])
def test_a_mean_of_patches_leaves_out_what_skips_carry(residual: bool, normalise: bool, size: float) -> None:
    """By dense matrices in double precision, block after block: R = D + T, where D is what skips carry alone."""
    e = size * torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eye = torch.eye(7, dtype=torch.float64)
    d, t = eye, torch.zeros(2, 7, 7, dtype=torch.float64)
    for block in e.unbind(dim=1):
        scale = 1 / (block.sum(dim=-1, keepdim=True) + residual) if normalise else 1.0
        d, t = scale * residual * d, scale * ((block + residual * eye) @ t + block @ d)
    expected = t[:, 2:].mean(dim=1)
    found = Rollout(residual=residual, normalise_rows=normalise).attended_row(e.float(), range(2, 7))
    # All terms are positive: a few hundred roundings of single precision. Least values are cut off below 1e-38.
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-36)


@pytest.mark.parametrize("name", [*HIERARCHIES, *ALIKE])
@pytest.mark.parametrize("alias", ["last", "second", "third"])
def test_the_tail_behind_a_layer_gives_the_logits(name: str, alias: str) -> None:
    network = seeded((HIERARCHIES | ALIKE)[name])
    classifier = classifier_of(network, structure(network, SIDE))
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    passes, tail = Passes(classifier, images), classifier.tail(alias)
    said = tail.logits(passes.activation(alias), passes.context(alias))
    torch.testing.assert_close(said, passes.logits, rtol=1e-5, atol=1e-5)
    rows = torch.tensor([2, 0])
    said = tail.logits(passes.activation(alias)[rows], passes.context(alias), rows)
    torch.testing.assert_close(said, passes.logits[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [GradCam(), Dix(path=PathIntegral(steps=2))], ids=["gc", "dix3"])
@pytest.mark.parametrize("name", [*HIERARCHIES, *ALIKE])
def test_maps_have_the_layers_shape_and_are_batch_invariant(name: str, method: Explainer) -> None:
    network = seeded((HIERARCHIES | ALIKE)[name])
    classifier = classifier_of(network, structure(network, SIDE))
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    assert method.unsupported(classifier) == ""
    both = method.explain(Passes(classifier, images))
    assert both.shape[-1] in (8, SIDE)
    alone = method.explain(Passes(classifier, images[1:], ids=["1"]))
    # Maps of a random network: what cancels in a sum of channels costs digits of the largest value.
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=2e-3 * float(both.abs().max()))


def test_the_gradient_of_a_map_is_that_of_the_layer() -> None:
    network = seeded(timm_swin)
    classifier = classifier_of(network, structure(network, SIDE))
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    raw: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        raw.append(output.requires_grad_())

    hook = network.get_submodule(classifier.layers["second"]).register_forward_hook(keep)
    logits = classifier.logits(images)
    hook.remove()
    [expected] = torch.autograd.grad(logits.max(), raw)
    passes = Passes(classifier, images)
    torch.testing.assert_close(passes.gradient("second"), expected.permute(0, 3, 1, 2))


class Before(nn.Module):
    """Blocks of MLPs on tokens [T, B, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(24, 24), nn.GELU()) for _ in range(4)))
        self.head = nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(images).flatten(2).permute(2, 0, 1)).mean(dim=0))


def test_tokens_before_the_batch_lie_over_the_image_too() -> None:
    network = seeded(Before)
    found = structure(network, SIDE)
    assert list(found.layers.values()) == ["blocks.3", "blocks.2", "blocks.1"]
    assert set(found.layouts.values()) == {BatchSecond(Tokens(0, 8, 8))}
    assert structure(network, SIDE, found.layers).layouts == found.layouts
    passes = Passes(classifier_of(network, found), torch.rand(2, 3, SIDE, SIDE))
    own = network.blocks[:3](network.patches(passes.classifier.normalise(passes.images)).permute(0, 2, 3, 1))
    torch.testing.assert_close(passes.activation("second"), own.permute(0, 3, 1, 2))
    said = passes.classifier.tail("second").logits(passes.activation("second"), passes.context("second"))
    torch.testing.assert_close(said, passes.logits, rtol=1e-5, atol=1e-5)


class Few(nn.Module):
    """As many tokens as images are looked at, before or behind the batch: 2 x 2 patches and three that are none."""

    def __init__(self, second: bool) -> None:
        super().__init__()
        self.patches, self.block, self.head = nn.Conv2d(3, 24, 32, 32), nn.Linear(24, 24), nn.Linear(24, 5)
        self.second = second

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([patches.new_zeros(len(images), 1 + len(SPOTS) - 4, 24), patches], dim=1)
        inside = self.block(tokens.transpose(0, 1) if self.second else tokens)
        return self.head(inside.mean(dim=0 if self.second else 1))


@pytest.mark.parametrize("second", [True, False])
def test_as_many_tokens_as_images_are_told_apart(second: bool) -> None:
    [seen] = [one for one in look(seeded(lambda: Few(second)), SIDE) if one.name == "block"]
    assert (seen.layout, seen.shape, seen.second) == (Tokens(3, 2, 2), (7, 24), second)


def test_named_layers_are_looked_at_too() -> None:
    network = seeded(swin)
    found = structure(network, SIDE, {"last": "features.5", "second": "features.3"})
    assert (found.kind, found.layouts) == ("cnn", {"features.5": ChannelsLast(), "features.3": ChannelsLast()})
    with pytest.raises(ValueError, match=r"model.layers.last: no module 'nothing' runs"):
        structure(network, SIDE, {"last": "nothing"})
    with pytest.raises(ValueError, match="has no place in the image"):
        structure(network, SIDE, {"last": "head"})


def test_a_network_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="no module of Sequential on the way to the logits"):
        structure(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5)).eval(), SIDE)


def test_a_branch_that_the_logits_do_not_read_is_no_layer() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
            self.aside = nn.Conv2d(8, 8, 3, 2, 1)
            self.head = nn.Linear(8, 5)

        def forward(self, images: Tensor) -> Tensor:
            features = self.body(self.stem(images).relu())
            self.aside(features)
            return self.head(features.relu().mean(dim=(2, 3)))

    network = seeded(Branched)
    assert structure(network, SIDE).layers == {"last": "body", "second": "stem"}


def test_layers_lie_on_the_way_to_the_logits() -> None:
    """Not on a branch: of two stages their ends, not the layers of one MLP; MViT's norm, not what goes beside it."""
    stages = structure(seeded(lambda: SwinTransformer([4, 4], 12, [2, 2], [3, 3], [4, 4], num_classes=5)), SIDE)
    assert stages.layers == {"last": "permute", "second": "features.1"}
    shape = {"depths": (1, 1, 1), "embed_dim": 24, "stride_q": ((1, 1), (2, 2), (2, 2))}
    mvit = structure(seeded(lambda: MultiScaleVit(MultiScaleVitCfg(**shape), (SIDE, SIDE), num_classes=5)), SIDE).layers
    assert mvit == {"last": "norm", "second": "stages.2.blocks.0.norm1", "third": "stages.1.blocks.0.norm1"}


@pytest.mark.parametrize(
    ("layout", "shape"), [(CHANNELS_FIRST, (9, 6, 6)), (ChannelsLast(), (6, 6, 9)), (Tokens(3, 4, 6), (27, 9))]
)
def test_there_and_back_again(layout: Layout, shape: tuple[int, ...]) -> None:
    raw = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layout.to_raw(layout.to_map(raw), layout.prefix(raw)), raw)


def test_layouts_that_follow_the_spots() -> None:
    """The image itself, in every order of its axes, and tokens stored window by window, which follow nothing."""
    images = spotted(32)
    places = nn.functional.avg_pool2d(images, 2)
    assert sight("", places).layout == CHANNELS_FIRST
    assert sight("", places.permute(0, 2, 3, 1)).layout == ChannelsLast()
    assert sight("", places.transpose(2, 3)).layout is None
    tokens = torch.cat([torch.zeros(1 + len(SPOTS), 2, 3), places.flatten(2).transpose(1, 2)], dim=1)
    assert sight("", tokens).layout == Tokens(2, 16, 16)
    windows = places.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 3, 5, 2, 4, 1).flatten(1, 4)
    assert sight("", windows).layout is None
    assert sight("", torch.softmax(torch.randn(7, 3, 5, 5), dim=-1)).attention
    assert follows(torch.zeros(6, 4, 4)) == 0
