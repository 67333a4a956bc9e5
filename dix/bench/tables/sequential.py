"""Verdicts while a run goes on: images come in a random order, and a comparison is decided at the first that allows it.

A comparison reads the longest prefix of the order of which both of its methods have a row for every image, so that its
verdict is a function of stored rows and of nothing else. The difference of two bounded means is held against a
confidence sequence (`betting`), which may be looked at after every image. Other scores (ratios of sums, areas under
median curves) are resampled at a schedule of looks laid down beforehand, among which alpha is divided.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dix.bench.tables import betting, forecast, statistics
from dix.bench.tables.samples import Lists, Summarised
from dix.bench.tables.statistics import TIE, Bootstrap, Column, Draws, Floats

#: What a verdict rests on: a confidence sequence, or resampling at a schedule of looks.
ANY_TIME, AT_LOOKS = "any time", "at looks"
#: Why a comparison reads no further.
DECIDED, AT_THE_END, WAITING = "decided", "all images read", "rows are missing"
TOO_FEW = "too few images for a look"
#: Places of the order before the first look, below which resampling is too rough; each further look doubles it.
FIRST_LOOK = 200
#: Resamples of a look: they only have to give a standard error.
RESAMPLES = 500


#: Places in the order.
Places = NDArray[np.intp]


class Cell(NamedTuple):
    """A method on a metric."""

    method: str
    metric: str


class Comparison(NamedTuple):
    """Two methods on a metric."""

    metric: str
    first: str
    second: str

    @property
    def cells(self) -> tuple[Cell, Cell]:
        """The two that are compared."""
        return Cell(self.first, self.metric), Cell(self.second, self.metric)


@dataclass(frozen=True)
class Rule:
    """When a comparison is decided.

    level: the probability that it is ever decided wrongly: alpha over the number of comparisons that share it. least:
    images that must count. length: images of the order; with `least` it fixes the looks.
    """

    level: float
    least: int
    length: int

    @property
    def looks(self) -> tuple[int, ...]:
        """The places of the order at which scores that are no bounded means are resampled; none in a short order."""
        looks, place = [], max(FIRST_LOOK, self.least)
        while place < self.length:
            looks.append(place)
            place *= 2
        return (*looks, self.length) if self.length >= FIRST_LOOK else ()


@dataclass(frozen=True)
class Verdict:
    """What is known of a comparison.

    kind: ANY_TIME or AT_LOOKS. winner: the method that is better, "" while undecided. n: images that count in the
    verdict. read: images of the order that were read. lead: score of the first minus that of the second, low, high: its
    interval of the sequence at these images. level: of the interval.
    """

    comparison: Comparison
    kind: str
    winner: str
    reason: str
    n: int
    read: int
    lead: float
    low: float
    high: float
    level: float


class Track:
    """One cell's rows by their places in the order, and how many places from the first on have one."""

    def __init__(self, length: int) -> None:
        self.known = np.zeros(length, dtype=bool)
        self.value = np.full(length, np.nan)
        self.more: dict[int, tuple[Floats, Floats]] = {}
        self.complete = 0

    def put(self, place: int, value: float, parts: Iterable[float] = (), curve: Iterable[float] = ()) -> None:
        """A row; NaN: the image does not count. The first row of a place counts."""
        if self.known[place]:
            return
        self.known[place], self.value[place] = True, value
        if not np.isnan(value):
            self.more[place] = np.asarray(parts, dtype=float), np.asarray(curve, dtype=float)
        while self.complete < len(self.known) and self.known[self.complete]:
            self.complete += 1

    def put_all(self, places: Sequence[int], value: Floats, parts: Lists, curve: Lists) -> None:
        """Many rows at once."""
        for place, *row in zip(places, value.tolist(), parts, curve, strict=True):
            self.put(place, *row)

    def column(self, places: Sequence[int], metric: Summarised) -> Column:
        """Images that count, as the score that their metric makes of them."""
        rows = [self.more[place] for place in places]
        parts, curve = (np.stack([row[k] for row in rows]) for k in (0, 1))
        value = self.value[places]
        return Column(value, metric.summary(value, parts, curve))


