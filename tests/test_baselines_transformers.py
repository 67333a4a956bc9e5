"""LeGrad, TokenTM, Grad-ECLIP, LibraGrad and AttnLRP against literal float64 replicas, and what holds for all."""

from __future__ import annotations

import math
import re

import pytest
import timm.layers.mlp
import torch
import torch.nn.functional as F
from support.plain_vit import (
    CLASSES,
    DEPTH,
    DIM,
    HEADS,
    PATCH,
    SIDE,
    Record,
    classifier_of,
    images,
    passes_of,
    run,
    small,
)
from support.transformers import RECENT, seen, torchvision_vit
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from dix.baselines.attn_lrp import AttnLrp
from dix.baselines.backward import COMMON, Changed
from dix.baselines.grad_eclip import GradEclip
from dix.baselines.legrad import LeGrad
from dix.baselines.libra import LibraGrad
from dix.baselines.token_tm import TokenTm
from dix.baselines.wrap import Lxt
from dix.bench.run.speed import forward_equivalents
from dix.classifier import Attention, Classifier
from dix.explainer import Explainer
from dix.passes import Passes

OPTIONS = pytest.mark.parametrize("options", [{}, {"init_values": 0.5}], ids=["plain", "layer_scale"])


def normalised(x: Tensor, module: nn.Module) -> Tensor:
    """Layer norm."""
    return F.layer_norm(x, x.shape[-1:], module.weight, module.bias, module.eps)


