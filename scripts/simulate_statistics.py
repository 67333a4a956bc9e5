"""Simulate how often the intervals of tables cover, and how often their tests cry wolf; rewrite docs/statistics.md.

`python scripts/simulate_statistics.py` prints the tables and puts them between the marks of docs/statistics.md;
`--runs N` draws N data sets for each line (default 300; a fifth of it where a data set takes long: about two minutes
on one core). Seeds are fixed: the same numbers every time.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from dix.bench.tables import signflip, statistics
from dix.bench.tables.statistics import Bootstrap, Column, Draws, Floats
from dix.metrics.api import mean_summary
from dix.metrics.summaries import ratios

PAGE = Path(__file__).resolve().parent.parent / "docs" / "statistics.md"
SIZES = (25, 100, 1000)
LEVEL = 0.95
#: Resamples of an interval and flips of a test: fewer than tables take, which widens what is seen, if anything.
QUICK = Bootstrap(resamples=1000, flips=999)
#: Data sets that share their resamples, to be quick.
TOGETHER = 50

Draw = Callable[[np.random.Generator, int], Floats]

#: Populations of images' scores in percent, with their means.
MEANS: dict[str, tuple[Draw, float]] = {
    "bell (normal, sd 10)": (lambda g, n: g.normal(50, 10, n), 50.0),
    "U-shaped (beta .4, .4)": (lambda g, n: 100 * g.beta(0.4, 0.4, n), 50.0),
    "U-shaped, mostly low (beta .3, .9)": (lambda g, n: 100 * g.beta(0.3, 0.9, n), 25.0),
    "skewed (exponential)": (lambda g, n: g.exponential(10, n), 10.0),
    "heavy tail (log-normal, sigma 1)": (lambda g, n: 10 * g.lognormal(0, 1, n), 10 * np.exp(0.5)),
}


def proportions() -> Iterator[list[str]]:
    """Coverage of a share p of n images for p = .02, .04, ..., .98, by enumeration: exact and Wilson's."""
    shares = np.arange(0.02, 0.985, 0.02)
    for n in (10, *SIZES):
        values = [np.where(np.arange(n) < k, 100.0, 0.0) for k in range(n + 1)]
        exact = np.array([statistics.exact_proportion(value, LEVEL) for value in values]) / 100
        wilson = np.array([stats.binomtest(k, n).proportion_ci(LEVEL, method="wilson") for k in range(n + 1)])
        cells = []
        for bounds in (exact, wilson):
            inside = (bounds[:, :1] <= shares) & (shares <= bounds[:, 1:])
            covered = (inside * stats.binom.pmf(np.arange(n + 1)[:, None], n, shares)).sum(axis=0)
            cells += [f"{100 * covered.mean():.1f}", f"{100 * covered.min():.1f}"]
        yield [str(n), *cells]


def coverage(columns: Sequence[Column], truth: float) -> float:
    """The share of data sets whose interval holds the truth."""
    chunks = [columns[start : start + TOGETHER] for start in range(0, len(columns), TOGETHER)]
    found = [
        interval
        for seed, chunk in enumerate(chunks)
        for interval in statistics.intervals(chunk, Bootstrap(QUICK.resamples, LEVEL, seed))
    ]
    return float(np.mean([interval.low <= truth <= interval.high for interval in found]))


def mean_column(value: Floats) -> Column:
    """A score that is the mean of its images."""
    return Column(value, partial(mean_summary, value))


def alternatives(runs: int) -> Iterator[list[str]]:
    """Coverage and mean width of other intervals of a mean of 25 images, beside the one that is used."""
    rare: tuple[Draw, float] = (lambda g, n: np.where(g.random(n) < 0.1, 90.0, 5.0 * g.integers(0, 2, n)), 11.25)
    chosen = {name: MEANS[name] for name in list(MEANS)[2:]} | {"rare jumps (90 in a tenth of the images)": rare}
    for name, (draw, truth) in chosen.items():
        generator = np.random.default_rng(7)
        columns = [mean_column(one) for one in (draw(generator, 25) for _ in range(runs)) if np.ptp(one)]
        found: list[list[tuple[float, float]]] = [[], [], []]
        for seed, start in enumerate(range(0, len(columns), TOGETHER)):
            bootstrap, chunk = Bootstrap(QUICK.resamples, LEVEL, seed), columns[start : start + TOGETHER]
            counts = next(statistics.resample_counts(25, bootstrap))
            found[0] += [(one.low, one.high) for one in statistics.intervals(chunk, bootstrap)]
            found[1] += [bootstrap_t(column.value, counts) for column in chunk]
            found[2] += [hall(column.value) for column in chunk]
        cells = []
        for bounds in found:
            low, high = np.array(bounds).T
            cells.append(f"{100 * np.mean((low <= truth) & (truth <= high)):.1f} ({np.mean(high - low):.1f})")
        yield [name, *cells]


