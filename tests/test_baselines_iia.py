"""IIA against its definition, written out in double precision one image and step at a time, and its special cases."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.baseline_networks import ALL, NETWORKS, images, in_double, resnet, traces, vit
from torch import Tensor

from dix.baselines.iia import Iia
from dix.classifier import Classifier
from dix.explainer import Explainer, LayerSums, PathIntegral
from dix.passes import Passes

pytestmark = pytest.mark.numeric

TARGETS = torch.tensor([2, 4, 9])
STEPS = 3
TWO = Iia(steps=STEPS)
THREE = Iia(3, steps=2)


def run(made: Classifier, x: Tensor, target: int, hooks: dict[str, Callable[[Tensor], Tensor | None]]) -> Tensor:
    """The target's logit of a normalised image while layers return what the hooks make of their outputs."""
    handles = [
        made.network.get_submodule(made.layer(name)).register_forward_hook(lambda _m, _a, out, hook=hook: hook(out))
        for name, hook in hooks.items()
    ]
    logit = made.network(x)[0, target]
    for handle in handles:
        handle.remove()
    return logit


def returned(made: Classifier, x: Tensor, layer: str, replaced: dict[str, Tensor]) -> Tensor:
    """What a layer returns while others are replaced."""
    kept: list[Tensor] = []
    hooks: dict[str, Any] = {name: (lambda _out, value=value: value) for name, value in replaced.items()}
    with torch.no_grad():
        run(made, x, 0, {**hooks, layer: kept.append})
    return kept[0]


def last_layer(made: Classifier, x: Tensor, target: int, steps: int, replaced: dict[str, Tensor]) -> Tensor:
    """(u - r) o mean over b of v o dy/dv at the last layer, averaged over channels."""
    u = returned(made, x, "last", replaced)
    r = u.amin(dim=(2, 3), keepdim=True)
    total = torch.zeros_like(u)
    for n in range(1, steps + 1):
        v = (r + n / steps * (u - r)).requires_grad_()

        def replace(_output: Tensor, v: Tensor = v) -> Tensor:
            return v

        logit = run(made, x, target, {"last": replace})
        total += v.detach() * torch.autograd.grad(logit, v)[0] / steps
    return ((u - r) * total).mean(dim=1)[0]


def literal(made: Classifier, image: Tensor, target: int, depth: int, steps: int) -> Tensor:
    maps = []
    for n in range(1, steps + 1):
        x = n / steps * made.normalise(image[None])
        if depth == 2:
            maps.append(last_layer(made, x, target, steps, {}))
            continue
        u = returned(made, x, "second", {})
        r = u.amin(dim=(2, 3), keepdim=True)
        between = [r + k / steps * (u - r) for k in range(1, steps + 1)]
        maps += [last_layer(made, x, target, steps, {"second": v}) for v in between]
    return torch.stack(maps).mean(dim=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("method", "depth", "steps"), [(TWO, 2, STEPS), (THREE, 3, 2)], ids=["iia2", "iia3"])
def test_iia_is_its_definition(network: str, method: Iia, depth: int, steps: int) -> None:
    made, x = in_double(NETWORKS[network]()), images(2).double()
    found = method.explain(Passes(made, x, TARGETS[:2], chunk=5))
    for i in range(2):
        want = literal(made, x[i], int(TARGETS[i]), depth, steps)
        torch.testing.assert_close(found[i], want, rtol=1e-7, atol=1e-10 * float(want.abs().max()))


def test_iia_of_a_vision_transformer_is_gradient_rollout_at_every_step() -> None:
    made, x = in_double(vit()), images(2).double()
    blocks = made.attention_layers
    found = TWO.explain(Passes(made, x, TARGETS[:2], chunk=5))
    for i in range(2):
        want = torch.zeros(4, 4, dtype=torch.float64)
        for n in range(1, STEPS + 1):
            moved = n / STEPS * made.normalise(x[i : i + 1])
            attention = returned(made, moved, blocks[-1], {})
            for k in range(1, STEPS + 1):
                want += rolled_out(made, moved, int(TARGETS[i]), k / STEPS * attention) / STEPS**2
        torch.testing.assert_close(found[i], want, rtol=1e-7, atol=1e-10 * float(want.max()))


