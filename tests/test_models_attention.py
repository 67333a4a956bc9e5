"""Attention by function: wherever a network computes a softmax attention, methods have its matrices to hold."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import timm
import torch
import torch.nn.functional as F
from support.random_weights import seeded
from support.transformers import (
    CLASSES,
    DIM,
    HEADS,
    METHODS,
    PATCH,
    RECENT,
    SIDE,
    cait,
    convit,
    seen,
    siglip,
    siglip_with_registers,
    timm_vit,
    tokens_first,
    torchvision_vit,
    xcit,
)  # fmt: skip
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torchvision.models import SwinTransformer

from dix.baselines.attention import Gae
from dix.baselines.cam import GradCam
from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.models.structure import structure
from dix.models.visible import MATRICES, Replacing, conceal, reveal
from dix.passes import Passes
from dix.patches import cannot_leave_out
from dix.released import Released

GRID = SIDE // PATCH
NETWORKS = {
    "torchvision": torchvision_vit,
    "tokens before the batch": tokens_first,
    "cait": cait,
    "convit": convit,
    "siglip": siglip,
    "siglip with registers": siglip_with_registers,
}


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


def as_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a torchvision VisionTransformer under the names of timm's."""
    names = {
        "class_token": "cls_token", "encoder.pos_embedding": "pos_embed", "conv_proj": "patch_embed.proj",
        "encoder.layers.encoder_layer_": "blocks.", "ln_1": "norm1", "ln_2": "norm2", "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2", "self_attention.in_proj_": "attn.qkv.", "self_attention.out_proj": "attn.proj",
        "encoder.ln": "norm", "heads.head": "head",
    }  # fmt: skip

    def renamed(key: str) -> str:
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        return key

    return {renamed(key): value for key, value in state.items()}


@pytest.fixture(scope="module")
def pair() -> tuple[Classifier, Classifier]:
    """torchvision's and timm's Vision Transformer with the same weights."""
    one = seen(torchvision_vit)
    other = seen(timm_vit)
    state = as_timm(one.network.state_dict())
    other.network.load_state_dict(state)
    return one, other


@pytest.mark.parametrize("name", METHODS)
def test_torchvision_and_timm_give_the_same_maps_with_the_same_weights(
    pair: tuple[Classifier, Classifier], name: str
) -> None:
    one, other = (Passes(classifier, images()) for classifier in pair)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-5, atol=1e-5)
    maps, expected = METHODS[name].explain(one), METHODS[name].explain(other)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", METHODS)
def test_tokens_before_the_batch_change_no_map(name: str) -> None:
    """CLIP's first code gives its blocks tokens [T, B, C]: the same network has the same layers and maps."""
    one, other = seen(tokens_first), seen(torchvision_vit)
    other.network.load_state_dict(one.network.state_dict())
    assert (one.layers, one.attention) == (other.layers, other.attention)
    assert {str(layout) for layout in one.layouts.values()} == {"channels first, before the batch"}
    assert "65 tokens of 24 channels, 1 before the patches" in one.describe()
    passes, right = Passes(one, images(3)), Passes(other, images(3))
    expected = METHODS[name].explain(right)
    # The same sums in another order of memory: a few roundings of single precision.
    torch.testing.assert_close(METHODS[name].explain(passes), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_what_is_found_of_torchvisions(pair: tuple[Classifier, Classifier]) -> None:
    one, _ = pair
    blocks = [f"encoder.layers.encoder_layer_{i}" for i in range(3)]
    assert one.kind == "vit"
    assert one.attention_layers == tuple(f"{block}.self_attention.{MATRICES}" for block in blocks)
    assert (one.prefix_tokens, one.readout) == (1, (0,))
    assert list(one.layers.values()) == [f"{block}.ln_1" for block in reversed(blocks)]


@pytest.mark.parametrize("method", [*METHODS.values(), GradCam("third")], ids=[*METHODS, "gc third"])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_method_runs_or_says_why_it_does_not(network: str, method: Explainer) -> None:
    classifier = seen(NETWORKS[network])
    assert classifier.kind == "vit"
    reason = method.unsupported(classifier)
    lost = method == METHODS["t_attr"] and network.startswith("siglip")
    assert reason.startswith("relevance propagation loses 25%" if lost else "")
    assert lost or not reason
    if not reason:
        both = method.explain(Passes(classifier, images()))
        assert both.shape[-1] in (GRID, SIDE)
        assert all(len(one.unique()) > 1 for one in both)
        alone = method.explain(Passes(classifier, images()[1:], ids=["1"]))
        torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4 * float(both.abs().max()))