def bootstrap_t(value: Floats, counts: statistics.Weights) -> tuple[float, float]:
    """The interval from resampled t statistics (Efron 1981); resamples of one value are left out."""
    n = len(value)
    mean = counts @ value / n
    spread = np.sqrt(np.maximum(counts @ value**2 / n - mean**2, 0))
    drawn = (mean - value.mean())[spread > 1e-9] / spread[spread > 1e-9]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * value.std()
    return float(value.mean() - high), float(value.mean() - low)


def hall(value: Floats) -> tuple[float, float]:
    """Student's interval after a monotone transformation that removes skewness (P. Hall 1992)."""
    n, error = len(value), value.std(ddof=1) / np.sqrt(len(value))
    skew = stats.skew(value) / np.sqrt(n)
    reach = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.array([1, -1])
    turned = reach if abs(skew) < 1e-9 else 3 / skew * (np.cbrt(1 + skew * (reach - skew / 6)) - 1)
    low, high = value.mean() - turned * error
    return float(low), float(high)


def ratio_parts(generator: np.random.Generator, n: int) -> Floats:
    """Intersection and union [n, 2] of objects whose sizes differ by an order of magnitude; larger ones fit better."""
    size = generator.lognormal(0, 0.8, n)
    fit = generator.beta(4 * size / (1 + size) + 0.5, 2, n)
    return np.stack([size * fit, size], axis=1)


def ratio_column(parts: Floats) -> Column:
    """A score that is a ratio of sums, in percent."""

    def summary(value: Floats, parts: Floats, _: Floats) -> statistics.Reduce:
        def reduce(weights: statistics.Weights | None = None) -> Floats:
            return np.asarray(100 * ratios(value, parts, weights)[:, 0])

        return reduce

    value = 100 * parts[:, 0] / parts[:, 1]
    return Column(value, summary(value, parts, value), parts=parts, summary=summary)


def curves(generator: np.random.Generator, n: int) -> Floats:
    """Predictions [n, 21] over even steps of information, each of which jumps somewhere, as SIC sees them."""
    place, top = generator.beta(2, 3, (n, 1)), generator.beta(4, 1, (n, 1))
    return top / (1 + np.exp(-(np.linspace(0, 1, 21) - place) / 0.05))


def median_column(curve: Floats) -> Column:
    """A score that is the area under the median curve, in percent, read at 21 points where tables read 1,001."""
    order = np.argsort(curve, axis=0)
    ranked = np.take_along_axis(curve, order, axis=0)

    def area(counts: Floats) -> float:
        below = counts[order].cumsum(axis=0)
        places = ((below < below[-1] / 2).sum(axis=0), (below <= below[-1] / 2).sum(axis=0))
        low, high = (np.take_along_axis(ranked, place[None], axis=0)[0] for place in places)
        return float(100 * np.trapezoid((low + high) / 2, dx=1 / 20))

    def reduce(weights: statistics.Weights | None = None) -> Floats:
        return np.array([area(row) for row in (np.ones((1, len(curve))) if weights is None else weights)])

    return Column(100 * curve.mean(axis=1), reduce)


