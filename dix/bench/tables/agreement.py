"""How often a reading of the proposed method orders methods as the thesis prints them (criterion: docs/reading.md).

A *pair* is two names of the thesis, a reading stores methods of its own under some of them, and a reference (Grad-CAM,
say) is the same for every reading. What a reading gets is kept as [1 + R] numbers: of the images as they are, and of R
resamples of them, which all readings share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from dix.bench.tables import paper, samples, statistics
from dix.bench.tables.ranks import EQUAL
from dix.bench.tables.samples import Block, Key, Sample, Summarised
from dix.bench.tables.statistics import Bootstrap, Floats

K = TypeVar("K")

#: Networks of a kind that the thesis prints, and those methods that it compares DIX with there.
PRINTED = {
    "cnn": ("resnet101", "convnext_base", "densenet201"),
    "vit": ("vit_base", "vit_small"),
}
REFERENCES = {"cnn": ("gc",), "vit": ("t_attr", "gae")}


class Pair(NamedTuple):
    """Two methods by their printed names, on one metric."""

    metric: str
    first: str
    second: str


@dataclass(frozen=True)
class Reading:
    """A way to read the thesis's equations.

    change: how much it changes of them, for ties: 0 is the least. holder: it bears the plain names already.
    methods: by kind of network, its stored methods by the names that the thesis prints.
    """

    name: str
    change: int
    methods: Mapping[str, Mapping[str, str]]
    holder: bool = False

    def stored(self, kind: str, name: str) -> str:
        """What is stored for a printed name; "" where the reading has nothing."""
        return name if name in REFERENCES[kind] else self.methods.get(kind, {}).get(name, "")


class Agreement(NamedTuple):
    """A share in [0, 1] with its central 95 % of resamples."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, shares: Floats) -> Agreement:
        """From [1 + R] shares."""
        return cls(float(shares[0]), *map(float, np.quantile(shares[1:], [0.025, 0.975])))


def printed_shares(
    kind: str, directions: Mapping[str, bool], printed: Mapping[tuple[str, str, str, str], float] | None = None
) -> dict[Pair, float]:
    """The share of printed lines of a kind of network on which a pair's first method is better, equal ones half.

    directions: whether higher is better, by printed metric. printed: as `paper.lookup`, which is the default.
    Pairs of two references are left out.
    """
    lines: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for (model, dataset, method, metric), value in (printed or paper.lookup()).items():
        if model in PRINTED[kind] and method in (*REFERENCES[kind], *paper.PROPOSED) and metric in directions:
            lines[model, dataset, metric][method] = value
    wins: dict[Pair, list[float]] = defaultdict(list)
    for (_, _, metric), values in lines.items():
        for first, second in combinations((*REFERENCES[kind], *paper.PROPOSED), 2):
            if first in values and second in values and second not in REFERENCES[kind]:
                lead = values[first] - values[second] if directions[metric] else values[second] - values[first]
                wins[Pair(metric, first, second)].append(0.5 + 0.5 * float(np.sign(lead)))
    return {pair: float(np.mean(won)) for pair, won in wins.items()}


@dataclass(frozen=True)
class Measurement:
    """What the readings are compared on.

    stored: samples of all cells. metrics: by stored name. kinds: "cnn" or "vit" by model. renamed: stored names of
    printed metrics that are stored under another. bootstrap: its resamples and seed.
    """

    stored: Mapping[Key, Sample]
    metrics: Mapping[str, Summarised]
    kinds: Mapping[str, str]
    renamed: Mapping[str, str]
    bootstrap: Bootstrap

    def blocks(self) -> list[Block]:
        """Every protocol, data set and network that is stored, in a fixed order."""
        return sorted({key.block for key in self.stored})

    def draws(self, block: Block, metric: str) -> dict[str, Floats]:
        """[1 + R] scores of every method stored on a line, over the images that all of them have."""
        found = {key: one for key, one in self.stored.items() if key.block == block and key.metric == metric}
        images = samples.common([sample.kept for sample in found.values()]) if found else ()
        if len(images) < 2:
            return {}
        columns = [sample.only(images).column(self.metrics[metric]) for sample in found.values()]
        drawn = statistics.resample(columns, self.bootstrap)
        return {key.method: np.array([one.estimate, *one.draws]) for key, one in zip(found, drawn, strict=True)}


