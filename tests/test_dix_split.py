"""Running a network from a layer on, watching layers, and leaving no trace of either."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from support.small_networks import CNNS, SIDE, VIT_SIDE, pixels, small_cnn, small_vit
from torch import Tensor, nn

from dix.capture import capturing, gradients, substituting
from dix.classifier import Classifier, Weights
from dix.explainer import Dix, PathIntegral
from dix.passes import Passes, halving, rows
from dix.split import Split, replaying

pytestmark = pytest.mark.numeric

ALIASES = ("last", "second", "third")


class Bypassed(nn.Module):
    """Two paths around `middle`, an activation used twice, a module called twice, and in-place code behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.ReLU()
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.late = nn.Identity()
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        early = self.twice(self.first(images))
        self.unused(early)
        middle = self.middle(early)
        middle += 0.5 * early
        late = self.late(self.twice(middle)) * early.tanh() - middle
        return self.head(late.mean(dim=(2, 3)))


@pytest.fixture
def bypassed() -> Bypassed:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Bypassed().double().eval().requires_grad_(False)


def example() -> Tensor:
    return pixels(1, 8)


@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize("alias", ALIASES)
def test_tails_are_the_networks_sliced_by_hand(kind: str, alias: str) -> None:
    classifier = small_cnn(kind)
    x = Passes(classifier, pixels(3)).activation(alias)
    moved = x + torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype).view(x.shape[1:])
    expected = CNNS[kind].tails[alias](classifier.network, moved)
    assert classifier.tail(alias).is_bottleneck
    torch.testing.assert_close(classifier.tail(alias).logits(moved), expected)


@pytest.mark.parametrize("layer", ["first", "middle", "late"])
def test_a_bypassed_layer_needs_the_images_context(bypassed: Bypassed, layer: str) -> None:
    """Twice the same, too: in-place code writes into nothing that is kept."""
    split, images = Split(bypassed, layer, example()), pixels(3, 8)
    assert split.is_bottleneck == (layer == "first")
    activation, context = split.record(images)
    for _ in range(2):
        torch.testing.assert_close(split.logits(activation, context), bypassed(images))
    if layer == "first":
        return
    picked = torch.tensor([2, 0])
    torch.testing.assert_close(split.logits(activation[picked], context, picked), bypassed(images)[picked])
    with pytest.raises(ValueError, match="bypassed by other paths"):
        split.logits(activation)


def test_only_what_the_tail_reads_is_kept(bypassed: Bypassed) -> None:
    split = Split(bypassed, "middle", example())
    assert [type(split.calls[i][0]) for i in split.needed] == [nn.ReLU]


def test_the_tails_gradient_is_that_of_the_whole(bypassed: Bypassed) -> None:
    split, images = Split(bypassed, "middle", example()), pixels(2, 8)
    activation, context = split.record(images)
    torch.testing.assert_close(activation, bypassed.middle(bypassed.first(images).relu()))
    leaf = activation.clone().requires_grad_()
    (found,) = torch.autograd.grad(split.logits(leaf, context)[:, 1].sum(), leaf)
    early = bypassed.first(images).relu()
    leaf = bypassed.middle(early).requires_grad_()
    middle = leaf + 0.5 * early
    late = middle.relu() * early.tanh() - middle
    (expected,) = torch.autograd.grad(bypassed.head(late.mean(dim=(2, 3)))[:, 1].sum(), leaf)
    torch.testing.assert_close(found, expected)


def test_recording_stops_at_the_layer_and_keeps_a_graph_where_asked_for(bypassed: Bypassed) -> None:
    split, runs = Split(bypassed, "middle", example()), []
    bypassed.head.register_forward_hook(lambda *_: runs.append(1))
    images = pixels(2, 8).requires_grad_()
    _, context = split.record(images)
    assert all(not kept.requires_grad for kept in context.kept.values())
    _, context = split.record(images, graph=True)
    assert all(kept.requires_grad for kept in context.kept.values())
    assert runs == []


