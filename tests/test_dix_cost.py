"""Forward-equivalents, counted from the operations that run, and the literal way that they are compared with."""

from __future__ import annotations

import math

import pytest
import torch
from support.small_networks import CNNS, VIT_SIDE, pixels, small_cnn, small_vit
from torch import nn

from dix.baselines.path import IntegratedGradients
from dix.bench.run.speed import (
    HEADER,
    Effort,
    Speed,
    bench,
    flops,
    forward_equivalents,
    forward_flops,
    literal_dix,
    shortened,
)
from dix.explainer import Dix, Explainer, PathIntegral
from dix.models import zoo
from dix.passes import Passes
from dix.released import Released

ALL = [Dix(depth=1), Dix(depth=2), Dix(depth=3), Dix(depth=2, combine="product"), Dix(phi="gradient")]
LAYERS = {"last": "layer4", "second": "layer3", "third": "layer2"}


def test_operations_are_counted_by_their_formulas() -> None:
    """2 m n k for a product, 2 x (output elements) x (inputs to each) for a convolution, the same again backward."""
    a, b = torch.ones(3, 4), torch.ones(4, 5, requires_grad=True)
    assert flops(lambda: a @ b) == 2 * 3 * 4 * 5
    conv = nn.Conv2d(3, 6, 5).requires_grad_(False)
    x = torch.ones(2, 3, 9, 9, requires_grad=True)
    once = 2 * (2 * 6 * 5 * 5) * (3 * 5 * 5)
    assert flops(lambda: conv(x)) == once
    assert flops(lambda: conv(x).sum().backward()) == 2 * once
    linear = nn.Linear(7, 8).requires_grad_(False)
    y = torch.ones(3, 7, requires_grad=True)
    assert flops(lambda: linear(y).sum().backward()) == 2 * (2 * 3 * 7 * 8)


