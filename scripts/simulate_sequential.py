"""Simulate verdicts while running: how often they are wrong, and how many images they take; rewrite docs/statistics.md.

`python scripts/simulate_sequential.py` prints the tables and puts them between its marks in docs/statistics.md;
`--runs N` simulates N runs for each line (default 2,000, some minutes). Seeds are fixed: the same numbers
every time.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path

import numpy as np

from dix.bench.tables import betting, forecast, statistics
from dix.bench.tables.sequential import RESAMPLES, Rule, student
from dix.bench.tables.statistics import Bootstrap, Column, Draws, Floats
from dix.metrics.summaries import ratios

PAGE = Path(__file__).resolve().parent.parent / "docs" / "statistics.md"
ALPHA = 0.05
#: Images of a simulated run, methods of its family, and images before which nothing is decided.
IMAGES, METHODS, LEAST = 1000, 5, 25
#: Comparisons of the thesis's Table 1 with one network: 66 pairs of 12 methods, 8 metrics.
TABLE1 = 66 * 8
LEADS = (0.2, 0.5, 1.0, 3.0)
#: Standard deviation of an image's difference in points, the median over all pairs of methods as `dix decide` prints
#: it, and the range of the metric.
SPREADS = {
    "NEG": (17.5, 90.0),
    "POS": (21.6, 90.0),
    "INS": (15.6, 90.0),
    "DEL": (18.6, 90.0),
    "ADP": (37.9, 100.0),
    "PIC": (17.0, 100.0),
}
SPREADS_OF = (
    "Spread: standard deviation of an image's difference, the median over the 66 pairs of the thesis's twelve methods "
    "for CNNs on the 1,000 held-out MNIST digits (LeNet-5, protocol thesis)."
)

#: Scores in percent of some methods on some images; `leads` is added to what is drawn, by method.
Draw = Callable[[np.random.Generator, Floats, int], Floats]


def steps_of_ten(generator: np.random.Generator, leads: Floats, n: int) -> Floats:
    """As NEG: how many of nine masking levels an image survives, times ten; one difficulty for all methods."""
    chance = np.clip(generator.beta(0.8, 0.8, n) + leads[:, None] / 90, 0, 1)
    return np.asarray(10.0 * generator.binomial(9, chance))


def hits(generator: np.random.Generator, leads: Floats, n: int) -> Floats:
    """As PIC: 0 or 100."""
    chance = np.clip(generator.beta(0.5, 1.5, n) + leads[:, None] / 100, 0, 1)
    return np.asarray(100.0 * (generator.random((len(leads), n)) < chance))


def shares(generator: np.random.Generator, leads: Floats, n: int, noise: float = 1.0) -> Floats:
    """As ADP: anything between 0 and 100, mostly near the ends; noise: how far methods differ on an image."""
    near = generator.beta(0.4, 0.6, n) * (1 - np.abs(leads[:, None]) / 100) + np.maximum(leads[:, None], 0) / 100
    return 100 * np.clip(near + generator.uniform(-noise, noise, (len(leads), n)) * near * (1 - near), 0, 1)


KINDS: dict[str, tuple[Draw, float]] = {
    "as NEG, steps of 10 in [0, 90]": (steps_of_ten, 90.0),
    "as PIC, 0 or 100": (hits, 100.0),
    "as ADP, between 0 and 100": (shares, 100.0),
    "as ADP, but alike": (partial(shares, noise=0.1), 100.0),
}


def capital(values: Floats) -> Floats:
    """What a stake of 1 on a positive mean becomes, value by value: [pairs, n], as products instead of logarithms."""
    total = np.zeros_like(values)
    for bet in betting.BETS:
        total += np.cumprod(1 + bet * values, axis=1)
    return total / len(betting.BETS)


def wrong(scores: Floats, truth: Floats, reach: float, level: float) -> bool:
    """Whether any pair of methods is ever decided against its true means."""
    first, second = np.array(list(combinations(range(len(scores)), 2))).T
    differences = scores[first] - scores[second]
    up, down = (capital(sign * betting.scaled(differences, reach)) for sign in (1, -1))
    passed = np.maximum(up, down)[:, LEAST - 1 :] >= 2 / level
    at = LEAST - 1 + passed.argmax(axis=1)
    sign = np.sign(up - down)[np.arange(len(at)), at]
    return bool((passed.any(axis=1) & (sign != np.sign(truth[first] - truth[second]))).any())


def families(runs: int) -> Iterator[list[str]]:
    """The share of runs with any wrong verdict, looking after every image."""
    pairs = METHODS * (METHODS - 1) // 2
    ladder = np.arange(METHODS) * 0.1
    for name, (draw, reach) in list(KINDS.items())[:3]:
        cells = [name]
        for methods, leads in ((2, np.zeros(2)), (METHODS, np.zeros(METHODS)), (METHODS, ladder)):
            generator = np.random.default_rng([1, methods, int(leads.any())])
            level = ALPHA / (1 if methods == 2 else pairs)
            found = [wrong(draw(generator, leads, IMAGES), leads, reach, level) for _ in range(runs)]
            cells.append(f"{100 * np.mean(found):.2f}")
        generator = np.random.default_rng([2])
        found = [wrong(exhausted(draw, generator), np.zeros(2), reach, ALPHA) for _ in range(runs)]
        yield [*cells, f"{100 * np.mean(found):.2f}"]


def exhausted(draw: Draw, generator: np.random.Generator) -> Floats:
    """Two methods whose means over the images of a run are equal to the last, in a random order."""
    half = draw(generator, np.zeros(2), IMAGES // 2)
    both = np.concatenate([half, half[::-1]], axis=1)
    return both[:, generator.permutation(both.shape[1])]


def looks(runs: int) -> Iterator[list[str]]:
    """The share of runs in which one pair of equal methods is ever decided at the looks."""
    fewer = max(1, runs // 10)  # an area takes a hundred times as long
    yield ["ratio of sums", str(runs), *(_looked(ratio, size, runs) for size in (200, 800))]
    yield ["area under the median curve", str(fewer), _looked(area, 200, fewer), "not simulated"]


def _looked(make: Callable[[np.random.Generator, int], Column], size: int, runs: int) -> str:
    generator, rule = np.random.default_rng([3, size]), Rule(ALPHA, LEAST, size)
    return f"{100 * np.mean([_ever(make, generator, rule) for _ in range(runs)]):.1f}"


def _ever(make: Callable[[np.random.Generator, int], Column], generator: np.random.Generator, rule: Rule) -> bool:
    both = [make(generator, rule.length) for _ in range(2)]
    for look in rule.looks:
        first, second = (_draws(column, look) for column in both)
        _, low, high = student(first, second, look, rule.level / len(rule.looks))
        if low > 0 or high < 0:
            return True
    return False


def _draws(column: Column, look: int) -> Draws:
    """The resamples of the first images of a score, with the weights that every look at so many images has."""
    assert column.summary is not None
    assert column.parts is not None
    parts, value = column.parts[:look], column.value[:look]
    reduce = column.summary(value, parts, parts)
    return Draws(float(reduce(None)[0]), reduce(_weights(look)), np.zeros(0))


@lru_cache(maxsize=8)
def _weights(n: int) -> statistics.Weights:
    return np.concatenate(list(statistics.resample_counts(n, Bootstrap(resamples=RESAMPLES))))


def ratio(generator: np.random.Generator, n: int) -> Column:
    """Intersection over union of objects whose sizes differ by an order of magnitude; larger ones fit better."""
    size = generator.lognormal(0, 0.8, n)
    fit = generator.beta(4 * size / (1 + size) + 0.5, 2, n)
    parts = np.stack([size * fit, size], axis=1)
    return Column(100 * fit, _unused, parts=parts, summary=_ratio_summary)


def _unused(weights: statistics.Weights | None = None) -> Floats:
    raise AssertionError("only parts of the images are summarised")


def _ratio_summary(value: Floats, parts: Floats, _: Floats) -> statistics.Reduce:
    def reduce(weights: statistics.Weights | None = None) -> Floats:
        return np.asarray(100 * ratios(value, parts, weights)[:, 0])

    return reduce


def area(generator: np.random.Generator, n: int) -> Column:
    """The area under the median of curves that jump somewhere, read at 21 points where tables read 1,001."""
    place, top = generator.beta(2, 3, (n, 1)), generator.beta(4, 1, (n, 1))
    curve = top / (1 + np.exp(-(np.linspace(0, 1, 21) - place) / 0.05))
    return Column(100 * curve.mean(axis=1), _unused, parts=curve, summary=_median_summary)


def _median_summary(value: Floats, curve: Floats, _: Floats) -> statistics.Reduce:
    order = np.argsort(curve, axis=0)
    ranked = np.take_along_axis(curve, order, axis=0)

    def reduce(weights: statistics.Weights | None = None) -> Floats:
        counts = np.ones((1, len(curve)), dtype=np.float32) if weights is None else weights
        return np.stack([100 * np.trapezoid(_medians(row[order], ranked), dx=1 / 20) for row in counts])

    return reduce


def _medians(counts: Floats, ranked: Floats) -> Floats:
    """The weighted lower and upper median of sorted values [n, C] with counts [n, C], averaged."""
    below = counts.cumsum(axis=0)
    half = below[-1] / 2
    low, high = (below < half).sum(axis=0), (below <= half).sum(axis=0)
    points = np.arange(ranked.shape[1])
    return np.asarray((ranked[low, points] + ranked[high, points]) / 2)


def plug_in(share: Floats, alpha: float) -> Floats:
    """The predictable bets [runs, n] of Waudby-Smith and Ramdas (2023), Eq. 26, on values [runs, n] in [0, 1]."""
    place = np.arange(1, share.shape[1] + 1)
    means = (0.5 + share.cumsum(axis=1)) / (place + 1)
    spread = (0.25 + ((share - means) ** 2).cumsum(axis=1)) / (place + 1)
    before = np.concatenate([np.full((len(share), 1), 0.25), spread[:, :-1]], axis=1)
    return np.asarray(np.sqrt(2 * np.log(2 / alpha) / (before * place * np.log(1 + place))))


def by_hedged(share: Floats, alpha: float) -> Floats:
    """The logarithm of their hedged capital with these bets, cut at 3/4 of what could ruin."""
    bets = np.minimum(plug_in(share, alpha), 1.5)
    sides = [np.log1p(sign * bets * (share - 0.5)).cumsum(axis=1) for sign in (1, -1)]
    return np.maximum(*sides) - betting.threshold(alpha)


def by_bernstein(share: Floats, alpha: float) -> Floats:
    """How far their empirical-Bernstein sequence (Theorem 2) is from holding 1/2; positive where it leaves it out."""
    bets = np.minimum(plug_in(share, alpha), 0.5)
    place = np.arange(1, share.shape[1] + 1)
    means = (0.5 + share.cumsum(axis=1)) / (place + 1)
    before = np.concatenate([np.full((len(share), 1), 0.5), means[:, :-1]], axis=1)
    width = np.log(2 / alpha) + ((share - before) ** 2 * (-np.log1p(-bets) - bets)).cumsum(axis=1)
    return np.asarray((np.abs((bets * (share - 0.5)).cumsum(axis=1)) - width) / bets.cumsum(axis=1))


def by_grid(share: Floats, alpha: float) -> Floats:
    """The logarithm of the capital of the grid of constant bets, less its threshold."""
    return np.stack([betting.Wealth.initial().after(2 * row - 1)[0] for row in share]) - betting.threshold(alpha)


def sizes(runs: int) -> Iterator[list[str]]:
    """Median images until a lead is decided at the level of Table 1, by confidence sequence, beside the fixed size."""
    level, fewer = ALPHA / TABLE1, max(1, runs // 20)
    for name, lead in (("as NEG, steps of 10 in [0, 90]", 2.0), ("as NEG, steps of 10 in [0, 90]", 6.0),
                       ("as PIC, 0 or 100", 3.0), ("as PIC, 0 or 100", 8.0),
                       ("as ADP, between 0 and 100", 5.0), ("as ADP, but alike", 0.5)):  # fmt: skip
        draw, reach = KINDS[name]
        leads = np.array([lead, 0.0])
        many = draw(np.random.default_rng([5]), leads, 400_000)
        difference = many[0] - many[1]
        fixed = forecast.fixed_size(difference.mean(), difference.std(), level)
        generator, most = np.random.default_rng([6]), int(4 * fixed) + 200
        drawn = (draw(generator, leads, most) for _ in range(fewer))
        share = np.stack([(1 + (scores[0] - scores[1]) / reach) / 2 for scores in drawn])
        counts = [_median_first(by(share, level)) for by in (by_grid, by_hedged, by_bernstein)]
        yield [f"{name}, lead {difference.mean():.2f}", f"{fixed:,.0f}", *counts, f"{_number(counts[0]) / fixed:.2f}"]


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("above ", ""))


def _median_first(passed: Floats) -> str:
    """The median image at which a sequence first decides."""
    never = ~(passed >= 0).any(axis=1)
    first = np.where(never, passed.shape[1], 1 + (passed >= 0).argmax(axis=1))
    middle = float(np.median(first))
    return f"above {middle:,.0f}" if never.mean() > 0.5 else f"{middle:,.0f}"


def ahead() -> Iterator[list[str]]:
    """The images that leads take at Table 1's level with the spreads of stored rows, and in brackets the fixed size."""
    level = ALPHA / TABLE1
    for name, (spread, reach) in SPREADS.items():
        cells = []
        for lead in LEADS:
            gains = forecast.growth_of(lead / reach, spread / reach)
            counts = (forecast.images_needed(gains, level), forecast.fixed_size(lead, spread, level))
            cells.append("{} ({})".format(*(f"{n:,.0f}" if n <= 50_000 else "not decided" for n in counts)))
        yield [name, f"{spread:.1f}", *cells]