@pytest.mark.parametrize(
    ("layer", "message"),
    [("nothing", "no layer 'nothing'.*some that exist: first, twice"), ("twice", "more than once")],
)
def test_layers_that_cannot_be_split_are_named(bypassed: Bypassed, layer: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(bypassed, layer, example())


def test_a_layer_that_does_not_run_or_returns_no_tensor_is_named(bypassed: Bypassed) -> None:
    bypassed.idle = nn.Identity()
    with pytest.raises(ValueError, match="'idle' does not run"):
        Split(bypassed, "idle", example())
    bypassed.middle.register_forward_hook(lambda _m, _a, out: (out, out))
    with pytest.raises((ValueError, TypeError)):
        Split(bypassed, "middle", example())


def traces(network: nn.Module) -> list[object]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()]
    flags = [("forward" in m.__dict__, m.training) for m in network.modules()]
    return [hooks, flags, [p.requires_grad for p in network.parameters()]]


class Boom(RuntimeError):
    pass


def test_a_failing_network_is_left_as_it_was(bypassed: Bypassed) -> None:
    split, before = Split(bypassed, "middle", example()), traces(bypassed)
    activation, context = split.record(pixels(2, 8))
    expected = bypassed(pixels(2, 8))
    bypassed.head.forward = lambda _: (_ for _ in ()).throw(Boom())  # type: ignore[method-assign, assignment]
    with pytest.raises(Boom):
        split.logits(activation, context)
    with pytest.raises(Boom), capturing(bypassed, ["first", "middle"]):
        bypassed(pixels(1, 8))
    with pytest.raises(Boom), substituting(bypassed, {"middle": activation}):
        bypassed(pixels(2, 8))
    with pytest.raises(Boom):
        Split(bypassed, "middle", example())
    del bypassed.head.forward
    assert traces(bypassed) == before
    assert torch.equal(bypassed(pixels(2, 8)), expected)


def test_a_forward_that_was_replaced_before_stays_replaced(bypassed: Bypassed) -> None:
    own = bypassed.first.forward
    bypassed.first.forward = own  # type: ignore[method-assign]
    with replaying({bypassed.first: deque([pixels(1, 8)])}):
        assert bypassed.first.__dict__["forward"] is not own
    assert bypassed.first.__dict__["forward"] is own


