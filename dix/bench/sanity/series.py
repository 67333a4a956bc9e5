"""What an explanation is compared with: the same method on a sequence of altered networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dix.bench.sanity.randomise import Randomiser, WeightLayer, copy_of, weight_layers
from dix.bench.sanity.settings import Sanity
from dix.classifier import Classifier

MODES: Mapping[str, Callable[[Sequence[WeightLayer], int], Sequence[WeightLayer]]] = {
    "cascading": lambda layers, k: layers[:k],
    "independent": lambda layers, k: layers[k - 1 : k] if k else [],
}


@dataclass(frozen=True)
class Series:
    """Networks to compare with; the first is always the original itself, so that 1 is measured and not assumed.

    name: of the test, as rows have it. x: positions on the axis, beginning with 0. names: what is different at each.
    at: the network at the i-th position. It is valid until the next call.
    """

    name: str
    repeat: int
    x: tuple[int, ...]
    names: tuple[str, ...]
    init: str
    at: Callable[[int], Classifier]


def parameter_series(classifier: Classifier, settings: Sanity, seed: int) -> Iterator[Series]:
    """Each mode and repeat of the parameter-randomisation test; a repeat's weights are drawn when it is reached."""
    layers = weight_layers(classifier, settings.layers)
    x = depths(settings, len(layers))
    unknown = sorted(set(settings.modes) - set(MODES))
    if unknown:
        raise ValueError(f"sanity.modes: expected {' or '.join(MODES)}, got {unknown[0]!r}")
    if settings.repeats < 1:
        raise ValueError(f"sanity.repeats: expected at least 1, got {settings.repeats}")
    for repeat in range(settings.repeats):
        randomiser = Randomiser(classifier, (seed, repeat), settings.init)
        for mode in settings.modes:
            yield _parameters(mode, layers, x, repeat, randomiser, settings)


def _parameters(
    mode: str,
    layers: Sequence[WeightLayer],
    x: tuple[int, ...],
    repeat: int,
    randomiser: Randomiser,
    settings: Sanity,
) -> Series:
    told = {"conv": settings.layers == "conv", "he": settings.init == "he", "smooth": settings.samples > 0}
    return Series(
        name="_".join([mode, *(text for text, applies in told.items() if applies)]),
        repeat=repeat,
        x=x,
        names=tuple(layers[k - 1].name if k else "" for k in x),
        init=settings.init,
        at=lambda i: randomiser.at(MODES[mode](layers, x[i])),
    )


def depths(settings: Sanity, count: int) -> tuple[int, ...]:
    """The tested numbers of layers, 0 first. Raises ValueError for one beyond the network's `count` layers."""
    if settings.every < 1:
        raise ValueError(f"sanity.every: expected at least 1, got {settings.every}")
    wanted = settings.depths or [*range(0, count, settings.every), count]
    outside = [k for k in wanted if not 0 <= k <= count]
    if outside:
        raise ValueError(f"sanity.depths: expected 0 to {count} (the network's weight layers), got {outside[0]}")
    return tuple(sorted({0, *wanted}))


def data_series(classifier: Classifier, variants: Mapping[str, Classifier], settings: Sanity) -> Series:
    """The original network and others of the same architecture, trained on other labels or not at all."""
    if not variants:
        raise ValueError("sanity.against: expected at least one file of weights, got none")
    networks = [copy_of(classifier, classifier.network, ""), *variants.values()]
    return Series(
        name="labels_smooth" if settings.samples else "labels",
        repeat=0,
        x=tuple(range(len(networks))),
        names=("", *(f"{name} {other.fingerprint}" for name, other in variants.items())),
        init="",
        at=networks.__getitem__,
    )