def covered(runs: int) -> Iterator[list[str]]:
    """Coverage of means, of a ratio of sums and of an area under a median curve, by n."""
    for name, (draw, truth) in MEANS.items():
        make = [partial(draw, np.random.default_rng([1, n])) for n in SIZES]
        shares = [coverage([mean_column(f(n)) for _ in range(runs)], truth) for f, n in zip(make, SIZES, strict=True)]
        yield [f"mean, {name}", *(f"{100 * share:.1f}" for share in shares)]
    many = ratio_parts(np.random.default_rng(2), 4_000_000).sum(axis=0)
    yield ["ratio of sums, sizes log-normal", *_covered(ratio_parts, ratio_column, 100 * many[0] / many[1], runs)]
    area = median_column(curves(np.random.default_rng(3), 200_000)).reduce(None)[0]
    fewer = max(1, runs // 5)  # an area takes a hundred times as long as a mean
    yield ["area under the median curve", *_covered(curves, median_column, float(area), fewer)]


def _covered(draw: Draw, column: Callable[[Floats], Column], truth: float, runs: int) -> list[str]:
    shares = []
    for n in SIZES:
        generator = np.random.default_rng([4, n])
        shares.append(coverage([column(draw(generator, n)) for _ in range(runs)], truth))
    return [f"{100 * share:.1f}" for share in shares]


def drawn(value: Floats) -> Draws:
    """A mean as tests need it, without the resamples that only intervals need."""
    n = len(value)
    return Draws(value.mean(), value, (value.sum() - value) / (n - 1), True, value)


def exchangeable(name: str, generator: np.random.Generator, k: int, n: int) -> Floats:
    """Scores [k, n] of k methods none of which is better, on images of their own difficulty."""
    image = generator.uniform(20, 60, n)
    kinds = {
        "bell": lambda: image + generator.normal(0, 10, (k, n)),
        "skewed": lambda: image + generator.exponential(10, (k, n)),
        "binary": lambda: 100.0 * (generator.uniform(0, 100, (k, n)) < image),
    }
    return np.asarray(kinds[name](), dtype=float)


def wrong_table(lines: Sequence[Sequence[Draws]]) -> bool:
    """Whether any method of any line differs from the line's best one with a corrected p < .05."""
    pairs = [(a, b) for b in range(len(lines[0])) for a in range(b)]
    maxima = np.max([signflip.largest(line, pairs, QUICK) for line in lines], axis=0)
    for line in lines:
        best = max(line, key=lambda one: one.estimate)
        tests = [signflip.paired_test(one, best, QUICK) for one in line if one is not best]
        strongest = max(tests, key=lambda test: abs(test.strength))
        if signflip.corrected(strongest, maxima) < 1 - LEVEL:
            return True
    return False


def family(runs: int) -> Iterator[list[str]]:
    """The share of null tables (4 metrics, 2 models, 25 images) with any corrected p < .05, for 12 and 26 methods."""
    for name in ("bell", "skewed", "binary"):
        cells = []
        for k in (12, 26):
            generator = np.random.default_rng([5, k])
            wrong = [
                wrong_table([[drawn(v) for v in exchangeable(name, generator, k, 25)] for _ in range(8)])
                for _ in range(runs)
            ]
            cells.append(f"{100 * np.mean(wrong):.1f}")
        yield [name, *cells]


def single(runs: int) -> Iterator[list[str]]:
    """The share of uncorrected p < .05 of one pair of methods none of which is better."""
    makes: dict[str, Callable[[np.random.Generator, int], tuple[Column, Column]]] = {
        "means, bell": lambda g, n: _pair(mean_column, exchangeable("bell", g, 2, n)),
        "means, differences skewed (exponential - 1)": lambda g, n: _pair(
            mean_column, np.stack([g.exponential(10, n) + 40, np.full(n, 50.0)])
        ),
        "binary": lambda g, n: _pair(mean_column, exchangeable("binary", g, 2, n)),
        "ratio of sums": lambda g, n: _pair(ratio_column, _two_ratios(g, n)),
        "area under the median curve": lambda g, n: _pair(median_column, [curves(g, n), curves(g, n)]),
    }
    for name, make in makes.items():
        cells = []
        for n in (25, 100):
            generator = np.random.default_rng([6, n])
            tries = max(1, runs // 5) if "median" in name else runs
            wrong = [_p(make(generator, n)) < 1 - LEVEL for _ in range(tries)]
            cells.append(f"{100 * np.mean(wrong):.1f}")
        yield [name, *cells]


def _pair(column: Callable[[Floats], Column], both: Sequence[Floats] | Floats) -> tuple[Column, Column]:
    return column(both[0]), column(both[1])


def _two_ratios(generator: np.random.Generator, n: int) -> list[Floats]:
    """Two methods' intersections over the same unions, drawn alike."""
    first = ratio_parts(generator, n)
    size = first[:, 1]
    return [first, np.stack([size * generator.beta(4 * size / (1 + size) + 0.5, 2, n), size], axis=1)]


def _p(both: tuple[Column, Column]) -> float:
    draws = statistics.resample(both, Bootstrap(resamples=200))
    return signflip.paired_test(draws[0], draws[1], QUICK).p


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> str:
    rule = [":--"] + ["--:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def simulated(runs: int) -> str:
    """All tables as Markdown."""
    sizes = [f"n = {n}" for n in SIZES]
    parts = [
        "Shares of images, % covered over p = .02, .04, ..., .98, enumerated (nothing is drawn):",
        _table(["n", "exact, average", "exact, minimum", "Wilson, average", "Wilson, minimum"], proportions()),
        f"Other scores, % of {runs} data sets whose 95 % interval covers ({max(1, runs // 5)} for areas, "
        "which are read at 21 points where tables read 1,001):",
        _table(["score", *sizes], covered(runs)),
        f"Intervals that were tried for skewed means and not taken, n = 25, % of {runs} covered (mean width):",
        _table(["score", "BCa, as used", "bootstrap t", "Hall's transformed t"], alternatives(runs)),
        f"One pair of equal methods, % of {runs} data sets with an uncorrected p < .05:",
        _table(["score", "n = 25", "n = 100"], single(runs)),
        f"Tables of exchangeable methods (4 metrics, 2 models, 25 images), % of {max(1, runs // 5)} with any "
        "corrected p < .05:",
        _table(["scores", "12 methods", "26 methods"], family(max(1, runs // 5))),
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Print the tables, and put them into docs/statistics.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    text = simulated(parser.parse_args().runs)
    print(text)
    marks = re.compile(r"(<!-- simulated -->\n).*?(<!-- end of simulated -->)", re.DOTALL)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
