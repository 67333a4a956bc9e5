"""DIX for Vision Transformers against its definition, written out in double precision one image and step at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import rounding
from support.small_networks import VIT_SIDE, pixels, small_vit
from torch import Tensor

from dix.attention import attention_runs
from dix.classifier import Classifier
from dix.explainer import AttentionSums, Dix, LayerSums, PathIntegral, Rollout
from dix.passes import Passes
from dix.released import Released

BLOCKS = 4


def literal_run(
    classifier: Classifier, image: Tensor, target: int, replaced: dict[int, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Attention [heads, T, T] and its gradient of every block, computed with the blocks' own formulas.

    replaced: attention by block that is used instead of the softmax.
    """
    net = classifier.network
    x = net.patch_embed((image[None] - classifier.mean) / classifier.std)
    x = torch.cat([net.cls_token, x], dim=1) + net.pos_embed
    used = []
    for i, block in enumerate(net.blocks):
        tokens = block.norm1(x)
        q, k, v = block.attn.qkv(tokens).view(1, tokens.shape[1], 3, 3, 8).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1) / 8**0.5).softmax(dim=-1)
        a = replaced[i][None].clone().requires_grad_() if i in replaced else a.requires_grad_()
        if not a.is_leaf:
            a.retain_grad()
        used.append(a)
        x = x + block.attn.proj((a @ v).transpose(1, 2).reshape(1, tokens.shape[1], 24))
        x = x + block.mlp(block.norm2(x))
    net.head(net.norm(x)[:, 0])[0, target].backward()
    return [(a.detach()[0], a.grad[0]) for a in used]


def literal_e(run: list[tuple[Tensor, Tensor]], plain_gradient: bool = False) -> list[Tensor]:
    return [((g if plain_gradient else a * g).clamp(min=0)).mean(dim=0) for a, g in run]


def literal_rollout(e: list[Tensor], residual: bool = True, normalise: bool = True, product: bool = True) -> Tensor:
    """The row of CLS of the blocks' matrices, later ones on the left, as a 4 x 4 map; 0 / 0 is 0."""
    matrices = []
    for block in e:
        matrix = block + torch.eye(17, dtype=block.dtype) if residual else block
        matrices.append((matrix / matrix.sum(dim=1, keepdim=True)).nan_to_num(0) if normalise else matrix)
    result = matrices[0]
    for matrix in matrices[1:]:
        result = matrix @ result if product else matrix + result
    return result[0, 1:].reshape(4, 4)


def enlarged(m: Tensor) -> Tensor:
    return F.interpolate(m[None, None], size=(VIT_SIDE, VIT_SIDE), mode="bilinear", align_corners=False)[0, 0]


def scaled(m: Tensor) -> Tensor:
    """A layer's map at the image's size, divided by its maximum; a rollout is never negative."""
    full = enlarged(m)
    assert full.min() >= 0
    return full / full.max()


def literal_layer(
    classifier: Classifier, image: Tensor, target: int, block: int, steps: int, plain_gradient: bool = False, **options
) -> Tensor:
    """One layer's rollout of the mean of E over t = 1/N, ..., 1."""
    attention = literal_run(classifier, image, target, {})[block][0]
    total = [torch.zeros(17, 17, dtype=image.dtype)] * BLOCKS
    for n in range(1, steps + 1):
        run = literal_run(classifier, image, target, {block: n / steps * attention})
        total = [s + e / steps for s, e in zip(total, literal_e(run, plain_gradient), strict=True)]
    return literal_rollout(total, **options)