@pytest.mark.parametrize("network", NETWORKS)
def test_recent_methods_run_or_say_why_they_do_not(network: str) -> None:
    classifier = seen(NETWORKS[network])
    for name, method in RECENT.items():
        reason = method.unsupported(classifier)
        assert reason.startswith(REFUSED.get((network, name), "")), name
        assert bool(reason) == ((network, name) in REFUSED), f"{name}: {reason}"
        if not reason:
            both = method.explain(Passes(classifier, images()))
            assert both.shape[-1] in (GRID, SIDE)
            assert all(len(one.unique()) > 1 for one in both), name
            alone = method.explain(Passes(classifier, images()[1:], ids=["1"]))
            torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4 * float(both.abs().max()))


#: By network and method, how the reason begins why it does not run.
REFUSED = {
    ("tokens before the batch", "legrad"): "needs blocks that hand on tokens [B, T, C]",
    ("tokens before the batch", "token_tm"): "needs blocks that hand on tokens [B, T, C]",
    ("tokens before the batch", "libra_grad"): "needs blocks that hand on tokens [B, T, C]",
    ("cait", "token_tm"): "needs blocks that all see the same tokens",
    ("cait", "grad_eclip"): "needs a last block whose attention is one product",
    ("cait", "libra_grad"): "needs blocks that all see the same tokens",
    ("convit", "token_tm"): "needs blocks that all see the same tokens",
    ("convit", "libra_grad"): "needs blocks that all see the same tokens",
    ("convit", "attn_lrp"): "relevance propagation has no rule for TensorBase.div_",
    **{
        (network, name): reason
        for network in ("siglip", "siglip with registers")
        for name, reason in {
            "legrad": "needs blocks that return tokens of equal channels",
            "token_tm": "needs blocks that all see the same tokens",
            "grad_eclip": "needs a last block whose attention is one product",
            "libra_grad": "needs blocks that all see the same tokens",
        }.items()
    },
}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_splits_the_network(network: str) -> None:
    classifier = seen(NETWORKS[network])
    passes = Passes(classifier, images(3))
    for name in [*classifier.layers, *classifier.attention_layers]:
        logits = classifier.tail(name).logits(passes.activation(name), passes.context(name))
        torch.testing.assert_close(logits, passes.logits, rtol=1e-5, atol=1e-5)


def weighted(passes: Passes, name: str) -> Tensor:
    """E [B, Q, K] of one block."""
    return (passes.activation(name) * passes.gradient(name)).relu().mean(dim=1)


def test_gae_of_class_attention_by_hand() -> None:
    """Patches mix first; then c, the class token's relevance, gathers theirs: c <- c + E_cc c + E_cp R."""
    classifier = seen(cait)
    passes = Passes(classifier, images())
    names = classifier.attention_layers
    assert [passes.activation(name).shape[-2:] for name in names] == [(64, 64)] * 3 + [(1, 65)] * 2
    r = torch.eye(64).expand(2, 64, 64)
    for name in names[:3]:
        r = r + weighted(passes, name) @ r
    c, own = torch.zeros(2, 1, 64), torch.ones(2, 1, 1)
    for name in names[3:]:
        e = weighted(passes, name)
        c, own = c + e[:, :, :1] * c + e[:, :, 1:] @ r, own + e[:, :, :1] * own
    torch.testing.assert_close(Gae().explain(passes), c.view(2, GRID, GRID), rtol=1e-4, atol=1e-9)