def patch_map(values: Tensor) -> Tensor:
    """Values [tokens] as a map, without the class token's."""
    return values[1:].view(SIDE // PATCH, -1).detach()


def scale(block: nn.Module, part: int) -> Tensor | float:
    """A block's LayerScale behind its first or second part."""
    return getattr(getattr(block, f"ls{part}"), "gamma", 1.0)


# --- LeGrad ---------------------------------------------------------------------------------------------------------


def legrad_replica(made: Classifier, image: Tensor, target: int, start: int) -> Tensor:
    """Each block alone, from the tokens that it was given: its attention is a leaf."""
    net, found = made.network, []
    for block, rec in list(zip(net.blocks, run(made, image).blocks, strict=True))[start:]:
        a = rec.a.detach().requires_grad_()
        mixed = (a @ rec.v.detach()).transpose(0, 1).reshape(-1, DIM)
        y = rec.x.detach() + block.attn.proj(mixed) * scale(block, 1)
        z = y + block.mlp(normalised(y, block.norm2)) * scale(block, 2)
        logits = net.head(normalised(z.mean(dim=0), net.norm))
        [gradient] = torch.autograd.grad(logits[target], a)
        found.append(gradient.clamp(min=0).mean(dim=(0, 1)))
    return patch_map(torch.stack(found).mean(dim=0))


@pytest.mark.parametrize("start", [0, 2])
@OPTIONS
def test_legrad_asks_each_block_alone(options: dict[str, object], start: int) -> None:
    made = small(**options)
    passes = passes_of(made, 3)
    expected = [legrad_replica(made, x, t, start) for x, t in zip(passes.images, passes.targets.tolist(), strict=True)]
    torch.testing.assert_close(LeGrad(start_layer=start).explain(passes), torch.stack(expected))


# --- TokenTM --------------------------------------------------------------------------------------------------------


def token_tm_replica(made: Classifier, image: Tensor, target: int) -> Tensor:
    """The product of matrices, written out."""
    ran = run(made, image)
    ran.logits[target].backward()
    contributions = torch.diag(ran.blocks[0].x.norm(dim=1))
    for block, rec in zip(made.network.blocks, ran.blocks, strict=True):
        values = block.attn.proj(rec.v.transpose(0, 1).reshape(-1, DIM)) * scale(block, 1)
        t = rec.a.mean(dim=0) @ transformation(rec.x, values) * rec.a.grad.clamp(min=0).mean(dim=0)
        u = (torch.eye(len(t)) + transformation(rec.y, rec.branch_again)) @ (torch.eye(len(t)) + t)
        contributions = u @ contributions
    return patch_map(contributions[0])


def transformation(before: Tensor, after: Tensor) -> Tensor:
    lengths = [(b.norm() / a.norm()).item() for a, b in zip(before, after, strict=True)]
    cosines = [math.exp((a @ b / a.norm() / b.norm()).item()) for a, b in zip(before, after, strict=True)]
    both = zip(lengths, cosines, strict=True)
    return torch.diag(torch.tensor([ratio * cosine / sum(cosines) for ratio, cosine in both], dtype=torch.float64))


@OPTIONS
def test_token_tm_multiplies_its_matrices_literally(options: dict[str, object]) -> None:
    made = small(**options)
    passes = passes_of(made, 3)
    expected = [token_tm_replica(made, x, t) for x, t in zip(passes.images, passes.targets.tolist(), strict=True)]
    torch.testing.assert_close(TokenTm().explain(passes), torch.stack(expected))


class Parallel(nn.Module):
    """Adds up both parts before they are added to the tokens."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.inner = block

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        return x + (inner.attn(inner.norm1(x)) + inner.mlp(inner.norm2(x)))


def test_blocks_of_another_kind_are_refused_by_name() -> None:
    made = small()
    made.network.blocks.register_module("1", Parallel(made.network.blocks[1]))
    layers = tuple(f"blocks.{i}.{'inner.' if i == 1 else ''}attn.attn_drop" for i in range(DEPTH))
    made.adopt("vit", {}, {}, Attention(layers, 1))
    assert TokenTm().unsupported(made).startswith("needs blocks that add to their tokens what attention makes")
    assert RECENT["libra_grad"].unsupported(made) == ""


# --- Grad-ECLIP -----------------------------------------------------------------------------------------------------


def grad_eclip_replica(made: Classifier, image: Tensor, target: int) -> Tensor:
    """Patch by patch; the last block from what its heads gathered."""
    net, rec = made.network, run(made, image).blocks[-1]
    block, mixed = net.blocks[-1], rec.heads_out.detach().requires_grad_()
    y = rec.x.detach() + block.attn.proj(mixed) * scale(block, 1)
    z = y + block.mlp(normalised(y, block.norm2)) * scale(block, 2)
    [gradient] = torch.autograd.grad(net.head(normalised(z[0], net.norm))[target], mixed)
    q, k, v = (part.transpose(0, 1).reshape(-1, DIM).detach() for part in (rec.q, rec.k, rec.v))
    cosines = torch.stack([q[0] @ key / q[0].norm() / key.norm() for key in k[1:]])
    loosened = (cosines - cosines.min()) / (cosines.max() - cosines.min())
    return (loosened * (v[1:] @ gradient[0])).clamp(min=0).view(SIDE // PATCH, -1)


@OPTIONS
def test_grad_eclip_weighs_values_by_the_class_tokens_gradient(options: dict[str, object]) -> None:
    made = small(**options)
    passes = passes_of(made, 3)
    expected = [grad_eclip_replica(made, x, t) for x, t in zip(passes.images, passes.targets.tolist(), strict=True)]
    torch.testing.assert_close(GradEclip().explain(passes), torch.stack(expected))


# --- LibraGrad ------------------------------------------------------------------------------------------------------


def held(x: Tensor, module: nn.Module, bias: Tensor) -> Tensor:
    """Layer norm whose deviation is held."""
    spread = (x.var(dim=-1, unbiased=False, keepdim=True) + module.eps).sqrt().detach()
    return (x - x.mean(dim=-1, keepdim=True)) / spread * module.weight + bias


def libra_replica(made: Classifier, image: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [blocks, tokens], biases [tokens] and the head's two biases' share of the logit, bias by bias."""
    net, records = made.network, run(made, image).blocks
    x = records[0].x.detach().requires_grad_()
    count, given, leaves = len(x), [], []

    def each(bias: Tensor) -> Tensor:
        """A bias, once for each token."""
        leaves.append(bias.detach().expand(count, -1).clone().requires_grad_())
        return leaves[-1]

    for block, rec in zip(net.blocks, records, strict=True):
        given.append(x)
        values = held(x, block.norm1, each(block.norm1.bias)) @ block.attn.qkv.weight[2 * DIM :].T
        values = values + each(block.attn.qkv.bias[2 * DIM :])
        mixed = rec.a.detach() @ values.view(count, HEADS, -1).transpose(0, 1)
        x = x + (mixed.transpose(0, 1).reshape(count, -1) @ block.attn.proj.weight.T + each(block.attn.proj.bias)) * (
            scale(block, 1)
        )
        hidden = held(x, block.norm2, each(block.norm2.bias)) @ block.mlp.fc1.weight.T + each(block.mlp.fc1.bias)
        active = hidden * (0.5 * (1 + torch.erf(hidden.detach() / 2**0.5)))
        x = x + (active @ block.mlp.fc2.weight.T + each(block.mlp.fc2.bias)) * scale(block, 2)
    logit = held(x, net.norm, each(net.norm.bias))[0] @ net.head.weight[target] + net.head.bias[target]
    found = torch.autograd.grad(logit, [*given, *leaves])
    inputs = torch.stack([(a * g).sum(dim=1) for a, g in zip(given, found, strict=False)])
    biases = torch.stack([(b * g).sum(dim=1) for b, g in zip(leaves, found[len(given) :], strict=True)]).sum(dim=0)
    return inputs.detach(), biases.detach(), net.head.bias[target]


@OPTIONS
def test_libra_grad_is_the_gradient_of_what_is_left_when_gates_are_held(options: dict[str, object]) -> None:
    made = small(**options)
    passes = passes_of(made, 3)
    both, first, sums = [], [], []
    for image, target in zip(passes.images, passes.targets.tolist(), strict=True):
        inputs, biases, rest = libra_replica(made, image, target)
        both.append(patch_map(inputs.sum(dim=0) + biases))
        first.append(patch_map(inputs[0] + biases))
        sums.append(inputs[0].sum() + biases.sum() + rest)
    torch.testing.assert_close(torch.stack(sums), passes.score(passes.logits))  # the paper's completeness
    torch.testing.assert_close(LibraGrad().explain(passes), torch.stack(both))
    torch.testing.assert_close(LibraGrad(layers="first").explain(passes), torch.stack(first))
    torch.testing.assert_close(LibraGrad().residual(passes), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "options", [{"qk_norm": True, "reg_tokens": 2}, {"global_pool": "avg"}, {"mlp_layer": timm.layers.mlp.SwiGLU}]
)
def test_the_terms_of_other_transformers_add_up_to_the_logit(options: dict[str, object]) -> None:
    made = small(**options)
    assert LibraGrad().unsupported(made) == ""
    residual = LibraGrad().residual(passes_of(made, 2))
    torch.testing.assert_close(residual, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-9)


def test_libra_grad_explains_torchvisions_transformer_whatever_the_batch() -> None:
    """Inside nn.MultiheadAttention tokens come before images; here there are as many of these as of those."""
    made = seen(torchvision_vit).to("cpu", torch.float64)
    pictures = images(65, made.input_size)
    assert LibraGrad().unsupported(made) == ""
    few = Passes(made, pictures[:2])
    torch.testing.assert_close(LibraGrad().residual(few), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-9)
    many = Passes(made, pictures, chunk=65)
    torch.testing.assert_close(LibraGrad().explain(many)[:2], LibraGrad().explain(few))


class Squashed(nn.Module):
    """A sum with a gate, which is held fixed and no term then; or an operation that nobody thought of."""

    def __init__(self, known: bool) -> None:
        super().__init__()
        self.known = known

    def forward(self, x: Tensor) -> Tensor:
        return x + x.sigmoid() if self.known else torch.erf(x)


def test_a_network_whose_terms_miss_the_logit_or_have_no_rule_is_refused() -> None:
    made = small()
    made.network.fc_norm = Squashed(known=True)
    assert LibraGrad().unsupported(made).startswith("its terms miss")
    assert bool(LibraGrad().explain(passes_of(made)).isnan().all())
    made.network.fc_norm = Squashed(known=False)
    for method in (LibraGrad(), AttnLrp()):
        assert re.fullmatch(r"relevance propagation has no rule for \S*erf", method.unsupported(made))


# --- AttnLRP --------------------------------------------------------------------------------------------------------


def shared(contributions: Tensor, bias: Tensor | float, relevance: Tensor, gamma: float) -> Tensor:
    """Relevance [rows, in] of contributions [rows, out, in] to outputs of that relevance [rows, out]."""
    bias = torch.as_tensor(bias, dtype=contributions.dtype).expand(relevance.shape)
    z = (contributions.sum(dim=2) + bias)[:, :, None]

    def weighed(part: Tensor) -> Tensor:
        return part + gamma * torch.where(z > 0, part.clamp(min=0), part.clamp(max=0))

    numerators, own = weighed(contributions), weighed(bias[:, :, None])
    return (numerators / (numerators.sum(dim=2, keepdim=True) + own) * relevance[:, :, None]).sum(dim=1)


def through_linear(x: Tensor, layer: nn.Module, relevance: Tensor, gamma: float) -> Tensor:
    weight = layer.weight.reshape(len(layer.weight), -1)
    return shared(x[:, None, :] * weight[None], layer.bias, relevance, gamma)


def through_norm(x: Tensor, module: nn.Module, relevance: Tensor) -> Tensor:
    """(x - mean) / deviation * weight + bias, the deviation a constant: a matrix for each token."""
    spread = (x.var(dim=1, unbiased=False) + module.eps).sqrt()
    matrix = module.weight[:, None] * (torch.eye(DIM, dtype=x.dtype) - 1 / DIM)
    return shared(x[:, None, :] * matrix[None] / spread[:, None, None], module.bias, relevance, 0)


def through_sum(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    return a / (a + b) * relevance, b / (a + b) * relevance


def through_attention(rec: Record, relevance: Tensor, softmax: bool) -> Tensor:
    """Relevance [tokens, 3 DIM] of queries, keys and values, given that of what was mixed."""
    r = relevance.view(-1, HEADS, DIM // HEADS).transpose(0, 1)
    parts = torch.einsum("hts,hsd->htsd", rec.a, rec.v) * (r / (rec.a @ rec.v))[:, :, None]
    r_v = parts.sum(dim=1) / (2 if softmax else 1)
    scores = rec.q @ rec.k.transpose(1, 2) / (DIM // HEADS) ** 0.5
    r_a = parts.sum(dim=3) / 2
    r_scores = scores * (r_a - rec.a * r_a.sum(dim=2, keepdim=True))
    pairs = torch.einsum("htd,hsd->htsd", rec.q, rec.k) / (DIM // HEADS) ** 0.5
    pairs = pairs * (r_scores / scores)[:, :, :, None] / 2 * float(softmax)
    found = (pairs.sum(dim=2), pairs.sum(dim=1), r_v)
    return torch.cat([part.transpose(0, 1).reshape(-1, DIM) for part in found], dim=1)


def lrp_replica(made: Classifier, image: Tensor, target: int, method: AttnLrp) -> Tensor:
    """Relevance of pixels [SIDE, SIDE], contribution by contribution."""
    net, ran = made.network, run(made, image)
    with torch.no_grad():
        one_hot = torch.zeros(1, CLASSES, dtype=torch.float64)
        one_hot[0, target] = ran.logits[target]
        r = torch.zeros_like(ran.final)
        r[0] = through_linear(ran.final[:1], net.head, one_hot, method.linear_gamma)[0]
        last = ran.blocks[-1]
        r = through_norm(last.y + last.branch_again, net.norm, r)
        for block, rec in zip(reversed(list(net.blocks)), reversed(ran.blocks), strict=True):
            r_y, r_mlp = through_sum(rec.y, rec.branch_again, r)
            r_active = through_linear(rec.active, block.mlp.fc2, r_mlp, method.linear_gamma)
            r_hidden = through_linear(rec.normed_again, block.mlp.fc1, r_active, method.linear_gamma)
            r_y = r_y + through_norm(rec.y, block.norm2, r_hidden)
            r_x, r_branch = through_sum(rec.x, rec.branch, r_y)
            r_mixed = through_linear(rec.heads_out, block.attn.proj, r_branch, method.attention_gamma)
            r_qkv = through_attention(rec, r_mixed, method.softmax)
            r_normed = through_linear(rec.normed, block.attn.qkv, r_qkv, method.attention_gamma)
            r = r_x + through_norm(rec.x, block.norm1, r_normed)
        tokens = ran.blocks[0].x - net.pos_embed[0]
        r, _ = through_sum(tokens[1:], net.pos_embed[0, 1:], r[1:])
        side = SIDE // PATCH
        pixels = ((image - 0.5) / 0.5).view(3, side, PATCH, side, PATCH).permute(1, 3, 0, 2, 4).reshape(side**2, -1)
        found = through_linear(pixels, net.patch_embed.proj, r, method.conv_gamma)
        return found.view(side, side, 3, PATCH, PATCH).permute(2, 0, 3, 1, 4).reshape(3, SIDE, SIDE).sum(dim=0)


@pytest.mark.numeric
@pytest.mark.parametrize(
    "method",
    [AttnLrp(), AttnLrp(softmax=False), AttnLrp(linear_gamma=0, conv_gamma=0), AttnLrp(attention_gamma=0.5)],
    ids=["default", "cp", "epsilon", "gamma everywhere"],
)
@OPTIONS
def test_attn_lrp_shares_contribution_by_contribution(options: dict[str, object], method: AttnLrp) -> None:
    made = small(**options)
    passes = passes_of(made, 2)
    both = zip(passes.images, passes.targets.tolist(), strict=True)
    expected = torch.stack([lrp_replica(made, image, target, method) for image, target in both])
    # the replica divides relevance by single outputs, some of them near zero
    torch.testing.assert_close(method.explain(passes), expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize("gamma", [0, 0.25])
def test_without_biases_all_of_the_logit_arrives_at_the_pixels(gamma: float) -> None:
    """Conservation: what the rules lose goes to biases, and to what softmax hands on (so it is held here)."""
    made = small()
    for name, parameter in made.network.named_parameters():
        if "bias" in name or name in ("pos_embed", "cls_token"):
            parameter.zero_()
    passes = passes_of(made, 3)
    maps = AttnLrp(softmax=False, linear_gamma=gamma, conv_gamma=gamma, attention_gamma=gamma).explain(passes)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), passes.score(passes.logits))


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-2, -1)), dim=-1), v)


