"""The page of a validation: one table of which metric can be trusted for what, then the numbers behind it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dix.bench.tables.samples import Summarised
from dix.bench.validate import judge
from dix.bench.validate.judge import LEVEL, ORDERED, Order, Ranked, Trial

#: What each ladder takes away, and the names of its steps, the method itself left out.
STEPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "noise": ("noise mixed in", ("25 %", "50 %", "75 %", "100 %")),
    "turned": ("map turned", ("45°", "90°", "135°", "180°")),
    "class": ("class swapped", ("half", "whole")),
    "layers": ("layers random", ("a tenth", "half", "all")),
}
INTRODUCTION = f"""\
Explainers are made worse in known steps, and each metric ranks the steps (docs/validation.md). **rho** is Spearman's
correlation of its scores with the known order (1 right, 0 none, -1 reversed; in brackets the central 95 % of 200
resamples of the images), **told apart** the smallest step that a paired test tells to be worse than the method itself
(level {LEVEL:g} for a ladder). In the first table *yes* means rho of at least {ORDERED:g} with the worst step told
apart on every network, *partly* on some, *no* on none; *misled* that on some network a step is told to be *better*
than the method itself.
"""


@dataclass(frozen=True)
class Validation:
    """What was found. metrics: by stored name, in the order of the tables. provenance: of the runs."""

    metrics: Mapping[str, Summarised]
    orders: Sequence[Order]
    rankings: Sequence[Ranked]
    provenance: Sequence[Mapping[str, Any]]

    @property
    def trials(self) -> list[Trial]:
        """Every network with its degraded method."""
        return list(dict.fromkeys(order.trial for order in self.orders))

    def judged(self) -> list[str]:
        """Metrics that were measured, those of the thesis first."""
        known = {order.metric for order in self.orders}
        names = [name for name in self.metrics if name in known]
        return sorted(names, key=lambda name: self.metrics[name].extra)

    def of(self, metric: str, ladder: str) -> list[Order]:
        """One order for each trial that has it."""
        return [order for order in self.orders if (order.metric, order.ladder) == (metric, ladder)]


def verdict(found: Sequence[Order]) -> str:
    """Whether a metric can be trusted for what a ladder takes away; "" where it was not measured."""
    if not found:
        return ""
    if any(order.misled for order in found):
        return "misled"
    kept = [order.kept for order in found]
    return "yes" if all(kept) else "partly" if any(kept) else "no"


def documents(validation: Validation) -> dict[str, str]:
    """The page and its numbers, by file name."""
    return {"validation.md": "\n".join(_page(validation)) + "\n", "orders.csv": _csv(validation)}


def _page(validation: Validation) -> Iterator[str]:
    yield "# Which metric can be trusted for what\n"
    yield INTRODUCTION
    yield from _runs(validation)
    yield from _summary(validation)
    for trial in validation.trials:
        yield from _details(validation, trial)


def _runs(validation: Validation) -> Iterator[str]:
    for record in validation.provenance:
        yield (
            f"- {record['model']} ({record['weights']}) on {record['dataset']}, protocol {record['protocol']}, "
            f"{record['method']} made worse, {record['images']} images; {record['machine']}"
        )
    yield ""


def _summary(validation: Validation) -> Iterator[str]:
    ladders = [text for text, _ in STEPS.values()]
    yield _line(["metric", *ladders, "images agree", "with other metrics", "networks agree"])
    yield _line(["---"] * (len(ladders) + 4))
    for name in validation.judged():
        mine = [ranked for ranked in validation.rankings if ranked.metric == name]
        images = _range([ranked.images for ranked in mine])
        others = _range([judge.with_the_others(validation.rankings, ranked) for ranked in mine])
        networks = _number(judge.between_trials(validation.rankings, name))
        verdicts = [verdict(validation.of(name, ladder)) for ladder in STEPS]
        yield _line([validation.metrics[name].label, *verdicts, images, others, networks])
    yield (
        "\n*images agree*: Krippendorff's alpha of the images' own rankings of all steps, least and greatest of the "
        "networks. *with other metrics*: Spearman's correlation with the mean ranking of the other metrics. *networks "
        "agree*: Krippendorff's alpha of the networks' rankings.\n"
    )


def _details(validation: Validation, trial: Trial) -> Iterator[str]:
    block = trial.block
    agreement = _number(judge.between_metrics(validation.rankings, trial))
    yield f"## {block.model} on {block.dataset}, {trial.base} made worse\n"
    yield f"Krippendorff's alpha between the metrics: {agreement}.\n"
    yield _line(["metric", "n", *(word for text, _ in STEPS.values() for word in (text, "told apart"))])
    yield _line(["---"] * (2 + 2 * len(STEPS)))
    for name in validation.judged():
        mine = {order.ladder: order for order in validation.orders if (order.trial, order.metric) == (trial, name)}
        if mine:
            cells = [word for ladder in STEPS for word in _cells(mine.get(ladder))]
            counts = {order.n for order in mine.values()}
            yield _line([validation.metrics[name].label, "-".join(map(str, sorted(counts))), *cells])
    yield ""


def _cells(order: Order | None) -> tuple[str, str]:
    """The correlation with its interval, and the smallest step told apart; steps that look better are named."""
    if order is None:
        return "", ""
    names = STEPS[order.ladder][1]
    better = [name for name, sign in zip(names, order.apart, strict=True) if sign < 0]
    smallest = names[order.resolution - 1] if order.resolution else "none"
    rho = f"{order.rho:.2f} [{order.low:.2f}, {order.high:.2f}]"
    return rho, smallest + (f"; better: {', '.join(better)}" if better else "")


def _csv(validation: Validation) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["model", "dataset", "protocol", "method", "metric", "ladder", "n", "rho", "low", "high", "apart"])
    for order in validation.orders:
        block, numbers = order.trial.block, (order.rho, order.low, order.high)
        names = (block.model, block.dataset, block.protocol, order.trial.base, order.metric, order.ladder)
        apart = " ".join(map(str, order.apart))
        writer.writerow([*names, order.n, *(f"{number:.4f}" for number in numbers), apart])
    return stream.getvalue()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _range(values: Sequence[float]) -> str:
    """The least and the greatest, or the one value."""
    there = [value for value in values if not math.isnan(value)]
    ends = dict.fromkeys([_number(float(np.min(there))), _number(float(np.max(there)))]) if there else {}
    return " to ".join(ends)
