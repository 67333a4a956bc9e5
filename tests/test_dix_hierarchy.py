"""Relevance carried through hierarchies of attention, against networks and their relevance written out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from support.hierarchies import REPLICAS, SIDE, Run, by_hand, hierarchy, pvt, swin
from support.small_networks import VIT_SIDE, pixels, small_vit
from timm.models.davit import DaVit
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from dix.baselines.attention import CarriedGae, Gae
from dix.classifier import Classifier
from dix.cli.config import composed
from dix.cli.construct import classifier_of
from dix.cli.options import search_path
from dix.explainer import PathIntegral
from dix.hierarchy import CarriedAttention, CarriedDix, Reach, _Way, attention_of, lacks_way
from dix.passes import Passes
from dix.precision import evaluator


def replica(name: str, classifier: Classifier, image: Tensor, replaced: Mapping[int, Tensor]) -> Run:
    normal = ((image - classifier.mean) / classifier.std)[0].requires_grad_()
    return REPLICAS[name][1](classifier.network, normal, replaced)


def weighted(run: Run, target: int, phi: str = "product") -> list[Tensor]:
    """ReLU(phi(A, dA)) of every block, dense; nothing where A is nothing, since other windows are not attended to."""
    found = torch.autograd.grad(run.logits[target], [block.attention for block in run.blocks])
    gradient = {"product": lambda a, g: a * g, "gradient": lambda a, g: g * (a != 0)}[phi]
    return [gradient(b.attention, g).clamp(min=0).detach() for b, g in zip(run.blocks, found, strict=True)]


@pytest.mark.parametrize("name", REPLICAS)
def test_the_replica_is_the_network(name: str) -> None:
    classifier, images = hierarchy(REPLICAS[name][0]), pixels(2)
    for i, image in enumerate(images):
        # Two codes for the same double-precision sums: some hundred roundings of logits near 1.
        torch.testing.assert_close(replica(name, classifier, image, {}).logits, classifier.logits(images)[i])


@pytest.mark.parametrize("name", REPLICAS)
def test_gae_is_the_product_of_dense_matrices(name: str) -> None:
    classifier, images = hierarchy(REPLICAS[name][0]), pixels(2)
    passes = Passes(classifier, images)
    found = CarriedGae().explain(passes)
    for i, image in enumerate(images):
        run = replica(name, classifier, image, {})
        expected = by_hand(name, run, weighted(run, int(passes.targets[i])))
        assert (found[i] - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("phi", ["product", "gradient"])
@pytest.mark.parametrize("name", REPLICAS)
def test_dix_is_the_mean_of_its_paths(name: str, phi: str) -> None:
    classifier, images = hierarchy(REPLICAS[name][0]), pixels(2)
    passes = Passes(classifier, images)
    found = CarriedDix(depth=2, phi=phi, path=PathIntegral(steps=3)).explain(passes)
    for i, image in enumerate(images):
        target, clean, maps = int(passes.targets[i]), replica(name, classifier, image, {}), []
        for block in (3, 2):
            total = [torch.zeros_like(one.attention) for one in clean.blocks]
            for n in (1, 2, 3):
                run = replica(name, classifier, image, {block: n / 3 * clean.blocks[block].attention.detach()})
                total = [t + e / 3 for t, e in zip(total, weighted(run, target, phi), strict=True)]
            m = by_hand(name, clean, total)
            maps.append(m / m.max())
        assert (found[i] - torch.stack(maps).mean(dim=0)).abs().max() < 1e-6


def test_a_plain_transformer_has_the_rollout_of_its_class_token() -> None:
    """A patch's relevance is shared by its 64 pixels; everything else is as GAE multiplies it."""
    passes = Passes(small_vit(), pixels(2, VIT_SIDE))
    patches = nn.functional.avg_pool2d(CarriedGae().explain(passes)[:, None], 8, divisor_override=1)[:, 0]
    torch.testing.assert_close(patches, Gae().explain(passes), rtol=1e-9, atol=0)


@pytest.mark.parametrize("build", [swin, pvt])
def test_skips_hand_on_all_relevance(build: object) -> None:
    classifier = hierarchy(build)
    passes, both = Passes(classifier, pixels(2)), torch.arange(2)
    matrices = [run.attention for run in attention_of(passes, both)]
    skips = _Way(passes, both, matrices).back(set())
    torch.testing.assert_close(skips.sum(dim=(1, 2)), torch.ones(2, dtype=torch.float64))
    assert skips.min() > 0


def test_single_precision_and_batches_change_little() -> None:
    classifier = hierarchy(swin, torch.float32)
    images = pixels(3).float()
    both = CarriedGae().explain(Passes(classifier, images))
    alone = CarriedGae().explain(Passes(classifier, images[1:2], chunk=1))
    # Attention and gradients come from single precision: 20 sums of up to 256 terms that add up like a random walk.
    assert (both[1:2] - alone).abs().max() <= 1e-3 * alone.abs().max()


def test_only_attention_between_places_counts() -> None:
    """DaViT's blocks attend between the places of a window, and then between channels, by turns."""
    classifier = hierarchy(
        lambda: DaVit(depths=(1, 1), embed_dims=(12, 24), num_heads=(3, 3), window_size=4, num_classes=5)
    )
    assert Passes(classifier, pixels(1)).get(Reach()) == (0, 2)
    assert CarriedDix(depth=2).unsupported(classifier) == ""
    assert CarriedDix().unsupported(classifier) == "needs 3 softmax attentions between places; this model shows 2"


