"""Transformer Attribution, GAE and attention rollout against literal float64 replicas, and what holds for all three."""

from collections.abc import Callable

import pytest
import timm
import timm.layers.diff_attention
import timm.layers.mlp
import torch
from support.plain_vit import CLASSES, DEPTH, DIM, HEADS, PATCH, SIDE, Run, classifier_of, images, passes_of, run, small
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from dix.baselines.attention import AttentionRollout, Gae
from dix.baselines.t_attr import Propagating, TransformerAttribution, relevances
from dix.baselines.t_attr import propagated as with_losses
from dix.capture import capturing
from dix.classifier import Classifier, Weights
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.explainer import Explainer
from dix.models import embedded_vit
from dix.passes import Passes
from dix.seeding import generator

METHODS: dict[str, Explainer] = {"t_attr": TransformerAttribution(), "gae": Gae(), "rollout": AttentionRollout()}


# --- literal replicas, one image at a time --------------------------------------------------------------------------


def linear_rule(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """Contribution by contribution: positive ones share the output's relevance."""
    shares = (x[:, None, :] * weight[None]).clamp(min=0)  # [tokens, out, in]
    z = shares.sum(dim=2, keepdim=True)
    return (torch.where(z > 0, shares / z, 0) * relevance[:, :, None]).sum(dim=1)


def sum_rule(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    ra, rb = a / (a + b) * relevance, b / (a + b) * relevance
    sa, sb, total = ra.sum(), rb.sum(), relevance.sum()
    return (
        ra * (sa.abs() / (sa.abs() + sb.abs()) * total / sa),
        rb * (sb.abs() / (sa.abs() + sb.abs()) * total / sb),
    )


def attention_relevances(made: Classifier, ran: Run, target: int) -> list[Tensor]:
    """Relevance [heads, T, T] of each block's attention, last block first through the network."""
    net = made.network
    one_hot = torch.zeros(1, CLASSES, dtype=torch.float64)
    one_hot[0, target] = 1
    r = torch.zeros_like(ran.final)
    r[0] = linear_rule(ran.final[:1], net.head.weight, one_hot)[0]
    found = []
    for block, rec in zip(reversed(list(net.blocks)), reversed(ran.blocks), strict=True):
        r_y, r_mlp = sum_rule(rec.y, rec.branch_again, r)
        r_active = linear_rule(rec.active, block.mlp.fc2.weight, r_mlp)
        r_y = r_y + linear_rule(rec.normed_again, block.mlp.fc1.weight, r_active)
        r_x, r_branch = sum_rule(rec.x, rec.branch, r_y)
        r_out = linear_rule(rec.heads_out, block.attn.proj.weight, r_branch)
        r_out = r_out.view(-1, HEADS, DIM // HEADS).transpose(0, 1)
        s = r_out / (rec.a @ rec.v)
        r_a = rec.a * torch.einsum("htd,hsd->hts", s, rec.v) / 2
        r_v = rec.v * torch.einsum("hts,htd->hsd", rec.a, s) / 2
        s = r_a / (rec.q @ rec.k.transpose(1, 2))
        r_q = rec.q * torch.einsum("hts,hsd->htd", s, rec.k) / 2
        r_k = rec.k * torch.einsum("hts,htd->hsd", s, rec.q) / 2
        r_qkv = torch.cat([part.transpose(0, 1).reshape(-1, DIM) for part in (r_q, r_k, r_v)], dim=1)
        r = r_x + linear_rule(rec.normed, block.attn.qkv.weight, r_qkv)
        found.append(r_a)
    return found[::-1]


def t_attr_replica(made: Classifier, image: Tensor, target: int, start: int) -> Tensor:
    ran = run(made, image)
    ran.logits[target].backward()
    tokens = len(ran.final)
    product = torch.eye(tokens, dtype=torch.float64)
    with torch.no_grad():
        found = attention_relevances(made, ran, target)
    for rec, relevance in list(zip(ran.blocks, found, strict=True))[start:]:
        e = (rec.a.grad * relevance).clamp(min=0).mean(dim=0)
        product = (torch.eye(tokens, dtype=torch.float64) + e) @ product
    return product[0, 1:].view(SIDE // PATCH, -1).detach()


def gae_replica(made: Classifier, image: Tensor, target: int) -> Tensor:
    ran = run(made, image)
    ran.logits[target].backward()
    r = torch.eye(len(ran.final), dtype=torch.float64)
    for rec in ran.blocks:
        r = r + (rec.a.grad * rec.a).clamp(min=0).mean(dim=0) @ r
    return r[0, 1:].view(SIDE // PATCH, -1).detach()


def rollout_replica(made: Classifier, image: Tensor) -> Tensor:
    ran = run(made, image)
    r = torch.eye(len(ran.final), dtype=torch.float64)
    for rec in ran.blocks:
        r = (0.5 * rec.a.mean(dim=0) + 0.5 * torch.eye(len(r))) @ r
    return r[0, 1:].view(SIDE // PATCH, -1).detach()


@pytest.mark.parametrize("options", [{}, {"init_values": 0.5}], ids=["plain", "layer_scale"])
def test_the_replica_is_the_network(options: dict[str, object]) -> None:
    made = small(**options)
    expected = torch.stack([run(made, image).logits for image in images(2)])
    torch.testing.assert_close(passes_of(made).logits, expected.detach())


@pytest.mark.numeric
@pytest.mark.numeric
@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"init_values": 0.5}], ids=["plain", "layer_scale"])
def test_t_attr_follows_the_rules_literally(options: dict[str, object], start: int) -> None:
    made = small(**options)
    passes = passes_of(made, 3)
    expected = [t_attr_replica(made, x, t, start) for x, t in zip(passes.images, passes.targets.tolist(), strict=True)]
    found = TransformerAttribution(start_layer=start).explain(passes)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-8)


def test_gae_follows_its_recursion_literally() -> None:
    made = small()
    passes = passes_of(made, 3)
    expected = [gae_replica(made, x, t) for x, t in zip(passes.images, passes.targets.tolist(), strict=True)]
    torch.testing.assert_close(Gae().explain(passes), torch.stack(expected))


def test_rollout_mixes_half_identity_literally() -> None:
    made = small()
    passes = passes_of(made, 3)
    expected = torch.stack([rollout_replica(made, x) for x in passes.images])
    torch.testing.assert_close(AttentionRollout().explain(passes), expected)
    assert not torch.allclose(AttentionRollout(heads="max").explain(passes), expected)


# --- relevance propagation ------------------------------------------------------------------------------------------


def propagated(function: Callable[..., Tensor], relevance: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    leaves = [value.clone().requires_grad_() for value in values]
    with Propagating():
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, relevance)


def test_a_sum_shares_relevance_by_absolute_sums() -> None:
    a, b = torch.tensor([[3.0, -1.0]]), torch.tensor([[1.0, 2.0]])
    # elementwise shares of R = (4, 1): a (3, -1), b (1, 2); sums 2 and 3, which add up to 5 already
    found = propagated(lambda x, y: x + y, torch.tensor([[4.0, 1.0]]), a, b)
    torch.testing.assert_close(found, (torch.tensor([[3.0, -1.0]]), torch.tensor([[1.0, 2.0]])))
    # R = (4, 5): a (3, -5), b (1, 10); sums -2 and 11; shares 2/13 and 11/13 of 9
    found = propagated(lambda x, y: x + y, torch.tensor([[4.0, 5.0]]), a, b)
    unit = 9 / 13
    torch.testing.assert_close(found[0], torch.tensor([[-3.0, 5.0]]) * unit)
    torch.testing.assert_close(found[1], torch.tensor([[1.0, 10.0]]) * unit)


def test_a_sum_shares_relevance_image_by_image() -> None:
    a, b, r = (torch.randn(2, 3, 4, generator=generator(name)) for name in "abr")
    together = propagated(lambda x, y: x + y, r, a, b)
    for i in range(2):
        alone = propagated(lambda x, y: x + y, r[i : i + 1], a[i : i + 1], b[i : i + 1])
        torch.testing.assert_close((together[0][i : i + 1], together[1][i : i + 1]), alone)


def test_a_linear_layer_shares_relevance_among_positive_contributions() -> None:
    layer = nn.Linear(3, 2).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[1.0, -1.0, 2.0], [-1.0, 1.0, 1.0]]))
    layer.bias.fill_(7.0)
    x = torch.tensor([[1.0, -2.0, 3.0]])
    # contributions to output 0: 1, 2, 6; to output 1: -1, -2, 3
    (found,) = propagated(layer, torch.tensor([[9.0, 5.0]]), x)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 6.0 + 5.0]]))