@dataclass
class Family:
    """Comparisons that share alpha, followed along the order of their images.

    comparisons: of the family. metrics: by name. cells: further ones that are followed. bounds: of the metrics' values,
    by name; None: as the metrics declare them. tracks: rows by cell; a caller puts rows there and calls `follow`.
    """

    comparisons: Sequence[Comparison]
    metrics: Mapping[str, Summarised]
    rule: Rule
    cells: Sequence[Cell] = ()
    bounds: Mapping[str, Sequence[float] | None] | None = None
    tracks: dict[Cell, Track] = field(init=False)

    def __post_init__(self) -> None:
        named = [cell for comparison in self.comparisons for cell in comparison.cells]
        self.tracks = {cell: Track(self.rule.length) for cell in dict.fromkeys([*self.cells, *named])}
        self.pursuits = [self._pursuit(comparison) for comparison in self.comparisons]
        self.drawn: dict[tuple[Cell, bytes], Draws] = {}
        self.busy: dict[Cell, list[Pursuit]] = {cell: [] for cell in self.tracks}
        for pursuit in self.pursuits:
            for cell in pursuit.comparison.cells:
                self.busy[cell].append(pursuit)

    def _pursuit(self, comparison: Comparison) -> Pursuit:
        name = comparison.metric
        bounds = bounds_of(self.metrics[name]) if self.bounds is None else self.bounds.get(name)
        return Looks(comparison, self) if bounds is None else Bets(comparison, self, (bounds[0], bounds[1]))

    def leave_out(self, places: Iterable[int]) -> None:
        """Images that cannot be read count as read, for no method."""
        for place in places:
            for track in self.tracks.values():
                track.put(place, np.nan)

    def follow(self) -> None:
        """Read on as far as the rows go."""
        for pursuit in self.pursuits:
            if pursuit.winner == "":
                pursuit.follow()
        self.drawn.clear()

    def verdicts(self) -> list[Verdict]:
        """Of every comparison, as far as it has been followed."""
        return [pursuit.verdict() for pursuit in self.pursuits]

    def stop(self, cell: Cell) -> int:
        """How many images of the order a cell is needed for, as far as is known now.

        Up to the last decision of its comparisons, or to the end where one is not decided; a cell that is compared with
        none is needed for the least number of images.
        """
        own = self.busy[cell]
        if not own:
            return min(self.rule.least, self.rule.length)
        return max(pursuit.read if pursuit.winner else self.rule.length for pursuit in own)


def bounds_of(metric: Summarised) -> tuple[float, float] | None:
    """The ends of an image's value, for metrics whose score is the mean of bounded values."""
    return getattr(metric, "bounds", None)


class Pursuit(ABC):
    """One comparison on its way along the order. read: places that were read. winner: "" while undecided."""

    kind = ANY_TIME

    def __init__(self, comparison: Comparison, family: Family) -> None:
        self.comparison = comparison
        self.rule = family.rule
        self.level = family.rule.level
        self.first, self.second = (family.tracks[cell] for cell in comparison.cells)
        higher = family.metrics[comparison.metric].higher_is_better
        self.direction = -1 if higher is False else 1
        self.read = 0
        self.winner = ""

    @abstractmethod
    def follow(self) -> None:
        """Read the rows that have come in, up to a decision."""

    @abstractmethod
    def estimate(self) -> tuple[float, float, float]:
        """The difference of the scores over the images that were read, and its interval."""

    @abstractmethod
    def outlook(self, counts: Floats, places: Places) -> Floats:
        """Images that count until a decision, for R resamples of images seen, how often each counts [R, k]: [R]."""

    @property
    def complete(self) -> int:
        """Places from the first on for which both methods have a row."""
        return min(self.first.complete, self.second.complete)

    def places(self, start: int, stop: int) -> Places:
        """The places in a stretch of the order whose images count for both methods."""
        counts = ~(np.isnan(self.first.value[start:stop]) | np.isnan(self.second.value[start:stop]))
        return np.asarray(start + np.flatnonzero(counts), dtype=np.intp)

    def differences(self, places: Places) -> Floats:
        """First minus second at some places."""
        return np.asarray(self.first.value[places] - self.second.value[places])

    def decide(self, lead: float, read: int) -> None:
        """Note who is better."""
        better = lead * self.direction > 0
        self.winner = self.comparison.first if better else self.comparison.second
        self.read = read

    @property
    def pending(self) -> str:
        """Why nothing is decided."""
        return AT_THE_END if self.read == self.rule.length else WAITING

    def verdict(self) -> Verdict:
        """What is known so far."""
        n = len(self.places(0, self.read))
        reason = DECIDED if self.winner else self.pending
        return Verdict(self.comparison, self.kind, self.winner, reason, n, self.read, *self.estimate(), 1 - self.level)