def test_attention_is_propagated_through_as_lxts_functions_do() -> None:
    functions = pytest.importorskip("lxt.explicit.functional")
    q, k, v = (
        torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3)
    )
    leaves = [value.clone().requires_grad_() for value in (q, k, v)]
    with Changed(COMMON | {torch.softmax: lambda func, *args, **kwargs: func(*args, **kwargs)}):
        out = attended(*leaves)
    ours = [x * g for x, g in zip((q, k, v), torch.autograd.grad(out.sum(), leaves), strict=True)]
    leaves = [value.clone().requires_grad_() for value in (q, k, v)]
    shares = functions.softmax(functions.matmul(leaves[0], leaves[1].transpose(-2, -1), False, 1e-15), -1)
    theirs = torch.autograd.grad(functions.matmul(shares, leaves[2], False, 1e-15), leaves, out.detach())
    torch.testing.assert_close(ours, list(theirs))


@pytest.mark.parametrize("gammas", [{}, {"conv_gamma": 0.25, "linear_gamma": 0.05}], ids=["epsilon", "gamma"])
def test_cp_lrp_is_lxts_on_torchvisions_transformer(gammas: dict[str, float]) -> None:
    for library in ("lxt", "zennit"):
        pytest.importorskip(library, reason=f"{library} comes with the extra `lxt`")
    made = seen(torchvision_vit).to("cpu", torch.float64)
    passes = Passes(made, images(2, made.input_size), torch.tensor([0, 3]))
    ours = AttnLrp(softmax=False, **({"conv_gamma": 0, "linear_gamma": 0} | gammas)).explain(passes)
    theirs = Lxt(arguments=gammas).explain(passes)
    # they move divisors away from zero, by up to 1e-6
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(ours.abs().max()))


