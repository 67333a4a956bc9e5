"""What explaining costs: forward-equivalents counted from the operations that ran, and images per second.

One forward-equivalent (F) is one clean forward pass of the model on one image. Convolutions and matrix products are
counted, forward and backward, so a part of the network counts as its share; with frozen parameters a backward pass
through a part costs as much as its forward pass, or twice that for a product of two activations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dix.classifier import Classifier
from dix.explainer import DEPTHS, NORMALISE, Dix, Explainer
from dix.integrate import PHI, baseline, quadrature
from dix.maps import resize
from dix.passes import Passes
from dix.seeding import generator


class Flops(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and matrix products that run within it.

    count: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and add its cost."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.count += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    with Flops() as counter:
        run()
    return counter.count


def forward_flops(classifier: Classifier, image: Tensor) -> int:
    """Of one clean forward pass on one image [1, 3, S, S]: the unit F."""
    with torch.no_grad():
        return flops(lambda: classifier.logits(image))


def forward_equivalents(
    classifier: Classifier, methods: Explainer | Sequence[Explainer], images: Tensor, chunk: int = 32
) -> float:
    """F per image of explaining `images` [B, 3, S, S] by all `methods` together, whatever they share counted once.

    The clean pass that finds the predicted class is part of it; what a classifier prepares once is not.
    """
    together = list(methods) if isinstance(methods, Sequence) else [methods]
    for method in together:  # tails are recorded once for each classifier, not once for each image
        method.explain(Passes(classifier, images[:1], chunk=chunk))
    passes = Passes(classifier, images, chunk=chunk)
    cost = flops(lambda: [method.explain(passes) for method in together])
    return cost / len(images) / forward_flops(classifier, images[:1])


def literal_dix(classifier: Classifier, images: Tensor, method: Dix, targets: Tensor | None = None) -> Tensor:
    """DIX for CNNs as one would write it down at first: maps [B, H, W], equal to `method`'s up to rounding.

    One image, one layer and one step at a time, with a forward and a backward pass of the whole network each and
    nothing shared. Raises ValueError for a ViT, whose definition has no such form here.
    """
    if classifier.kind != "cnn":
        raise ValueError(f"literal_dix: expected a CNN, got {classifier.name}")
    given = [None] * len(images) if targets is None else targets.tolist()
    return torch.cat(
        [_literal_image(classifier, image[None], method, t) for image, t in zip(images, given, strict=True)]
    )


def _literal_image(classifier: Classifier, image: Tensor, method: Dix, target: int | None) -> Tensor:
    with torch.no_grad():
        chosen = int(classifier.logits(image).argmax()) if target is None else target
    maps = [_literal_layer(classifier, image, method, classifier.layer(d), chosen) for d in DEPTHS[: method.depth]]
    resized = [resize(m, (image.shape[-2], image.shape[-1]), method.resize) for m in maps]
    return torch.stack([NORMALISE[method.normalise](m) for m in resized]).mean(dim=0)


def _literal_layer(classifier: Classifier, image: Tensor, method: Dix, layer: str, target: int) -> Tensor:
    module = classifier.network.get_submodule(layer)
    total: Tensor | None = None
    h = image.new_zeros(())
    for t, weight in zip(*quadrature(method.path.rule, method.path.steps), strict=True):
        seen: list[Tensor] = []

        def interpolate(_module: object, _arguments: object, x: Tensor, t: float = t, seen: list = seen) -> Tensor:
            z = baseline(method.path.baseline, x.detach())
            seen.extend((x.detach() - z, z + t * (x - z)))
            seen[1].retain_grad()
            return seen[1]

        handle = module.register_forward_hook(interpolate)
        try:
            with torch.enable_grad():
                classifier.logits(image.clone().requires_grad_())[0, target].backward()
        finally:
            handle.remove()
        h, r = seen
        assert r.grad is not None
        term = weight * PHI[method.phi](r.detach(), r.grad)
        total = term if total is None else total + term
    assert total is not None
    return (h * total).mean(dim=1)


@dataclass(frozen=True)
class Speed:
    """What one method, or several together, costs on one model.

    batch: images explained together. images_per_second: of the best of the repeats. forward_equivalents: F per image.
    literal: images per second of `literal_dix`, or NaN where there is no such form.
    """

    model: str
    method: str
    batch: int
    images_per_second: float
    forward_equivalents: float
    literal: float = float("nan")

    @property
    def ratio(self) -> float:
        """How many times as fast as the literal way."""
        return self.images_per_second / self.literal


def bench(
    models: Mapping[str, Classifier],
    methods: Mapping[str, Explainer],
    batch: int = 8,
    chunk: int = 32,
    repeats: int = 1,
    literal_images: int = 1,
) -> Iterator[Speed]:
    """Measure every method on every model that it supports, and all of them together, on seeded random pixels.

    literal_images: how many of the images the literal way explains, one at a time, to be timed; 0 leaves it out.
    """
    for model, classifier in models.items():
        size = classifier.input_size
        pixels = torch.rand(batch, 3, size, size, generator=generator(0, "speed")).to(classifier.mean)
        able = {name: method for name, method in methods.items() if not method.unsupported(classifier)}
        for name, method in able.items():
            literal = _literal_speed(classifier, method, pixels[:literal_images], repeats)
            yield _speed(model, name, [method], classifier, pixels, chunk, repeats, literal)
        if len(able) > 1:
            nan = float("nan")
            yield _speed(model, " + ".join(able), list(able.values()), classifier, pixels, chunk, repeats, nan)


def _speed(
    model: str,
    name: str,
    methods: Sequence[Explainer],
    classifier: Classifier,
    pixels: Tensor,
    chunk: int,
    repeats: int,
    literal: float,
) -> Speed:
    cost = forward_equivalents(classifier, methods, pixels, chunk)

    def run() -> None:
        passes = Passes(classifier, pixels, chunk=chunk)
        for method in methods:
            method.explain(passes)

    return Speed(model, name, len(pixels), len(pixels) / seconds(run, classifier.device, repeats), cost, literal)


def _literal_speed(classifier: Classifier, method: Explainer, pixels: Tensor, repeats: int) -> float:
    has_literal = isinstance(method, Dix) and classifier.kind == "cnn" and method.combine == "mean" and len(pixels) > 0
    if not isinstance(method, Dix) or not has_literal:
        return float("nan")
    return len(pixels) / seconds(lambda: literal_dix(classifier, pixels, method), classifier.device, repeats)


def seconds(run: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Wall time of the fastest of `repeats` calls, with the device's queue empty before and after."""
    return min(_timed(run, device) for _ in range(max(1, repeats)))


def _timed(run: Callable[[], object], device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    run()
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def as_text(rows: Sequence[Speed]) -> str:
    """The rows as a table for a terminal."""
    lines = [f"{'model':22}{'method':34}{'batch':>6}{'images/s':>10}{'F/image':>9}{'literal/s':>11}{'ratio':>7}"]
    for row in rows:
        speeds = f"{row.images_per_second:10.3f}{row.forward_equivalents:9.2f}{row.literal:11.3f}{row.ratio:7.2f}"
        lines.append(f"{row.model:22}{row.method:34}{row.batch:6}{speeds}")
    return "\n".join(lines)
