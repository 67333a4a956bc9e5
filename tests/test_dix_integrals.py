"""DIX for CNNs against the thesis's equations, written out in double precision one image and one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import rounding
from support.small_networks import CNNS, SIDE, pixels, small_cnn
from torch import Tensor, nn

from dix.classifier import Classifier, Weights
from dix.explainer import Dix, LayerSums, PathIntegral
from dix.integrate import baseline, quadrature
from dix.maps import by_maximum, faults, min_max, resize
from dix.passes import Passes

ALIASES = ("last", "second", "third")


def literal_sum(
    tail: Callable[[Tensor], Tensor], x: Tensor, target: int, steps: int, phi: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """(x - z) / N times the sum over n of phi(r(n/N), g(n/N)) for one image's x [C, h, w] (Eq. 5 inside psi)."""
    z = torch.stack([channel.min().expand_as(channel) for channel in x])
    total = torch.zeros_like(x)
    for n in range(1, steps + 1):
        r = (z + n / steps * (x - z)).requires_grad_()
        tail(r[None])[0, target].backward()
        assert r.grad is not None
        total += phi(r.detach(), r.grad)
    return (x - z) / steps * total


def literal_map(m: Tensor, normalise: bool | str) -> Tensor:
    """Psi of Sec. 4.1: channel mean, resize, and the scale that is asked for."""
    full = F.interpolate(m.mean(dim=0)[None, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0]
    if normalise == "positive":
        full = full.clamp(min=0)
    if normalise in ("maximum", "positive"):
        return full / full.max() if full.max() > 0 else full / full.abs().max().clamp(min=1e-300)
    return (full - full.min()) / (full.max() - full.min()) if normalise else full


PHIS = {
    "product": lambda r, g: r * g,
    "gradient": lambda r, g: g,
    "rectified": lambda r, g: r.clamp(min=0) * g.clamp(min=0),
    "positive_gradient": lambda r, g: g.clamp(min=0),
}


def literal_layers(kind: str, classifier: Classifier, image: Tensor, phi: str, steps: int = 10) -> list[Tensor]:
    """The layers' attributions [C, h, w] of one image, L first, with the tails that were sliced by hand."""
    network, mean, std = classifier.network, classifier.mean, classifier.std
    seen: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _m, _a, out, alias=alias: seen.update({alias: out}))
        for alias, name in CNNS[kind].layers.items()
    ]
    with torch.no_grad():
        target = int(network((image[None] - mean) / std).argmax())
    for hook in hooks:
        hook.remove()
    tails = CNNS[kind].tails
    return [literal_sum(partial(tails[alias], network), seen[alias][0], target, steps, PHIS[phi]) for alias in ALIASES]