# --- what holds for all ---------------------------------------------------------------------------------------------


@pytest.mark.numeric
@pytest.mark.parametrize("method", RECENT.values(), ids=RECENT)
def test_maps_do_not_depend_on_batch_order_or_chunk(method: Explainer) -> None:
    made = small(reg_tokens=1)
    pictures, targets = images(4), torch.tensor([3, 1, 4, 1])
    whole = method.explain(Passes(made, pictures, targets))
    assert whole.shape[1:] in ((SIDE // PATCH, SIDE // PATCH), (SIDE, SIDE))
    assert not any((m == m[0, 0]).all() for m in whole)
    assert not torch.allclose(whole[1], whole[3])
    order = [2, 0, 3, 1]
    turned = Passes(made, pictures[order], targets[order], chunk=3)
    torch.testing.assert_close(method.explain(turned), whole[order], rtol=1e-6, atol=1e-10)
    alone = Passes(made, pictures[1:2], targets[1:2], chunk=1)
    torch.testing.assert_close(method.explain(alone), whole[1:2], rtol=1e-6, atol=1e-10)
    other = method.explain(Passes(made, pictures[1:2], targets[:1]))
    assert not torch.allclose(other, whole[1:2]), "another class, another map"


@pytest.mark.parametrize("method", RECENT.values(), ids=RECENT)
def test_nothing_is_left_behind_also_after_an_exception(method: Explainer) -> None:
    made = small()
    method.explain(passes_of(made))

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    handle = made.network.blocks[2].mlp.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="device lost"):
        method.explain(passes_of(made))
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in made.network.modules())
    assert not any(p.requires_grad or p.grad is not None for p in made.network.parameters())
    assert _get_current_function_mode_stack() == []


