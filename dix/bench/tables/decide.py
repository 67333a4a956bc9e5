"""Verdicts while running, derived from stored rows, beside what all the rows say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dix.bench.store.results import ResultStore
from dix.bench.tables import forecast, samples, signflip, statistics
from dix.bench.tables.samples import Block, Key, Sample, Summarised
from dix.bench.tables.sequential import Cell, Comparison, Family, Rule, Verdict
from dix.bench.tables.statistics import Bootstrap, Draws, Floats

#: How all the rows are tested: the resamples only scale what cannot be exchanged image by image.
ALL_ROWS = Bootstrap(resamples=500)


@dataclass(frozen=True)
class Course:
    """The verdicts of one family of comparisons.

    settings: the rule in words, by name. needed: images of the order that each cell was needed for. length: all images.
    """

    block: Block
    settings: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    needed: Mapping[Cell, int]
    length: int


@dataclass(frozen=True)
class Held:
    """A verdict held against all images.

    winner: whom the corrected test of all n images declares better, "" where none. lead: over all images. spread: of an
    image's difference. fixed: images that a fixed-size test of the same level needs for this lead.
    """

    verdict: Verdict
    winner: str
    n: int
    lead: float
    spread: float
    fixed: float

    @property
    def contradicts(self) -> bool:
        """Whether both decide, and not alike."""
        return bool(self.winner and self.verdict.winner) and self.winner != self.verdict.winner

    @property
    def ratio(self) -> float:
        """Images used over those of the fixed size; NaN where it is not decided."""
        return self.verdict.n / self.fixed if self.verdict.winner and self.fixed > 0 else np.nan


def replayed(
    block: Block,
    stored: Mapping[Key, Sample],
    metrics: Mapping[str, Summarised],
    comparisons: Sequence[Comparison],
    rule: Rule,
    places: Mapping[str, int],
    bounds: Mapping[str, Sequence[float] | None] | None = None,
) -> Family:
    """A family with the rows of a block; places: of the images in the order. `follow` reads them.

    bounds: as in `Family`. Comparisons of which a cell has no rows at all are left out.
    """
    named = dict.fromkeys(cell for comparison in comparisons for cell in comparison.cells)
    present = [cell for cell in named if Key(block, *cell) in stored]
    family = Family([c for c in comparisons if {*c.cells} <= {*present}], metrics, rule, present, bounds)
    for cell in present:
        sample = stored[Key(block, *cell)]
        only = sample.only([image for image in sample.images if image in places])
        family.tracks[cell].put_all([places[image] for image in only.images], only.value, only.parts, only.curve)
    return family


def recorded(
    store: ResultStore, stored: Mapping[Key, Sample], metrics: Mapping[str, Mapping[str, Summarised]]
) -> list[Course]:
    """The verdicts of every run until decided that a store has a record of. metrics: by protocol and name."""
    courses = []
    for record in store.read_json("sequences"):
        order = store.json("orders", record["order"])
        if order is not None and record["protocol"] in metrics:
            courses.append(_course(record, order, store, stored, metrics[record["protocol"]]))
    return courses


def _course(
    record: Mapping[str, Any],
    order: Mapping[str, Any],
    store: ResultStore,
    stored: Mapping[Key, Sample],
    metrics: Mapping[str, Summarised],
) -> Course:
    block = _block(record)
    comparisons = [Comparison(*names) for names in record["comparisons"]]
    rule = Rule(record["alpha"] / max(1, len(comparisons)), record["least"], len(order["images"]))
    places = {image: place for place, image in enumerate(order["images"])}
    family = replayed(
        block, stored, metrics, [c for c in comparisons if c.metric in metrics], rule, places, record["bounds"]
    )
    unread = {image for other in store.read_json("unread") if _block(other) == block for image in other["images"]}
    family.leave_out(places[image] for image in unread if image in places)
    family.follow()
    settings = {name: record[name] for name in ("compare", "alpha", "least")} | {"order": order["seed"]}
    return Course(block, settings, family.verdicts(), needed(family), rule.length)


def _block(record: Mapping[str, Any]) -> Block:
    return Block(record["protocol"], record["dataset"], record["model"])


def needed(family: Family) -> dict[Cell, int]:
    """How many images of the order each cell is needed for."""
    return {cell: family.stop(cell) for cell in family.tracks}


def held(family: Family, block: Block, stored: Mapping[Key, Sample], alpha: float) -> list[Held]:
    """Every verdict of a family beside the sign-flip test of all rows, corrected for the same comparisons."""
    lines = [line for metric in family.metrics for line in _lines(metric, family, block, stored)]
    maxima = np.zeros(ALL_ROWS.flips)
    for line in lines:
        maxima = np.maximum(maxima, signflip.largest(line.draws, line.pairs, ALL_ROWS))
    verdicts = {verdict.comparison: verdict for verdict in family.verdicts()}
    return [
        line.held(pair, verdicts[comparison], family, maxima, alpha)
        for line in lines
        for comparison, pair in zip(line.comparisons, line.pairs, strict=True)
    ]


@dataclass(frozen=True)
class _Line:
    """Comparisons on a metric whose methods count on the same n images. pairs: places of their methods in draws."""

    n: int
    draws: Sequence[Draws]
    comparisons: Sequence[Comparison]
    pairs: Sequence[tuple[int, int]]

    def held(self, pair: tuple[int, int], verdict: Verdict, family: Family, maxima: Floats, alpha: float) -> Held:
        """A comparison's verdict beside the test of all rows."""
        first, second = self.draws[pair[0]], self.draws[pair[1]]
        test = signflip.paired_test(first, second, ALL_ROWS)
        apart = first - second
        spread = float(np.std(signflip.contributions(first, second), ddof=1))
        significant = signflip.corrected(test, maxima) < alpha
        better = test.sign * (1 if family.metrics[verdict.comparison.metric].higher_is_better else -1) > 0
        winner = verdict.comparison.first if better else verdict.comparison.second
        fixed = forecast.fixed_size(apart.estimate, spread, family.rule.level)
        return Held(verdict, winner if significant else "", self.n, apart.estimate, spread, fixed)


def _lines(metric: str, family: Family, block: Block, stored: Mapping[Key, Sample]) -> list[_Line]:
    """The comparisons on a metric, those over the same images together."""
    alike: dict[tuple[str, ...], list[Comparison]] = defaultdict(list)
    for comparison in family.comparisons:
        if comparison.metric == metric:
            both = [stored[Key(block, *cell)].kept for cell in comparison.cells]
            alike[samples.common(both)].append(comparison)
    return [
        _line(images, own, family.metrics[metric], block, stored) for images, own in alike.items() if len(images) > 1
    ]


def _line(
    images: tuple[str, ...],
    comparisons: Sequence[Comparison],
    metric: Summarised,
    block: Block,
    stored: Mapping[Key, Sample],
) -> _Line:
    cells = list(dict.fromkeys(cell for comparison in comparisons for cell in comparison.cells))
    columns = [stored[Key(block, *cell)].only(images).column(metric) for cell in cells]
    pairs = [(cells.index(first), cells.index(second)) for first, second in (c.cells for c in comparisons)]
    return _Line(len(images), statistics.resample(columns, ALL_ROWS), comparisons, pairs)