class Bets(Pursuit):
    """A comparison of two means of bounded values, by betting after every image."""

    def __init__(self, comparison: Comparison, family: Family, bounds: tuple[float, float]) -> None:
        super().__init__(comparison, family)
        self.bounds = bounds
        self.wealth = betting.Wealth.initial()
        self.counted = 0

    def follow(self) -> None:
        """Bet on every image that counts; decided where the capital passes its threshold."""
        stop = self.complete
        places = self.places(self.read, stop)
        capital, self.wealth = self.wealth.after(self._scaled(places))
        enough = self.counted + 1 + np.arange(len(places)) >= self.rule.least
        passed = np.flatnonzero(enough & (capital >= betting.threshold(self.level)))
        self.counted, self.read = self.counted + len(places), stop
        if len(passed):
            until = int(places[passed[0]]) + 1
            self.decide(float(self.differences(self.places(0, until)).mean()), until)

    def _scaled(self, places: Places) -> Floats:
        low, high = self.bounds
        for name, track in zip(self.comparison[1:], (self.first, self.second), strict=True):
            check_bounds(track.value[places], self.bounds, f"{self.comparison.metric} of {name}")
        return betting.scaled(self.differences(places), high - low)

    def outlook(self, counts: Floats, places: Places) -> Floats:
        """From what the bets gain on average."""
        return forecast.images_needed(forecast.growth(self._scaled(places), counts), self.level)

    def estimate(self) -> tuple[float, float, float]:
        """The mean difference, and the interval of the confidence sequence."""
        reach = self.bounds[1] - self.bounds[0]
        places = self.places(0, self.read)
        values = self._scaled(places)
        low, high = betting.interval(values, self.level)
        return float(reach * values.mean()) if len(values) else np.nan, reach * low, reach * high


class Looks(Pursuit):
    """A comparison of two scores of another kind, by resampling at the looks of the rule."""

    kind = AT_LOOKS

    def __init__(self, comparison: Comparison, family: Family) -> None:
        super().__init__(comparison, family)
        self.family = family
        self._metric, self._cells = family.metrics[comparison.metric], comparison.cells
        self.found = (np.nan, np.nan, np.nan)

    def follow(self) -> None:
        """Look where the rows allow it."""
        for look in self.rule.looks:
            if self.read < look <= self.complete and not self.winner:
                self._look(look)

    @property
    def pending(self) -> str:
        """Why nothing is decided."""
        return super().pending if self.rule.looks else TOO_FEW

    def _look(self, look: int) -> None:
        self.read = look
        places = self.places(0, look)
        if len(places) < max(2, self.rule.least):
            return
        first, second = (self._draws(cell, places) for cell in self._cells)
        lead, low, high = student(first, second, len(places), self.level / len(self.rule.looks))
        self.found = lead, low, high
        if low > 0 or high < 0:
            self.decide(lead, look)

    def _draws(self, cell: Cell, places: Places) -> Draws:
        """A score's resamples; methods over the same images share those of the family."""
        key = cell, places.tobytes()
        if key not in self.family.drawn:
            column = self.family.tracks[cell].column(places.tolist(), self.family.metrics[cell.metric])
            [self.family.drawn[key]] = statistics.resample([column], Bootstrap(resamples=RESAMPLES, groups=2))
        return self.family.drawn[key]

    def outlook(self, counts: Floats, places: Places) -> Floats:
        """From the spread of the resamples, which shrinks with the root of the images; at the next look."""
        drawn = [self.family.tracks[cell].column(places.tolist(), self._metric).reduce(counts) for cell in self._cells]
        leads = drawn[0] - drawn[1]
        reach = float(special.ndtri(1 - self.level / max(1, len(self.rule.looks)) / 2)) * float(np.nanstd(leads))
        with np.errstate(divide="ignore", invalid="ignore"):
            images = len(places) * (reach / np.abs(leads)) ** 2
        looks = np.array([*self.rule.looks, np.inf])
        return looks[np.searchsorted(looks, np.where(np.isnan(images), np.inf, images))]

    def estimate(self) -> tuple[float, float, float]:
        """The difference of the scores at the last look, and its interval."""
        return self.found


def student(first: Draws, second: Draws, n: int, alpha: float) -> tuple[float, float, float]:
    """The difference of two scores of n images, and Student's interval with the resamples' standard error.

    No bounds where every resample says the same.
    """
    apart = first - second
    drawn = apart.draws[~np.isnan(apart.draws)]
    size = max(abs(first.estimate), abs(second.estimate))
    error = float(np.std(drawn)) * np.sqrt(n / (n - 1)) if len(drawn) > 1 else 0.0
    if not error > TIE * size:
        return apart.estimate, np.nan, np.nan
    half = error * float(special.stdtrit(min(n, len(drawn)) - 1, 1 - alpha / 2))
    return apart.estimate, apart.estimate - half, apart.estimate + half


def check_bounds(values: Floats, bounds: tuple[float, float], what: str) -> None:
    """Raise ValueError where a value lies outside the ends that its metric declares: the guarantee would be void."""
    low, high = bounds
    slack = betting.ROUNDING * (high - low)
    outside = values[(values < low - slack) | (values > high + slack)]
    if len(outside):
        raise ValueError(
            f"metric {what}: {outside[0]:g} lies outside the bounds [{low:g}, {high:g}] that the metric declares, so "
            "that no verdict while running would hold; correct the metric's `bounds`, or leave them out: resampling "
            "decides then"
        )