class Attending(nn.Module):
    """Patches of 8 x 8 pixels, and a block with some kind of attention."""

    def __init__(self, attend: object, skip: bool = True) -> None:
        super().__init__()
        self.embed, self.qkv, self.head = nn.Conv2d(3, 12, 8, 8), nn.Linear(12, 36), nn.Linear(12, 5)
        self.attend, self.skip = attend, skip

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images).flatten(2).transpose(1, 2)
        mixed = self.attend(*self.qkv(x).chunk(3, dim=-1))
        return self.head((x + mixed if self.skip else mixed).mean(dim=1))


def shares_of(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)


KINDS = {
    "softmax": (lambda q, k, v: shares_of(q, k) @ v, ""),
    "fused": (nn.functional.scaled_dot_product_attention, ""),
    "values first": (lambda q, k, v: (v.mT @ shares_of(q, k).mT).mT, ""),
    "einsum": (lambda q, k, v: torch.einsum("bts,bsc->btc", shares_of(q, k), v), ""),
    "channels": (
        lambda q, k, v: (q.mT @ k).softmax(dim=-1).matmul(v.mT).mT,
        "needs 1 softmax attentions between places; this model shows none",
    ),
    "linear": (
        lambda q, k, v: q @ (k.softmax(dim=1).mT @ v),
        "relevance cannot be carried back through a softmax over tokens (linear attention)",
    ),
    "kernel": (lambda q, k, v: q.relu() @ (k.relu().mT @ v), "relevance cannot be carried back through matmul"),
    "own formula": (
        lambda q, k, v: shares_of(q, k) @ v.cumsum(1), "relevance cannot be carried back through cumsum"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_carried_is_refused_by_name(kind: str) -> None:
    attend, reason = KINDS[kind]
    said = CarriedGae().unsupported(hierarchy(lambda: Attending(attend)))
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


@pytest.mark.parametrize("kind", ["fused", "values first", "einsum"])
def test_every_way_to_write_attention_has_the_same_relevance(kind: str) -> None:
    found = [
        CarriedGae().explain(Passes(hierarchy(partial(Attending, KINDS[one][0])), pixels(1)))
        for one in ("softmax", kind)
    ]
    torch.testing.assert_close(*found, rtol=1e-9, atol=0)


def test_a_branch_without_attention_hands_nothing_back() -> None:
    """x + MLP(x) counts once, also where the MLP has a product that no rule is known for."""

    def block(mlp: object) -> nn.Module:
        class Two(Attending):
            def forward(self, images: Tensor) -> Tensor:
                x = self.embed(images).flatten(2).transpose(1, 2)
                x = x + KINDS["softmax"][0](*self.qkv(x).chunk(3, dim=-1))
                return self.head((x + mlp(x)).mean(dim=1))

        return Two(None)

    for mlp in (lambda x: 0 * x.tanh(), lambda x: 0 * x.sin() * x.cos()):
        found = CarriedGae().explain(Passes(hierarchy(partial(block, mlp)), pixels(1)))
        plain = CarriedGae().explain(Passes(hierarchy(lambda: Attending(KINDS["softmax"][0])), pixels(1)))
        torch.testing.assert_close(found, plain, rtol=1e-9, atol=0)


def test_double_precision_leaves_shared_modules_as_they_were() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.second = nn.Sequential(self.first)
            self.tied = nn.Conv2d(3, 3, 1)
            self.tied.weight = self.first.weight

        def forward(self, images: Tensor) -> Tensor:
            return self.tied(self.second(self.first(images))).mean(dim=(2, 3))

    classifier = hierarchy(Shared, torch.float32)
    images = pixels(1).float()
    made = evaluator(classifier, "double")(images)
    assert made.dtype == torch.float64
    torch.testing.assert_close(classifier.network(images), made.float())  # the same sums, rounded once more


def test_sums_in_place_are_looked_at_too() -> None:
    """ConvNeXt adds its skips in place, to what the numbers of its tokens are a view of."""
    stages = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    classifier = hierarchy(lambda: ConvNeXt(stages, num_classes=5))
    assert CarriedGae().unsupported(classifier) == "needs 1 softmax attentions between places; this model shows none"


def test_the_trained_hierarchy_of_the_page_is_what_the_page_says() -> None:
    own = search_path([Path(__file__).resolve().parent.parent / "scripts" / "hierarchy"])
    classifier = classifier_of(composed(["experiment=train_hierarchy", *own]))
    passes = Passes(classifier, pixels(1, classifier.input_size).float())
    assert [passes.activation(alias).shape[-1] for alias in ("last", "second", "third")] == [4, 8, 16]
    assert lacks_way(classifier, 3) == ""
    assert {"dix3_carried", "dix3", "gc"} < set(composed(["experiment=hierarchy", *own]).method)


def test_parameters() -> None:
    with pytest.raises(ValueError, match="depth: expected at least 1"):
        CarriedDix(depth=0)
    with pytest.raises(ValueError, match="phi: expected one of"):
        CarriedDix(phi="odd")
    assert CarriedAttention().compute(Passes(hierarchy(pvt), pixels(1))).shape == (1, SIDE, SIDE)