@pytest.mark.numeric
@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize("phi", PHIS)
def test_layer_sums_are_the_equations(kind: str, phi: str) -> None:
    classifier, images = small_cnn(kind), pixels(2)
    passes = Passes(classifier, images)
    for i, image in enumerate(images):
        for alias, expected in zip(ALIASES, literal_layers(kind, classifier, image, phi), strict=True):
            h, sums = passes.get(LayerSums(alias, PathIntegral()))
            found = (h * sums[phi])[i]
            assert expected.abs().max() > 1e-6
            assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize(
    ("method", "literal"),
    [
        (Dix(depth=1), lambda maps: maps[0]),
        (Dix(depth=2), lambda maps: (maps[0] + maps[1]) / 2),
        (Dix(depth=3), lambda maps: (maps[0] + maps[1] + maps[2]) / 3),
        (Dix(depth=2, combine="product"), lambda maps: maps[0] * maps[1]),
        (Dix(depth=3, combine="sum"), lambda maps: maps[0] + maps[1] + maps[2]),
        (Dix(depth=3, phi="gradient"), lambda maps: (maps[0] + maps[1] + maps[2]) / 3),
        (Dix(depth=2, phi="rectified"), lambda maps: (maps[0] + maps[1]) / 2),
        (Dix(depth=3, normalise=False), lambda maps: (maps[0] + maps[1] + maps[2]) / 3),
        (Dix(depth=3, normalise="maximum"), lambda maps: (maps[0] + maps[1] + maps[2]) / 3),
        (Dix(depth=2, normalise="positive"), lambda maps: (maps[0] + maps[1]) / 2),
    ],
    ids=["dix1", "dix2", "dix3", "mul", "sum", "grads", "rect", "raw", "maximum", "positive"],
)
def test_maps_are_the_equations(kind: str, method: Dix, literal: Callable[[list[Tensor]], Tensor]) -> None:
    classifier, images = small_cnn(kind), pixels(2)
    found = method.explain(Passes(classifier, images))
    for i, image in enumerate(images):
        layers = [literal_map(m, method.normalise) for m in literal_layers(kind, classifier, image, method.phi)]
        expected = literal(layers)
        assert found.shape == (2, SIDE, SIDE)
        assert (found[i] - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("kind", CNNS)
def test_given_targets_are_explained(kind: str) -> None:
    classifier, images = small_cnn(kind), pixels(1)
    predicted = int(classifier.logits(images).argmax())
    own, other = (Passes(classifier, images, torch.tensor([t])) for t in (predicted, (predicted + 1) % 5))
    assert torch.equal(Dix().explain(own), Dix().explain(Passes(classifier, images)))
    assert not torch.allclose(Dix().explain(own), Dix().explain(other), atol=1e-3)


@pytest.mark.parametrize("rule", ["right", "left", "midpoint", "trapezoid", "gauss"])
@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_quadratures_are_exact_where_theory_says(rule: str, steps: int) -> None:
    """Degree 0 for one-sided sums, 1 for midpoint and trapezoid, 2N - 1 for Gauss-Legendre, and not one more."""
    times, weights = quadrature(rule, steps)  # type: ignore[arg-type]
    exact = {"right": 0, "left": 0, "midpoint": 1, "trapezoid": 1, "gauss": 2 * steps - 1}[rule]
    errors = [abs(float(weights @ times**degree) - 1 / (degree + 1)) for degree in range(exact + 2)]
    assert max(errors[:-1]) < 1e-14
    assert errors[-1] > 1e-13
    assert len(times) == steps + (rule == "trapezoid")


def test_right_sum_has_the_points_of_equation_5() -> None:
    times, weights = quadrature("right", 10)
    np.testing.assert_array_equal(times, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    np.testing.assert_array_equal(weights, np.full(10, 0.1))


@pytest.mark.parametrize(("rule", "order"), [("right", 1), ("left", 1), ("midpoint", 2), ("trapezoid", 2)])
def test_quadratures_converge_at_their_order(rule: str, order: int) -> None:
    def error(steps: int) -> float:
        times, weights = quadrature(rule, steps)  # type: ignore[arg-type]
        return abs(float(weights @ np.exp(times)) - (np.e - 1))

    assert error(20) / error(40) == pytest.approx(2**order, rel=0.05)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_an_error(steps: int) -> None:
    with pytest.raises(ValueError, match="steps: expected an integer of at least 1"):
        PathIntegral(steps=steps)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"depth": 4}, "depth"), ({"phi": "prod"}, "phi"), ({"combine": "max"}, "combine")],
)
def test_wrong_settings_name_themselves(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: expected"):
        Dix(**wrong)


def test_wrong_rule_and_baseline_name_themselves() -> None:
    with pytest.raises(ValueError, match="rule: expected"):
        PathIntegral(rule="simpson")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="baseline: expected"):
        baseline("blur", torch.zeros(1, 1, 2, 2))  # type: ignore[arg-type]


def test_baselines_are_what_their_names_say() -> None:
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[-2.0, 0.0], [2.0, 4.0]]]])
    noise = torch.full_like(x, 0.25)
    assert baseline("channel_min", x).expand_as(x).tolist() == [[[[1, 1], [1, 1]], [[-2, -2], [-2, -2]]]]
    assert baseline("mean", x).expand_as(x).tolist() == [[[[4, 4], [4, 4]], [[1, 1], [1, 1]]]]
    assert baseline("zero", x).expand_as(x).abs().max() == 0
    assert baseline("noise", x, noise).tolist() == [[[[2.5, 2.5], [2.5, 2.5]], [[-0.5, -0.5], [-0.5, -0.5]]]]