def resnet_shares(classifier) -> dict[str, float]:
    """The share of a forward pass that each tail is, from the shapes that the stages' convolutions see."""
    counts: dict[str, int] = {}

    def note(name: str):
        def hook(module: nn.Module, arguments: tuple, output: torch.Tensor) -> None:
            counts[name] = output[0].numel() * module.weight[0].numel()

        return hook

    layers = [(n, m) for n, m in classifier.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [module.register_forward_hook(note(name)) for name, module in layers]
    size = classifier.input_size
    classifier.logits(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    total = sum(counts.values())
    tails = {"last": ("fc",), "second": ("layer4", "fc"), "third": ("layer3", "layer4", "fc")}
    return {
        alias: sum(count for name, count in counts.items() if name.startswith(prefixes)) / total
        for alias, prefixes in tails.items()
    }


def test_all_variants_together_cost_at_most_17_5_forward_passes_on_resnet101() -> None:
    """The real network: the clean pass, its gradient, and 9 of 10 steps forward and back through each tail."""
    classifier = zoo.torchvision_model("resnet101", "resnet101", LAYERS, weights="random")
    shares = resnet_shares(classifier)
    assert 0.09 < shares["second"] < 0.12
    expected = 1 + shares["third"] + 18 * sum(shares.values())
    found = forward_equivalents(classifier, ALL, torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert found == pytest.approx(expected, rel=1e-3)
    assert found <= 17.5


@pytest.mark.parametrize("chunk", [2, 1000])
def test_cost_per_image_depends_on_neither_batch_nor_chunk(chunk: int) -> None:
    for classifier in (small_cnn("resnet"), small_vit()):
        one = forward_equivalents(classifier, Dix(), pixels(1, classifier.input_size))
        four = forward_equivalents(classifier, Dix(), pixels(4, classifier.input_size), chunk)
        assert four == pytest.approx(one, rel=1e-9)


def test_variants_share_their_integrals() -> None:
    for classifier in (small_cnn("convnext"), small_vit()):
        images = pixels(2, classifier.input_size)
        alone = forward_equivalents(classifier, Dix(), images)
        assert forward_equivalents(classifier, ALL, images) == pytest.approx(alone, rel=1e-9)
        assert alone < sum(forward_equivalents(classifier, method, images) for method in (ALL[1], ALL[3], ALL[4]))


def vit_small_cost() -> tuple[float, float, float, float]:
    classifier = zoo.timm_model("vit_small", "vit_small_patch16_224.augreg_in21k_ft_in1k", weights="random")
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    one, two, three = (forward_equivalents(classifier, Dix(depth=depth), image) for depth in (1, 2, 3))
    return one, two, three, forward_equivalents(classifier, Released(), image)


@pytest.mark.slow
def test_vit_variants_share_the_blocks_before_the_interpolated_one() -> None:
    """Per step a backward pass of everything, but forward only of the d + 1 last of 12 blocks; the rest once.

    Against 2 F a step and layer for whole passes (20, 40, 60): products of two activations cost two in backward.
    """
    one, two, three, released = vit_small_cost()
    assert 11 < one < 15
    assert 23 < two < 29
    assert 36 < three < 44
    assert 24 < released < 32


@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize(
    "method", [Dix(depth=1), Dix(path=PathIntegral(3, "trapezoid")), Dix(phi="gradient", normalise=False)]
)
def test_the_literal_way_gives_the_same_maps(kind: str, method: Dix) -> None:
    classifier, images = small_cnn(kind), pixels(2)
    found = literal_dix(classifier, images, method)
    expected = method.explain(Passes(classifier, images))
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    other = literal_dix(classifier, images, method, torch.tensor([1, 3]))
    expected = method.explain(Passes(classifier, images, torch.tensor([1, 3])))
    assert (other - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_the_literal_way_costs_two_forward_passes_a_step_and_layer() -> None:
    """Plus the one that finds the class; the first convolution's backward included."""
    classifier, image = small_cnn("resnet"), pixels(1)
    cost = flops(lambda: literal_dix(classifier, image, Dix())) / forward_flops(classifier, image)
    assert cost == pytest.approx(1 + 3 * 10 * 2, rel=1e-9)


def test_there_is_no_literal_way_for_transformers() -> None:
    with pytest.raises(ValueError, match="literal_dix: expected a CNN, got vit"):
        literal_dix(small_vit(), pixels(1, VIT_SIDE), Dix())


def test_a_bench_has_a_row_for_each_method_and_one_for_all() -> None:
    methods = {"dix2": Dix(depth=2), "dix1_released": Released(depth=1)}
    [dix2, released, both] = bench(small_cnn("resnet"), methods, Effort(batch=2))
    assert [row.method for row in (dix2, released, both)] == ["dix2", "dix1_released", "dix2 + dix1_released"]
    assert dix2.literal > 0
    assert math.isnan(released.literal)
    assert both.passes <= dix2.passes + released.passes
    assert min(row.seconds for row in (dix2, released, both)) > 0
    [only] = bench(small_vit(), methods, Effort(batch=2))  # the release is for CNNs
    assert (only.method, math.isnan(only.literal)) == ("dix2", True)


def test_long_paths_are_timed_in_part_and_continued() -> None:
    """From 2 and 4 of 10 steps: a library of 1 s and 2 s a step takes 21 s; passes are those of all steps."""
    asked: list[int] = []

    def library(name: str, method: Explainer, image: torch.Tensor) -> tuple[float, str]:
        steps: int = method.steps  # type: ignore[attr-defined]
        asked.append(steps)
        return 1.0 + 2.0 * steps, "a library"

    classifier = small_cnn("resnet")
    [row] = bench(classifier, {"ig": IntegratedGradients(steps=10)}, Effort(batch=1, steps=2), library)
    everything = forward_equivalents(classifier, IntegratedGradients(steps=10), torch.rand(1, 3, 64, 64))
    assert row.passes == pytest.approx(everything, rel=1e-6)
    assert (row.library, row.note, asked) == (21.0, "from 2 and 4 steps, a library", [2, 4])
    assert not shortened(Dix(), 2)
    assert not shortened(IntegratedGradients(steps=4), 2)


def test_a_row_prints_its_numbers() -> None:
    """Passes of 0.02 s: 16 of them would take 0.32 s, and 0.4 s are 1.25 times as long."""
    row = Speed("m", "dix3", 8, seconds=0.4, passes=16.0, rate=0.02, literal=2.0)
    assert str(row).split() == ["dix3", "8", "0.400", "16.00", "0.320", "1.25", "-", "-", "2.000", "5.0"]
    assert len(HEADER.split()) == 10