@pytest.mark.parametrize("options", [{}, {"init_values": 0.5}, {"qk_norm": True, "reg_tokens": 2}])
def test_relevance_is_conserved_from_block_to_block(options: dict[str, object]) -> None:
    """The relevance of each block's output adds up to the logit's 1, within 1e-6 in double precision."""
    made = small(**options)
    passes = passes_of(made, 3)
    names = [f"blocks.{i}" for i in range(DEPTH)]
    found = relevances(passes, names)
    for name in names:
        totals = found[name].flatten(1).sum(dim=1)
        torch.testing.assert_close(totals, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)


def test_half_of_the_relevance_of_the_mixed_values_is_the_attentions() -> None:
    made = small()
    found = relevances(passes_of(made), ["blocks.1.attn.attn_drop", "blocks.1.attn.norm"])  # norm: A v, all heads
    half = found["blocks.1.attn.norm"].flatten(1).sum(dim=1) / 2
    torch.testing.assert_close(found["blocks.1.attn.attn_drop"].flatten(1).sum(dim=1), half, rtol=1e-6, atol=1e-9)


class Shifted(nn.Module):
    """Adds something fixed, of the batch's own shape where `whole`."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        self.shift = nn.Parameter(torch.randn(1, 10, DIM, generator=generator("shift"), dtype=torch.float64))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + (self.shift.expand_as(tokens) if self.whole else self.shift)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_a_fixed_operand_of_a_sum_takes_no_relevance_in_any_batch(whole: bool, count: int) -> None:
    made = small()
    made.network.blocks[2].register_module("drop_path2", Shifted(whole).requires_grad_(False))
    found = with_losses(passes_of(made, count), ["blocks.1"])
    one = torch.ones(count, dtype=torch.float64)
    torch.testing.assert_close(found.of["blocks.1"].flatten(1).sum(dim=1), one, rtol=0, atol=1e-6)
    assert bool((found.lost < 1e-6).all())
    assert TransformerAttribution().unsupported(made) == ""


class Fixed(nn.Module):
    """Mixes features by a matrix that does not depend on the image, as a product rather than as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(DIM, DIM, generator=generator("fixed"), dtype=torch.float64))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens @ self.matrix