@pytest.mark.parametrize(
    ("kind", "network", "steps", "tolerance"),
    [
        ("channel_min", "convnext", 50, 1e-3),
        ("mean", "convnext", 50, 1e-3),
        ("noise", "convnext", 50, 1e-3),
        # a LayerNorm is nearly constant along t x, and steep only beside t = 0: no fixed grid sees that
        ("zero", "resnet", 200, 2e-3),
    ],
)
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_the_integral_is_complete_from_every_baseline(
    kind: str, network: str, steps: int, tolerance: float, score: str
) -> None:
    """Eq. 1: the attributions with phi = g sum to the score of the activation minus that of the baseline.

    Within a share of the difference; where the last layer's mean is the baseline, the pooled difference is zero.
    """
    classifier, images = small_cnn(network), pixels(2)
    path = PathIntegral(steps, "midpoint", kind, score)  # type: ignore[arg-type]
    passes = Passes(classifier, images)
    for alias in ALIASES:
        h, sums = passes.get(LayerSums(alias, path))
        x = passes.activation(alias)
        logits = torch.stack([CNNS[network].tails[alias](classifier.network, v) for v in (x, x - h)])
        values = logits.softmax(dim=-1) if score == "probability" else logits
        scores = values.gather(2, passes.targets.expand(2, 2)[..., None])[..., 0]
        expected = scores[0] - scores[1]
        found = (h * sums["gradient"]).flatten(1).sum(dim=1)
        assert (expected.abs().max() < 1e-12) == ((kind, alias) == ("mean", "last"))
        assert (found - expected).abs().max() <= tolerance * expected.abs().max() + 1e-12


def test_a_noise_baseline_depends_on_the_image_id_alone() -> None:
    classifier, images = small_cnn("resnet"), pixels(3)
    method = Dix(path=PathIntegral(steps=3, baseline="noise"))
    together = method.explain(Passes(classifier, images, ids=["a", "b", "c"], seed=5))
    alone = method.explain(Passes(classifier, images[1:2], ids=["b"], seed=5))
    renamed = method.explain(Passes(classifier, images[1:2], ids=["a"], seed=5))
    reseeded = method.explain(Passes(classifier, images[1:2], ids=["b"], seed=6))
    assert (together[1] - alone[0]).abs().max() < 1e-9
    assert (renamed[0] - alone[0]).abs().max() > 1e-3
    assert (reseeded[0] - alone[0]).abs().max() > 1e-3