def _table(header: Sequence[str], rows: Iterator[list[str]], left: int = 1) -> str:
    rule = [":--"] * left + ["--:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def simulated(runs: int) -> str:
    """All tables as Markdown."""
    pairs = METHODS * (METHODS - 1) // 2
    parts = [
        f"Runs with any wrong verdict, in %, of {runs:,} runs over {IMAGES:,} images with a look after every image, at "
        f"alpha 5 %: one pair of equal methods; all {pairs} pairs of {METHODS} equal ones; of {METHODS} whose means "
        "differ by .1 points from one to the next (a verdict for the worse one is wrong); and one pair whose means "
        "over these very images are equal, drawn without replacement.",
        _table(["scores", "one pair", f"{pairs} pairs", "near null", "without replacement"], families(runs)),
        "One pair of equal methods at looks up to the last image, in % of runs with a verdict, at alpha 5 %:",
        _table(["score", "runs", "200 images, one look", "800 images, three looks"], looks(runs)),
        f"Median images until a lead is decided at alpha = .05 / {TABLE1} (Table 1: 66 pairs, 8 metrics), {runs // 20} "
        "runs, by confidence sequence: bets on a grid (what is used), hedged capital with predictable plug-in bets, "
        "and empirical Bernstein (all Waudby-Smith and Ramdas 2023); fixed size: a test of 80 % power at that level.",
        _table(["scores", "fixed size", "grid", "plug-in", "Bernstein", "grid / fixed"], sizes(runs)),
        "Images of 50,000 that a comparison of Table 1 takes by lead in points at the same level, and in brackets the "
        f"fixed size. {SPREADS_OF}",
        _table(["metric", "spread", *(f"lead {lead:g}" for lead in LEADS)], ahead()),
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Print the tables, and put them into docs/statistics.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    text = simulated(parser.parse_args().runs)
    print(text)
    marks = re.compile(r"(<!-- simulated while running -->\n).*?(<!-- end of simulated while running -->)", re.DOTALL)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