def test_the_matrices_of_talking_heads_are_the_softmaxs() -> None:
    classifier = seen(cait)
    passes = Passes(classifier, images())
    for name in classifier.attention_layers:
        sums = passes.activation(name).sum(dim=-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_gae_of_gated_positional_attention_by_hand() -> None:
    """Two blocks without the class token, which joins in front, and two with it."""
    classifier = seen(convit)
    passes = Passes(classifier, images())
    names = classifier.attention_layers
    assert [passes.activation(name).shape[-1] for name in names] == [64, 64, 65, 65]
    r = torch.eye(64).expand(2, 64, 64)
    for name in names[:2]:
        r = r + weighted(passes, name) @ r
    whole = torch.zeros(2, 65, 65)
    whole[:, 0, 0], whole[:, 1:, 1:] = 1, r
    for name in names[2:]:
        whole = whole + weighted(passes, name) @ whole
    torch.testing.assert_close(Gae().explain(passes), whole[:, 0, 1:].view(2, GRID, GRID), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("build", "registers"), [(siglip, 0), (siglip_with_registers, 2)])
def test_gae_of_a_pooled_query_by_hand(build: Callable[[], nn.Module], registers: int) -> None:
    """The query's own weights, spread back through the blocks: E_pool R."""
    classifier = seen(build)
    passes = Passes(classifier, images())
    *names, pool = classifier.attention_layers
    assert passes.activation(pool).shape == (2, HEADS, 1, 64)
    r = torch.eye(64 + registers).expand(2, -1, -1)
    for name in names:
        r = r + weighted(passes, name) @ r
    expected = (weighted(passes, pool) @ r[:, registers:])[:, 0, registers:].view(2, GRID, GRID)
    torch.testing.assert_close(Gae().explain(passes), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("patch", [8, 4], ids=["fewer channels than patches", "as many channels as patches"])
def test_attention_between_channels_is_refused_by_name(patch: int) -> None:
    shape = {"img_size": SIDE, "patch_size": 8, "num_classes": CLASSES, "depth": 3, "num_heads": 3}
    classifier = seen(xcit if patch == 8 else lambda: timm.models.xcit.Xcit(**shape, embed_dim=3 * 16))
    assert classifier.kind == "cnn"
    for name in ("gae", "rollout", "t_attr"):
        assert "between channels" in METHODS[name].unsupported(classifier)
    assert METHODS["dix3"].unsupported(classifier) == ""


def test_what_needs_alike_blocks_says_so() -> None:
    assert "sees other tokens" in Released().unsupported(seen(cait))
    assert Released().unsupported(seen(torchvision_vit)) == ""


@pytest.mark.parametrize("build", [timm_vit, siglip, siglip_with_registers])
def test_patches_can_be_left_out_whatever_stands_before_them(build: Callable[[], nn.Module]) -> None:
    assert cannot_leave_out(seen(build)) == ""


# --- the functions --------------------------------------------------------------------------------------------------


def explicitly(run: Callable[[], object]) -> tuple[object, list[Tensor]]:
    """What `run` returns while attention is explicit, and its matrices."""
    seen_matrices: list[Tensor] = []

    def keep(matrices: Tensor) -> Tensor:
        seen_matrices.append(matrices)
        return matrices

    with Replacing(keep):
        return run(), seen_matrices


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


DIAGONAL = torch.eye(5, 7).bool()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": ~DIAGONAL},
        {"attn_mask": random(5, 7)},
        {"is_causal": True},
        {"scale": 0.3},
        {"enable_gqa": True},
    ],
    ids=["plain", "boolean mask", "added mask", "causal", "scale", "fewer keys"],
)
def test_the_explicit_form_is_pytorchs(options: dict[str, object]) -> None:
    heads = 2 if options.get("enable_gqa") else 4
    q, k, v = random(2, 4, 5, 6), random(2, heads, 7, 6), random(2, heads, 7, 3)
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    found, [matrices] = explicitly(lambda: F.scaled_dot_product_attention(q, k, v, **options))
    torch.testing.assert_close(found, expected)
    assert matrices.shape == (2, 4, 5, 7)
    torch.testing.assert_close(matrices.sum(dim=-1), torch.ones(2, 4, 5))