@pytest.mark.numeric
@pytest.mark.parametrize("phi", ["product", "gradient", "rectified"])
def test_maps_are_the_definition(phi: str) -> None:
    """DIX1, 2, 3, DIX2-MUL, DIX3-GRADS; ReLU(r) ReLU(g) is ReLU(r g), attention being positive."""
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    passes = Passes(classifier, images)
    for i, image in enumerate(images):
        target = int(passes.targets[i])
        layers = [literal_layer(classifier, image, target, 3 - d, 10, phi == "gradient") for d in range(3)]
        maps = torch.stack([scaled(m) for m in layers])
        for method, expected in [
            (Dix(depth=1, phi=phi), maps[0]),
            (Dix(depth=2, phi=phi), maps[:2].mean(dim=0)),
            (Dix(depth=3, phi=phi), maps.mean(dim=0)),
            (Dix(depth=2, phi=phi, combine="product"), maps[0] * maps[1]),
        ]:
            assert (method.explain(passes)[i] - expected).abs().max() < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"residual": False},
        {"normalise": False},
        {"residual": False, "normalise": False},
        {"product": False},
        {"product": False, "normalise": False},
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_rollout_options_are_the_literal_matrices(options: dict[str, bool], depth: int) -> None:
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    passes = Passes(classifier, images)
    rollout = Rollout(
        residual=options.get("residual", True),
        normalise_rows=options.get("normalise", True),
        product=options.get("product", True),
    )
    found = passes.get(AttentionSums(3 - depth, PathIntegral(steps=4), rollout))["product"]
    for i, image in enumerate(images):
        expected = literal_layer(classifier, image, int(passes.targets[i]), 3 - depth, 4, **options)
        assert (found[i] - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_per_step_rolls_out_before_the_sum() -> None:
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    passes = Passes(classifier, images)
    found = passes.get(AttentionSums(2, PathIntegral(steps=4), Rollout(), per_step=True))["product"]
    for i, image in enumerate(images):
        target = int(passes.targets[i])
        attention = literal_run(classifier, image, target, {})[2][0]
        runs = [literal_run(classifier, image, target, {2: n / 4 * attention}) for n in range(1, 5)]
        expected = sum(literal_rollout(literal_e(run)) for run in runs) / 4
        assert (found[i] - expected).abs().max() <= 1e-6 * expected.abs().max()
        once = literal_layer(classifier, image, target, 2, 4)
        assert (found[i] - once).abs().max() > 1e-5 * once.abs().max()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_runs_are_whole_forward_passes(block: int) -> None:
    """What runs once an image and what runs once a step make up the plain computation, for every block's gradient."""
    classifier, images = small_vit(), pixels(3, VIT_SIDE)
    passes = Passes(classifier, images)
    times = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    seen = []
    for point, group, run in attention_runs(passes, block, times, chunk=4):
        for offset, i in enumerate(range(3)[group]):
            target = int(passes.targets[i])
            attention = literal_run(classifier, images[i], target, {})[block][0]
            literal = literal_run(classifier, images[i], target, {block: times[point] * attention})
            seen.append((point, i))
            for (a, g), (expected_a, expected_g) in zip(run, literal, strict=True):
                torch.testing.assert_close(a[offset], expected_a, rtol=1e-9, atol=1e-12)
                torch.testing.assert_close(g[offset], expected_g, rtol=1e-9, atol=1e-12)
    assert sorted(seen) == [(p, i) for p in range(3) for i in range(3)]


def test_another_blocks_attention_can_be_injected() -> None:
    classifier, images = small_vit(), pixels(1, VIT_SIDE)
    passes = Passes(classifier, images)
    source = passes.activation(classifier.attention_layers[3])[0]
    ((_, _, run),) = attention_runs(passes, 1, torch.tensor([0.5], dtype=torch.float64), chunk=8, source=3)
    literal = literal_run(classifier, images[0], int(passes.targets[0]), {1: 0.5 * source})
    for (a, g), (expected_a, expected_g) in zip(run, literal, strict=True):
        torch.testing.assert_close(a[0], expected_a, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(g[0], expected_g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_attention_integral_is_complete(block: int) -> None:
    """Eq. 1 with z = 0: the sum of A times the mean gradient is f(x) minus f with the block's attention at zero."""
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    name = classifier.attention_layers[block]
    passes = Passes(classifier, images)
    h, sums = passes.get(LayerSums(name, PathIntegral(200, "midpoint", "zero")))
    torch.testing.assert_close(h, passes.activation(name))
    expected = passes.score(passes.logits) - passes.score(
        classifier.tail(name).logits(torch.zeros_like(h), passes.context(name))
    )
    assert (expected.abs() > 1e-3).all()
    found = (h * sums["gradient"]).flatten(1).sum(dim=1)
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_the_probability_is_differentiated_where_asked_for() -> None:
    """For a softmax p of logits s, dp_k = p_k sum_j (delta_jk - p_j) ds_j; checked by differences along A."""
    classifier, images = small_vit(), pixels(1, VIT_SIDE)
    passes = Passes(classifier, images)
    name = classifier.attention_layers[2]
    at = torch.tensor([0.5], dtype=torch.float64)
    ((_, _, run),) = attention_runs(passes, 2, at, chunk=8, score="probability")
    tail, context, attention = classifier.tail(name), passes.context(name), passes.activation(name)

    def probability(t: float) -> float:
        return float(tail.logits(t * attention, context).softmax(dim=1)[0, passes.targets[0]])

    slope = (probability(0.5 + 1e-5) - probability(0.5 - 1e-5)) / 2e-5
    assert float((run[2].gradient * attention).sum()) == pytest.approx(slope, rel=1e-6)


@pytest.mark.numeric
@pytest.mark.parametrize("per_step", [False, True])
def test_batches_and_chunks_change_nothing(per_step: bool) -> None:
    """Maps (in [0, 1]) of a batch of 4, of single images, and of any chunk agree to the rounding of double precision.

    That is 6e-12 for conditions of up to 100.
    """
    classifier, images = small_vit(), pixels(4, VIT_SIDE)
    method = Dix(per_step=per_step)
    together = method.explain(Passes(classifier, images))
    alone = torch.cat([method.explain(Passes(classifier, image[None])) for image in images])
    assert (together - alone).abs().max() <= rounding.tolerance(torch.float64, 100)
    for chunk in (1, 5, 1000):
        other = method.explain(Passes(classifier, images, chunk=chunk))
        assert (other - together).abs().max() <= rounding.tolerance(torch.float64, 100)


@pytest.mark.numeric
def test_single_precision_is_near_double() -> None:
    """Within rounding times condition: nothing on the way (GELU, softmax, ReLU of a value, min-max) has a jump.

    The condition is a rollout's size over its range. Its entries are sums of what is not negative, so that nothing
    cancels in them.
    """
    exact, images = Passes(small_vit(), pixels(4, VIT_SIDE)), pixels(4, VIT_SIDE, torch.float32)
    single = Dix().explain(Passes(small_vit(torch.float32), images, exact.targets))
    layers = torch.stack(
        [exact.get(AttentionSums(3 - d, PathIntegral(), Rollout()))["product"] for d in range(3)]
    ).flatten(2)
    condition = float((layers.amax(dim=2) / (layers.amax(dim=2) - layers.amin(dim=2))).max())
    assert (single - Dix().explain(exact)).abs().max() <= rounding.tolerance(torch.float32, condition)


def test_explaining_leaves_shared_gradients_alone() -> None:
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    passes = Passes(classifier, images)
    names = classifier.attention_layers
    before = [(passes.activation(name).clone(), passes.gradient(name).clone()) for name in names]
    for phi in ("gradient", "product", "rectified"):
        Dix(phi=phi).explain(passes)
    for name, (attention, gradient) in zip(names, before, strict=True):
        assert torch.equal(attention, passes.activation(name))
        assert torch.equal(gradient, passes.gradient(name))


def test_too_few_blocks_are_a_reason_to_skip() -> None:
    assert Dix(depth=3).unsupported(small_vit(blocks=2)) == "fewer attention blocks than layers asked for"
    assert Dix(depth=2).unsupported(small_vit(blocks=2)) == ""


def test_the_released_variant_is_what_the_published_code_computes() -> None:
    """The last block's attention, times 0, 0.1, ..., 1, injected at the last block and at the one before."""
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    passes = Passes(classifier, images)
    found = Released(depth=2).explain(passes)
    for i, image in enumerate(images):
        target = int(passes.targets[i])
        last = literal_run(classifier, image, target, {})[3][0]
        total = torch.zeros(4, 4, dtype=torch.float64)
        for block in (3, 2):
            runs = [literal_e(literal_run(classifier, image, target, {block: n / 10 * last})) for n in range(11)]
            total += literal_rollout([sum(blocks) / 11 for blocks in zip(*runs, strict=True)])
        full = enlarged(total)
        assert (found[i] - (full - full.min()) / (full.max() - full.min())).abs().max() < 1e-6
    assert "only for Vision" in Released(depth=1).unsupported(classifier)
    assert "only for Vision" in Released(depth=3).unsupported(classifier)
