"""What explaining costs: forward-equivalents counted from the operations that ran, and images per second.

One forward-equivalent (F) is one clean forward pass of the model on one image. Convolutions and matrix products are
counted, forward and backward, so a part of the network counts as its share; with frozen parameters a backward pass
through a part costs as much as its forward pass, or twice that for a product of two activations.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

NAN = float("nan")
#: Forward passes that are timed, of which the fastest sets the rate.
RATE_REPEATS = 3


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

    batch: images explained together. seconds: an image. passes: forward-equivalents an image. rate: seconds of an image
    in the fastest clean forward pass. literal: seconds an image of `literal_dix`, library: of the library that people
    use for this method; NaN where there is none. note: how these were got.
    """

    model: str
    method: str
    batch: int
    seconds: float
    passes: float
    rate: float
    literal: float = NAN
    library: float = NAN
    note: str = ""

    @property
    def floor(self) -> float:
        """Seconds an image that its passes alone would take."""
        return self.passes * self.rate

    def __str__(self) -> str:
        """One line of a table."""
        ours = f"{self.seconds:9.3f}{self.passes:9.2f}{self.floor:9.3f}{self.seconds / self.floor:7.2f}"
        others = "".join(f"{_or_dash(other, 10, 3)}{_or_dash(other / self.seconds, 8, 1)}" for other in self._others)
        return f"{self.method:22}{self.batch:6}{ours}{others}  {self.note}".rstrip()

    @property
    def _others(self) -> tuple[float, float]:
        return self.library, self.literal


def _or_dash(value: float, width: int, digits: int) -> str:
    """A number in so many columns, or a dash where there is none."""
    return "-".rjust(width) if math.isnan(value) else f"{value:{width}.{digits}f}"


#: What the columns of `Speed` are: seconds an image, passes, the floor, and how many times as long others take.
HEADER = (
    f"{'method':22}{'batch':>6}{'s/image':>9}{'passes':>9}{'floor':>9}{'over':>7}{'library':>10}{'times':>8}"
    f"{'literal':>10}{'times':>8}"
)


@dataclass(frozen=True)
class Effort:
    """How much is measured. batch: images together. chunk: rows in one pass, at most. repeats: the fastest counts.

    steps: methods that integrate along a path of more than twice as many are timed with so many and with twice as many
    (`of_all_steps`); 0: all. literal: steps of DIX's literal way on one image, scaled up; 0: leave it out.
    """

    batch: int = 8
    chunk: int = 32
    repeats: int = 1
    steps: int = 0
    literal: int = 1


#: Seconds that the usual library takes for an image [1, 3, S, S], by the method's name, and how they were got.
Library = Callable[[str, Explainer, Tensor], tuple[float, str]]


def no_library(name: str, method: Explainer, image: Tensor) -> tuple[float, str]:
    """None is asked."""
    return NAN, ""


def bench(
    classifier: Classifier,
    methods: Mapping[str, Explainer],
    effort: Effort | None = None,
    library: Library = no_library,
) -> Iterator[Speed]:
    """Measure every method that the model supports, and all of them together, on seeded random pixels.

    Each row is ready as soon as it is measured. All together are measured where no method is scaled up.
    """
    effort = effort or Effort()
    size = classifier.input_size
    pixels = torch.rand(effort.batch, 3, size, size, generator=generator(0, "speed")).to(classifier.mean)
    rate = forward_rate(classifier, pixels, effort.chunk)
    able = {name: method for name, method in methods.items() if not method.unsupported(classifier)}
    for name, method in able.items():
        row = _speed(classifier, name, [method], pixels, rate, effort)
        theirs, note = _library_seconds(library, name, method, pixels[:1], effort.steps)
        literal = _literal_seconds(classifier, method, pixels[:1], effort)
        part = f"from {effort.steps} and {2 * effort.steps} steps" if shortened(method, effort.steps) else ""
        yield replace(row, library=theirs, literal=literal, note=", ".join(filter(None, (part, note))))
    if len(able) > 1 and not any(shortened(method, effort.steps) for method in able.values()):
        yield _speed(classifier, " + ".join(able), list(able.values()), pixels, rate, effort)


def forward_rate(classifier: Classifier, pixels: Tensor, chunk: int) -> float:
    """Seconds of an image in a clean forward pass of a full chunk, the fastest of three."""
    rows = pixels.repeat(-(-chunk // len(pixels)), 1, 1, 1)[:chunk]
    with torch.no_grad():
        return seconds(lambda: classifier.logits(rows), classifier.device, RATE_REPEATS) / len(rows)


def shortened(method: Explainer, steps: int) -> bool:
    """Whether the method's path has more steps than are worth taking to know its cost."""
    own = getattr(method, "steps", 0)
    return isinstance(own, int) and 0 < 2 * steps < own


def of_all_steps(measure: Callable[[Explainer], float], method: Explainer, steps: int) -> float:
    """What a method costs, where its path is long by the line through what `steps` and twice as many of them cost.

    Whatever precedes the path, such as the clean pass, counts once.
    """
    if not shortened(method, steps):
        return measure(method)
    few, more = (measure(replace(method, steps=n)) for n in (steps, 2 * steps))  # type: ignore[type-var]
    return few + (more - few) * (method.steps - steps) / steps  # type: ignore[attr-defined]


def _speed(
    classifier: Classifier, name: str, methods: Sequence[Explainer], pixels: Tensor, rate: float, effort: Effort
) -> Speed:
    """One row. Passes are counted on one image: what one costs depends on neither batch nor chunk."""

    def passes(*together: Explainer) -> float:
        return forward_equivalents(classifier, together, pixels[:1], effort.chunk)

    def spent(*together: Explainer) -> float:
        return seconds(lambda: run(together), classifier.device, effort.repeats) / len(pixels)

    def run(together: Sequence[Explainer]) -> None:
        shared = Passes(classifier, pixels, chunk=effort.chunk)
        for method in together:
            method.explain(shared)

    counted, timed = (
        measure(*methods) if len(methods) > 1 else of_all_steps(measure, methods[0], effort.steps)
        for measure in (passes, spent)
    )
    return Speed(classifier.name, name, len(pixels), timed, counted, rate)


def _library_seconds(library: Library, name: str, method: Explainer, image: Tensor, steps: int) -> tuple[float, str]:
    """Seconds that the library takes, and how they were got."""
    notes: list[str] = []

    def measure(part: Explainer) -> float:
        spent, note = library(name, part, image)
        notes.append(note)
        return spent

    return of_all_steps(measure, method, steps), notes[0]


def _literal_seconds(classifier: Classifier, method: Explainer, image: Tensor, effort: Effort) -> float:
    """Seconds of the literal way on one image, from some of its steps."""
    if not isinstance(method, Dix) or not effort.literal or classifier.kind != "cnn" or method.combine != "mean":
        return NAN
    part = replace(method, path=replace(method.path, steps=min(effort.literal, method.path.steps)))
    spent = seconds(lambda: literal_dix(classifier, image, part), classifier.device, effort.repeats)
    return spent * _literal_passes(method) / _literal_passes(part)


def _literal_passes(method: Dix) -> int:
    """The pass that finds the class, and one forward and back for each layer and step."""
    return 1 + 2 * method.depth * len(quadrature(method.path.rule, method.path.steps)[0])


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