class Linear(nn.Module):
    """Logits that are linear in the activation [B, 2, 4, 4] of `layer`, here the image's first two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1, bias=False)
        self.layer.weight = nn.Parameter(torch.eye(3)[:2].view(2, 3, 1, 1))
        self.head = nn.Linear(32, 3)
        values = torch.linspace(-1, 1, 96).sin().view(3, 32)
        self.head.weight, self.head.bias = nn.Parameter(values), nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(images).flatten(1))


def linear_classifier() -> Classifier:
    classifier = Classifier(
        "linear", Linear(), mean=(0,) * 3, std=(1,) * 3, input_size=4, kind="cnn",
        layers=dict.fromkeys(ALIASES, "layer"), weights=Weights("fixed", trained=False), label_space=None,
    )  # fmt: skip
    return classifier.to("cpu", torch.float64)


@pytest.mark.numeric
@pytest.mark.numeric
@pytest.mark.parametrize("rule", ["right", "left", "midpoint", "trapezoid", "gauss"])
@pytest.mark.parametrize("steps", [1, 10])
def test_a_linear_tail_has_a_closed_form(rule: str, steps: int) -> None:
    """G is the weight w everywhere: phi = g gives h w; phi = r g gives h (z + s h) w with s the mean of the times."""
    classifier, images = linear_classifier(), pixels(2, side=4)
    passes = Passes(classifier, images)
    h, sums = passes.get(LayerSums("last", PathIntegral(steps, rule)))  # type: ignore[arg-type]
    x = images[:, :2]
    z = x.amin(dim=(2, 3), keepdim=True)
    w = classifier.network.head.weight[passes.targets].view(2, 2, 4, 4)
    s = {"right": (steps + 1) / (2 * steps), "left": (steps - 1) / (2 * steps)}.get(rule, 0.5)
    torch.testing.assert_close(h, x - z)
    torch.testing.assert_close(sums["gradient"], w)
    torch.testing.assert_close(sums["product"], (z + s * (x - z)) * w)


def test_one_step_is_gradient_times_activation_times_h() -> None:
    """N = 1, right: r = x, so the clean pass is all there is: no tail runs."""
    classifier, images = small_cnn("resnet"), pixels(2)
    passes = Passes(classifier, images)
    for alias in ALIASES:
        h, sums = passes.get(LayerSums(alias, PathIntegral(steps=1)))
        x = passes.activation(alias).clone().requires_grad_()
        logits = CNNS["resnet"].tails[alias](classifier.network, x)
        (g,) = torch.autograd.grad(logits.gather(1, passes.targets[:, None]).sum(), x)
        torch.testing.assert_close(sums["product"], x.detach() * g)
        torch.testing.assert_close(h, (x - x.amin(dim=(2, 3), keepdim=True)).detach())


@pytest.mark.numeric
@pytest.mark.parametrize("kind", CNNS)
def test_batches_and_chunks_change_nothing(kind: str) -> None:
    """Maps (in [0, 1]) of a batch of 4, of single images, and of any chunk agree to the rounding of double precision.

    That is 6e-12 for conditions of up to 100. Single precision is no place for this test: a value within its rounding
    of a ReLU's kink changes a map by up to 1e-3, and which values do depends on the processor and on the batch.
    """
    classifier, images = small_cnn(kind), pixels(4)
    together = Dix().explain(Passes(classifier, images))
    alone = torch.cat([Dix().explain(Passes(classifier, image[None])) for image in images])
    assert (together - alone).abs().max() <= rounding.tolerance(torch.float64, 100)
    for chunk in (3, 1000):
        other = Dix().explain(Passes(classifier, images, chunk=chunk))
        assert (other - together).abs().max() <= rounding.tolerance(torch.float64, 100)


@pytest.mark.numeric
@pytest.mark.parametrize("kind", CNNS)
def test_single_precision_is_near_double(kind: str) -> None:
    """Within rounding times condition, wherever both precisions chose alike at every kink (5 images of 6 at least).

    Of 8 images at least two must have done so: by chance fewer do once in 30,000 processors.
    """
    alike, exact, rounded = 0, small_cnn(kind), small_cnn(kind, torch.float32)
    for classifier in (exact, rounded):
        Dix().explain(Passes(classifier, pixels(1, dtype=classifier.dtype)))  # finds the tails, with runs of its own
    for image in pixels(8):
        passes = Passes(exact, image[None])
        with rounding.choices(exact.network) as chosen:
            expected = Dix().explain(passes)
        with rounding.choices(rounded.network) as other:
            found = Dix().explain(Passes(rounded, image[None].float(), passes.targets))
        assert found.dtype == torch.float32
        if rounding.same(chosen, other):
            alike += 1
            assert (found - expected).abs().max() <= rounding.tolerance(torch.float32, condition(passes))
    assert alike >= 2


def condition(passes: Passes) -> float:
    """Of DIX3's map of one image: the mean of its layers' maps' conditions."""
    evidence = (passes.get(LayerSums(alias, PathIntegral())) for alias in ALIASES)
    return sum(rounding.cancellation(h * sums["product"]) for h, sums in evidence) / len(ALIASES)