@pytest.mark.parametrize("count", [1, 3])
def test_a_network_that_loses_relevance_is_refused_in_any_batch(count: int) -> None:
    """A fixed factor's half is lost; before the head, that is half of everything."""
    made = small()
    made.network.fc_norm = Fixed().requires_grad_(False)
    passes = passes_of(made, count)
    torch.testing.assert_close(with_losses(passes, ["blocks.1"]).lost, torch.full((count,), 0.5, dtype=torch.float64))
    assert TransformerAttribution().unsupported(made) == (
        "relevance propagation loses 50% of the logit's relevance on its way"
    )
    assert bool(TransformerAttribution().explain(passes).isnan().all())


def test_the_network_computes_the_same_while_relevance_is_propagated() -> None:
    made = small(init_values=0.5)
    passes = passes_of(made)
    with capturing(made.network, made.attention_layers[:1]), Propagating():
        logits = made.logits(passes.images)
    assert torch.equal(logits.detach(), passes.logits)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mlp_layer": timm.layers.mlp.SwiGLU}, "no rule for .*mul"),
        ({"attn_layer": timm.layers.diff_attention.DiffAttention}, "no rule for"),
        ({"global_pool": "avg"}, "no rule for .*mean"),
    ],
    ids=["gated_mlp", "difference_of_attentions", "pooled_patches"],
)
def test_a_network_with_an_operation_without_a_rule_is_refused(options: dict[str, object], reason: str) -> None:
    made = small(**options)
    with pytest.raises(NotImplementedError, match=reason):
        relevances(passes_of(made), ["blocks.1"])


def test_impossible_pairs_have_a_reason() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    cnn = classifier_of(network, kind="cnn")
    for method in METHODS.values():
        assert method.unsupported(cnn) == "needs attention matrices between all patches; this model shows none"
        assert method.unsupported(small()) == ""
    assert (
        TransformerAttribution()
        .unsupported(small(mlp_layer=timm.layers.mlp.SwiGLU))
        .startswith("relevance propagation")
    )
    assert TransformerAttribution(start_layer=3).unsupported(small()).startswith("has 3 blocks, none with index")
    with pytest.raises(ValueError, match="start_layer: expected the index of a block, from 0, got -1"):
        TransformerAttribution(start_layer=-1)
    with pytest.raises(ValueError, match="heads: expected one of mean, max, min, got 'sum'"):
        AttentionRollout(heads="sum")