#: What a reading gets for each pair of each block: [1 + R] numbers in [0, 1].
Won = Mapping[tuple[Block, Pair], Floats]
Outcomes = Mapping[str, Won]


def outcomes(readings: Iterable[Reading], measurement: Measurement) -> Outcomes:
    """What each reading gets for each pair that it has."""
    found: dict[str, dict[tuple[Block, Pair], Floats]] = {reading.name: {} for reading in readings}
    direction = {name: bool(metric.higher_is_better) for name, metric in measurement.metrics.items()}
    for block in measurement.blocks():
        kind = measurement.kinds[block.model]
        names = {printed: measurement.renamed.get(printed, printed) for _, _, _, printed in paper.lookup()}
        directions = {printed: direction[name] for printed, name in names.items() if name in direction}
        shares = printed_shares(kind, directions)
        draws = {metric: measurement.draws(block, names[metric]) for metric in directions}
        for reading in readings:
            for pair, share in shares.items():
                both = [draws[pair.metric].get(reading.stored(kind, name)) for name in pair[1:]]
                if both[0] is not None and both[1] is not None:
                    lead = (both[0] - both[1]) * (1 if directions[pair.metric] else -1)
                    found[reading.name][block, pair] = _won(lead, np.abs(both[0]), share)
    return found


def _won(lead: Floats, size: Floats, share: float) -> Floats:
    """share where the first method leads, 1 - share where the second does, 1/2 where they are equal."""
    return np.where(np.abs(lead) <= EQUAL * size, 0.5, np.where(lead > 0, share, 1 - share))


def overall(won: Won) -> Floats:
    """[1 + R] agreement: means over pairs, then metrics, then protocols, then networks and data sets."""
    return np.asarray(np.mean(list(places(won).values()), axis=0))


def places(won: Won) -> dict[tuple[str, str], Floats]:
    """[1 + R] agreement by network and data set: means over pairs, then metrics, then protocols."""
    by_metric = _means(((block, pair.metric), each) for (block, pair), each in won.items())
    by_protocol = _means((block, each) for (block, _), each in by_metric.items())
    return _means(((block.model, block.dataset), each) for block, each in by_protocol.items())


def _means(values: Iterable[tuple[K, Floats]]) -> dict[K, Floats]:
    """The mean of all that have a key."""
    groups: dict[K, list[Floats]] = defaultdict(list)
    for key, each in values:
        groups[key].append(each)
    return {key: np.asarray(np.mean(group, axis=0)) for key, group in groups.items()}


@dataclass(frozen=True)
class Standing:
    """A reading's agreement, its difference to the best over the pairs that both have, and whether that ties them."""

    reading: Reading
    agreement: Agreement
    behind: Agreement
    pairs: int

    @property
    def tied(self) -> bool:
        """The interval of the difference holds 0."""
        return self.behind.low <= 0 <= self.behind.high


def standings(readings: Sequence[Reading], measurement: Measurement) -> list[Standing]:
    """All measured readings, the best first, which is the one that none exceeds over the pairs that both have."""
    won = outcomes(readings, measurement)
    measured = [reading for reading in readings if won[reading.name]]
    best = won[measured[0].name] if measured else {}
    for reading in measured:
        best = won[reading.name] if difference(won[reading.name], best).value > 0 else best
    found = [_standing(reading, won[reading.name], best) for reading in measured]
    return sorted(found, key=lambda standing: -standing.behind.value)


def _standing(reading: Reading, mine: Won, best: Won) -> Standing:
    return Standing(reading, Agreement.of(overall(mine)), difference(mine, best), len(mine))


def difference(mine: Won, other: Won) -> Agreement:
    """How much higher one agreement is than another, over the pairs that both have."""
    both = [key for key in mine if key in other]
    return Agreement.of(overall({key: mine[key] for key in both}) - overall({key: other[key] for key in both}))


def chosen(found: Sequence[Standing]) -> Reading:
    """The best reading, or of those tied with it the one that changes the equations least; the holder before others."""
    tied = [standing for standing in found if standing.tied]
    return min(tied, key=lambda one: (one.reading.change, not one.reading.holder, -one.agreement.value)).reading