def test_impossible_pairs_have_a_reason() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    cnn = classifier_of(network, kind="cnn")
    for method in RECENT.values():
        assert method.unsupported(cnn) == "needs attention matrices between all patches; this model shows none"
        assert method.unsupported(small()) == ""
    pooled = small()
    pooled.adopt("vit", {}, {}, Attention(pooled.attention_layers, 1, readout=tuple(range(1, 10))))
    assert GradEclip().unsupported(pooled) == "needs a class token that its head reads"
    assert LeGrad(start_layer=3).unsupported(small()) == "has 3 blocks, none with index start_layer=3"
    with pytest.raises(ValueError, match="start_layer: expected the index of a block, from 0, got -1"):
        LeGrad(start_layer=-1)
    with pytest.raises(ValueError, match="layers: expected all or first, got 'last'"):
        LibraGrad(layers="last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="conv_gamma: expected 0 or more, got -1"):
        AttnLrp(conv_gamma=-1)


@pytest.mark.parametrize(
    ("method", "least", "most"),
    [
        (LeGrad(), 1.4, 1.9),
        (TokenTm(), 2.7, 3.1),  # with the gradients that GAE and DIX share
        (GradEclip(), 1.0, 1.5),
        (LibraGrad(), 1.7, 2.1),
        (AttnLrp(linear_gamma=0, conv_gamma=0), 1.9, 2.2),
        (AttnLrp(), 4.5, 5.5),
    ],
)
def test_what_a_map_costs_beside_the_clean_pass(method: Explainer, least: float, most: float) -> None:
    made = small(embed_dim=64, num_heads=2)
    assert least < forward_equivalents(made, [method], images(1)) - 1 < most