def test_methods_share_each_layers_integral() -> None:
    classifier, images = small_cnn("resnet"), pixels(2)
    passes = Passes(classifier, images)
    runs = dict.fromkeys(ALIASES, 0)
    for alias in ALIASES:
        tail = classifier.tail(alias)
        original = tail.logits

        def counted(*args: object, alias: str = alias, original: Callable = original) -> Tensor:
            runs[alias] += len(args[0])  # type: ignore[arg-type]
            return original(*args)

        tail.logits = counted  # type: ignore[method-assign, assignment]
    methods = [Dix(depth=1), Dix(depth=2), Dix(depth=3), Dix(depth=2, combine="product"), Dix(phi="gradient")]
    for method in methods:
        method.explain(passes)
    assert runs == dict.fromkeys(ALIASES, 2 * 9)  # 2 images, 9 of 10 steps: the tenth is the clean pass


def test_constant_and_broken_maps_are_reported_and_not_repaired() -> None:
    maps = torch.zeros(5, 4, 4)
    maps[1, 0, 0] = 1
    maps[2] = 7
    maps[3, 2, 2] = float("nan")
    maps[4, 1, 1] = float("inf")
    before = maps.clone()
    assert faults(maps) == ["constant", "", "constant", "not finite", "not finite"]
    assert torch.equal(maps.nan_to_num(-1), before.nan_to_num(-1))
    scaled = min_max(maps)
    assert scaled[3].isnan().any()
    assert scaled[4].isnan().any()
    assert (scaled[2] == 0).all()


def test_a_constant_map_of_dix_stays_constant() -> None:
    """A network that ignores the image has no gradient: the map is constant, and is reported as such."""
    classifier = linear_classifier()
    classifier.network.head.weight.zero_()
    found = Dix().explain(Passes(classifier, pixels(2, side=4)))
    assert faults(found) == ["constant", "constant"]


def test_a_broken_image_stays_broken_and_alone() -> None:
    classifier, images = small_cnn("resnet"), pixels(3)
    sound = Dix().explain(Passes(classifier, images, torch.tensor([0, 1, 2])))
    images[1, 0, 5, 5] = float("nan")
    found = Dix().explain(Passes(classifier, images, torch.tensor([0, 1, 2])))
    assert faults(found) == ["", "not finite", ""]
    torch.testing.assert_close(found[[0, 2]], sound[[0, 2]])


def test_min_max_is_each_images_own() -> None:
    maps = torch.tensor([[[1.0, 3.0]], [[-4.0, 0.0]]])
    assert min_max(maps).tolist() == [[[0, 1]], [[0, 1]]]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_resize_is_torchs(mode: str) -> None:
    maps = pixels(2, side=8)[:, 0]
    corners = None if mode == "nearest" else False
    expected = F.interpolate(maps[:, None], size=(24, 16), mode=mode, align_corners=corners)[:, 0]
    assert torch.equal(resize(maps, (24, 16), mode), expected)  # type: ignore[arg-type]
    assert resize(maps, (8, 8)) is maps


def test_one_step_of_the_right_rule_is_gradient_times_activation_alone() -> None:
    """N = 1: the only point is r(1) = x, whose gradient the clean pass has; nothing is left to run (Eq. 5)."""
    classifier = small_cnn("resnet")
    passes = Passes(classifier, pixels(2, SIDE))
    for layer in ("last", "second", "third"):
        h, sums = passes.get(LayerSums(layer, PathIntegral(steps=1)))
        torch.testing.assert_close(sums["product"], passes.activation(layer) * passes.gradient(layer))
        assert h.shape == sums["product"].shape


def test_by_maximum_leaves_zero_where_it_is() -> None:
    maps = torch.tensor([[[4.0, 0.0, -2.0]], [[-4.0, 0.0, -2.0]], [[0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[1.0, 0.0, -0.5]], [[-1.0, 0.0, -0.5]], [[0.0, 0.0, 0.0]]])
    assert torch.equal(by_maximum(maps), expected)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="normalise: expected true, false, maximum or positive, got 'minimum'"):
        Dix(normalise="minimum")  # type: ignore[arg-type]