# --- what holds for all ---------------------------------------------------------------------------------------------


@pytest.mark.numeric
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_maps_do_not_depend_on_batch_order_or_chunk(method: Explainer) -> None:
    made = small(reg_tokens=1)
    pictures, targets = images(4), torch.tensor([3, 1, 4, 1])
    whole = method.explain(Passes(made, pictures, targets))
    assert whole.shape == (4, SIDE // PATCH, SIDE // PATCH)
    assert not any((m == m[0, 0]).all() for m in whole)
    order = [2, 0, 3, 1]
    turned = Passes(made, pictures[order], targets[order], chunk=3)
    torch.testing.assert_close(method.explain(turned), whole[order], rtol=1e-5, atol=1e-9)
    alone = Passes(made, pictures[1:2], targets[1:2], chunk=1)
    torch.testing.assert_close(method.explain(alone), whole[1:2], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "vit_small_patch16_224"])
def test_the_models_of_the_tables_are_explained(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(name, depth=2, num_classes=CLASSES)
        network.head.weight.data.normal_()
    made = classifier_of(network, 224, torch.float32)
    passes = Passes(made, images(1, 224).float())
    for method in METHODS.values():
        assert method.unsupported(made) == ""
        maps = method.explain(passes)
        assert maps.shape == (1, 14, 14)
        assert maps.isfinite().all()


def test_attention_maps_of_the_clean_pass_cost_nothing_and_t_attr_one_more_pass() -> None:
    made = small()
    rows: list[int] = []
    handle = made.network.register_forward_pre_hook(lambda _m, inputs: rows.append(len(inputs[0])))
    passes = passes_of(made, 3)
    Gae().explain(passes)
    AttentionRollout().explain(passes)
    assert rows == [3]
    TransformerAttribution().explain(passes)
    assert rows == [3, 3]
    handle.remove()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_nothing_is_left_behind_also_after_an_exception(method: Explainer) -> None:
    made = small()
    method.explain(passes_of(made))

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    handle = made.network.norm.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="device lost"):
        method.explain(passes_of(made))
    with pytest.raises(RuntimeError, match="device lost"):
        relevances(passes_of(made), made.attention_layers)
    handle.remove()
    modules = list(made.network.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in modules)
    assert not any(p.requires_grad or p.grad is not None for p in made.network.parameters())
    assert _get_current_function_mode_stack() == []


@pytest.mark.numeric
def test_maps_of_the_trained_network_lie_on_the_objects() -> None:
    """Inside the hand-drawn outline, T-Attr and GAE are on average at least three times as large as outside."""
    photos, preprocess = Photos(), Preprocess(224)
    made = Classifier(
        "vit_embedded",
        embedded_vit.build_network(),
        mean=embedded_vit.IMAGE_MEAN,
        std=embedded_vit.IMAGE_STD,
        input_size=224,
        layers={},
        kind="vit",
        weights=Weights("embedded", trained=True),
        classes=embedded_vit.CLASSES,
    )
    records = [photos.read(photos.ids.index(name)) for name in ("imagenet_07_609.jpg", "coffee.png")]
    pixels = torch.stack([preprocess.image(record.image) for record in records])
    passes = Passes(made, pixels)
    for precision, dtype, tolerance in (("double", torch.float64, 1e-6), ("native", torch.float32, 1e-4)):
        for relevance in relevances(passes, ["blocks.1", "blocks.11"], precision).values():
            one = torch.ones(2, dtype=dtype)
            torch.testing.assert_close(relevance.flatten(1).sum(dim=1), one, rtol=0, atol=tolerance)
    for method in (TransformerAttribution(), Gae()):
        assert method.unsupported(made) == ""
        for heat, record in zip(method.explain(passes), records, strict=True):
            inside = (preprocess.mask(record.mask) > 0).float().view(16, 14, 16, 14).mean(dim=(1, 3))
            mean_inside = (heat * inside).sum() / inside.sum()
            mean_outside = (heat * (1 - inside)).sum() / (1 - inside).sum()
            assert mean_inside > 3 * mean_outside
    single = TransformerAttribution().explain(passes)[:1]
    double = TransformerAttribution().explain(Passes(made.to("cpu", torch.float64), pixels[:1].double()))
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4 * float(double.max()))