@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"attn_mask": DIAGONAL},
        {"attn_mask": random(5, 7)},
        {"attn_mask": random(8, 5, 7)},
        {"key_padding_mask": torch.tensor([[False] * 6 + [True], [False] * 5 + [True] * 2])},
        {"attn_mask": DIAGONAL, "key_padding_mask": torch.tensor([[False] * 6 + [True], [False] * 5 + [True] * 2])},
        {"average_attn_weights": False},
        {"need_weights": False},
    ],
    ids=["plain", "boolean", "added", "by head", "padding", "both", "all heads", "no weights"],
)
@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 9}, {"bias": False}, {"batch_first": True}])
def test_multi_head_attention_is_pytorchs(options: dict[str, int], masks: dict[str, Tensor]) -> None:
    module = nn.MultiheadAttention(8, 4, **options).eval()
    q, k, v = random(5, 2, 8), random(7, 2, options.get("kdim", 8)), random(7, 2, options.get("vdim", 8))
    if options.get("batch_first"):
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    expected = module(q, k, v, **masks)
    found, [matrices] = explicitly(lambda: module(q, k, v, **masks))
    torch.testing.assert_close(found, expected)
    assert matrices.shape == (2, 4, 5, 7)


def test_what_has_no_explicit_form_is_left_alone() -> None:
    module = nn.MultiheadAttention(8, 4, add_bias_kv=True).eval()
    found, matrices = explicitly(lambda: module(*[random(5, 2, 8)] * 3))
    torch.testing.assert_close(found, module(*[random(5, 2, 8)] * 3))
    assert matrices == []
    found, matrices = explicitly(lambda: random(2, 3, 4).softmax(dim=1))
    assert torch.equal(found, random(2, 3, 4).softmax(dim=1))
    assert matrices == []


class Encoder(nn.Module):
    """An own network around nn.TransformerEncoder, whose fused kernel runs none of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, DIM))
        layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patches(pictures).flatten(2).transpose(1, 2)
        return self.head(self.encoder(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1))[:, 0])


def test_an_encoder_of_torch_is_seen_too() -> None:
    classifier = seen(Encoder)
    assert classifier.attention_layers == tuple(f"encoder.layers.{i}.self_attn.{MATRICES}" for i in range(3))
    passes = Passes(classifier, images())
    for name in ("gae", "rollout", "dix3"):
        assert METHODS[name].unsupported(classifier) == ""
        assert METHODS[name].explain(passes).isfinite().all()


def test_a_network_is_the_same_afterwards_and_forgets_what_was_put_in() -> None:
    network = seeded(torchvision_vit)
    expected, names = network(images()), list(dict(network.named_modules()))
    reveal(network, images(1))
    torch.testing.assert_close(network(images()), expected, rtol=1e-5, atol=1e-5)
    assert len(list(network.modules())) == len(names) + 3
    conceal(network)
    assert list(dict(network.named_modules())) == names
    assert torch.equal(network(images()), expected)


def test_a_copy_runs_its_own_weights() -> None:
    network = seeded(torchvision_vit)
    reveal(network, images(1))
    copy = deepcopy(network)
    with torch.no_grad():
        for value in copy.parameters():
            value.zero_()
    assert not copy(images()).any()
    assert network(images()).any()


def test_networks_without_attention_between_tokens_stay_untouched() -> None:
    network = seeded(lambda: SwinTransformer([2, 2], 12, [2, 2], [3, 3], [4, 4], num_classes=5))
    expected = network(images())
    names = list(dict(network.named_modules()))
    assert structure(network, SIDE).kind == "cnn"
    assert list(dict(network.named_modules())) == names
    assert torch.equal(network(images()), expected)


def test_nothing_stays_active_after_an_exception() -> None:
    network = seeded(torchvision_vit)
    reveal(network, images(1))

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    network.get_submodule(f"encoder.layers.encoder_layer_1.self_attention.{MATRICES}").register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="device lost"):
        network(images())
    assert _get_current_function_mode_stack() == []