def rolled_out(made: Classifier, x: Tensor, target: int, last: Tensor) -> Tensor:
    """[4, 4] the class token's row of the product of (E + I), rows scaled, with `last` as the last attention."""
    first, second = made.attention_layers
    kept: list[Tensor] = []
    leaf = last.clone().requires_grad_()

    def watched(out: Tensor) -> Tensor:
        kept.append(out.detach().requires_grad_())
        return kept[0]

    logit = run(made, x, target, {first: watched, second: lambda _out: leaf})
    result = torch.eye(17, dtype=torch.float64)
    for a, g in zip((kept[0], leaf), torch.autograd.grad(logit, (kept[0], leaf)), strict=True):
        e = (a.detach() * g)[0].clamp(min=0).mean(dim=0) + torch.eye(17, dtype=torch.float64)
        result = e / e.sum(dim=1, keepdim=True) @ result
    return result[0, 1:].view(4, 4)


@pytest.mark.parametrize("depth", [2, 3])
def test_one_step_is_dix_of_the_last_layer(depth: int) -> None:
    """At the end of every path stand the image and its activations themselves."""
    passes = Passes(in_double(resnet()), images().double(), TARGETS)
    h, sums = passes.get(LayerSums("last", PathIntegral(steps=1)))
    torch.testing.assert_close(Iia(depth, steps=1).explain(passes), (h * sums["product"]).mean(dim=1))


@pytest.mark.parametrize("method", [TWO, THREE], ids=["iia2", "iia3"])
@pytest.mark.parametrize("network", ["convnext", "vit"])
def test_batch_order_and_chunk_change_nothing(method: Iia, network: str) -> None:
    made, x = in_double(ALL[network]()), images().double()
    if method.unsupported(made):
        pytest.skip(method.unsupported(made))
    whole = method.explain(Passes(made, x, TARGETS))
    order = [2, 0, 1]
    turned = method.explain(Passes(made, x[order], TARGETS[order], chunk=2))
    torch.testing.assert_close(turned, whole[order], rtol=1e-7, atol=1e-10)
    alone = method.explain(Passes(made, x[1:2], TARGETS[1:2], chunk=1))
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-7, atol=1e-10)
    assert traces(made.network) == []


@pytest.mark.parametrize(("method", "runs"), [(TWO, 3), (THREE, 2 + 2)], ids=["iia2", "iia3"])
def test_the_whole_network_runs_once_for_each_point_before_the_last_layer(method: Iia, runs: int) -> None:
    """N for IIA2; for IIA3 N, and N - 1 for each of these, since the end of layer L-1's path is known."""
    made, count = resnet(), []
    made.tail("last"), made.tail("second")  # recorded once for a classifier
    handle = made.network.layer1[0].conv1.register_forward_hook(lambda _m, _a, out: count.append(len(out)))
    method.explain(Passes(made, images(), TARGETS))
    handle.remove()
    assert sum(count) == 3 * runs


def test_what_cannot_be_explained_says_why() -> None:
    assert "depth 2" in THREE.unsupported(vit())
    assert TWO.unsupported(vit()) == THREE.unsupported(resnet()) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Iia(1), "depth: expected 2 or 3, got 1"),
        (lambda: Iia(baseline="blur"), "baseline: expected one of mean_colour"),  # type: ignore[arg-type]
        (lambda: Iia(steps=0), "steps: expected an integer of at least 1, got 0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("file", "method"), [("iia2", Iia()), ("iia3", Iia(3, label="IIA3"))])
def test_configuration_is_the_method(file: str, method: Any) -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath(f"method/{file}.yaml").read_text())[file])
    assert made == method
    assert isinstance(made, Explainer)