@pytest.mark.parametrize("make", [lambda: small_cnn("resnet"), lambda: small_cnn("densenet"), small_vit])
def test_a_failing_explanation_leaves_the_model_as_it_was(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the middle of an integral, some of whose steps have run."""
    classifier = make()
    images = pixels(2, classifier.input_size)
    before, state = classifier.logits(images), traces(classifier.network)
    passes = Passes(classifier, images, chunk=2)
    score, calls = passes.score, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) > 4:
            raise Boom
        return score(*args, **kwargs)

    monkeypatch.setattr(passes, "score", failing)
    with pytest.raises(Boom):
        Dix().explain(passes)
    assert traces(classifier.network) == state
    assert torch.equal(classifier.logits(images), before)
    assert Dix(path=PathIntegral(steps=2)).explain(Passes(classifier, images)).isfinite().all()


def test_captured_tensors_survive_in_place_code() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)
            with torch.no_grad():
                self.conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
                self.conv.bias.copy_(torch.tensor([-1.5, 1.5]))

        def forward(self, images: Tensor) -> Tensor:
            return torch.relu_(self.conv(images)).mean(dim=(2, 3))

    network, images = InPlace().double().requires_grad_(False), pixels(1, 8)
    with torch.enable_grad(), capturing(network, ["conv"]) as captured:
        logits = network(images)
    expected = network.conv(images)
    assert (expected < 0).any()
    torch.testing.assert_close(captured["conv"].detach(), expected)
    (gradient,) = gradients(logits.sum(), [captured["conv"]])
    torch.testing.assert_close(gradient, (expected > 0).double() / 64)


def test_gradients_of_what_does_not_matter_are_zero() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    found = gradients((2 * used).sum(), [used, unused])
    assert [g.tolist() for g in found] == [[2, 2], [0, 0, 0]]


def test_a_trainable_network_is_frozen_and_put_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout(), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(128, 2))
    weights = Weights("random", trained=False)
    layers = {"last": "2"}
    classifier = Classifier(
        "n", network, mean=(0,) * 3, std=(1,) * 3, input_size=8, layers=layers, kind="cnn", weights=weights
    )
    assert not any(m.training for m in network.modules())
    assert not any(p.requires_grad for p in network.parameters())
    assert not network[2].inplace
    images = pixels(2, 8, torch.float32)
    assert torch.equal(classifier.logits(images), classifier.logits(images))


def test_moving_a_classifier_renews_its_tails() -> None:
    classifier = small_cnn("resnet", torch.float32)
    classifier.tail("last")
    classifier.to("cpu", torch.float64)
    x = Passes(classifier, pixels(1)).activation("last")
    assert classifier.tail("last").logits(x).dtype == torch.float64


def test_activations_and_gradients_of_any_module_can_be_asked_for() -> None:
    classifier, images = small_vit(), pixels(2, VIT_SIDE)
    passes = Passes(classifier, images)
    name = "blocks.1.mlp"
    block = classifier.network.blocks[1]
    entry = passes.activation("blocks.0")
    entry = entry + block.attn(block.norm1(entry))
    torch.testing.assert_close(passes.activation(name), block.mlp(block.norm2(entry)))
    x = passes.activation(name).clone().requires_grad_()
    total = passes.score(classifier.tail(name).logits(x, passes.context(name))).sum()
    torch.testing.assert_close(passes.gradient(name), torch.autograd.grad(total, x)[0])


@pytest.mark.parametrize(("points", "batch", "chunk"), [(10, 3, 7), (4, 9, 2), (1, 1, 100), (9, 8, 32)])
def test_rows_cover_every_point_of_every_image_once(points: int, batch: int, chunk: int) -> None:
    seen = []
    for part in rows(points, batch, chunk, torch.device("cpu")):
        assert len(part.image_of_row) == len(part.points) * len(part.images) <= chunk
        values = part.spread(torch.arange(points)).flatten().repeat_interleave(len(part.images))
        seen += list(zip(values.tolist(), part.image_of_row.tolist(), strict=True))
    assert sorted(seen) == [(p, b) for p in range(points) for b in range(batch)]


def test_running_out_of_memory_halves_the_chunk() -> None:
    tried = []

    def run(chunk: int) -> int:
        tried.append(chunk)
        if chunk > 5:
            raise torch.OutOfMemoryError
        return chunk

    assert halving(run, 32) == 4
    assert tried == [32, 16, 8, 4]
    with pytest.raises(torch.OutOfMemoryError):
        halving(lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()), 2)


def test_images_keep_their_size() -> None:
    assert Passes(small_cnn("vgg"), pixels(1)).size == (SIDE, SIDE)


def test_finished_modules_hand_back_what_they_returned_and_none_inside_them_runs() -> None:
    classifier = small_vit()
    split = classifier.tail("blocks.2.mlp")
    names = {module: name for name, module in classifier.network.named_modules()}
    finished = [names[module] for module, _ in split.calls]
    assert {"blocks.0", "blocks.1", "blocks.2.attn"} < set(finished)
    assert not any(a != b and a.startswith(f"{b}.") for a in finished for b in finished)


class Paired(nn.Module):
    """Its parts hand on pairs: features, and a token beside them (or a size, which is no tensor)."""

    class Part(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(channels, 6, 3, 1, 1), nn.Linear(6, 6)

        def forward(self, pair: tuple[Tensor, dict[str, Tensor], int]) -> tuple[Tensor, dict[str, Tensor], int]:
            features, beside, count = pair
            features = self.conv(features).relu()
            return features, {"token": self.mix(features.mean(dim=(2, 3))) + beside["token"]}, count + 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = self.Part(3), self.Part(6)
        self.last = nn.Conv2d(6, 6, 3)
        self.head = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        start = (images, {"token": images.new_zeros(len(images), 6)}, 0)
        features, beside, count = self.second(self.first(start))
        return self.head(torch.cat([self.last(features).relu().mean(dim=(2, 3)) * count, beside["token"]], dim=1))


def test_modules_before_the_layer_may_return_nested_tensors() -> None:
    torch.manual_seed(0)
    network = Paired().double().eval().requires_grad_(False)
    images = pixels(3, 8)
    split = Split(network, "last", example())
    activation, context = split.record(images)
    assert not split.is_bottleneck  # the token goes around the layer
    assert torch.equal(split.logits(activation, context), network(images))
    rows = torch.tensor([2, 0, 2])
    torch.testing.assert_close(split.logits(activation[rows], context, rows), network(images)[rows])
    moved = activation + 1
    _, beside, count = network.second(network.first((images, {"token": images.new_zeros(3, 6)}, 0)))
    expected = network.head(torch.cat([moved.relu().mean(dim=(2, 3)) * count, beside["token"]], dim=1))
    torch.testing.assert_close(split.logits(moved, context), expected)
