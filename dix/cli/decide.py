"""`dix decide`: when stored rows would have decided, had images come in a random order, beside what all of them say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from dix.bench.report.markdown import markdown_escape, markdown_table
from dix.bench.report.notes import decimals
from dix.bench.report.verdicts import held_table
from dix.bench.store.results import ResultStore
from dix.bench.tables import forecast, samples
from dix.bench.tables.choices import CHOICES, Roles, comparisons
from dix.bench.tables.decide import Held, held, needed, replayed
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.sequential import Family, Rule, bounds_of
from dix.bench.tables.table import Plan
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of
from dix.cli.report import plans_of, shown
from dix.datasets.subset import random_order
from dix.files import write_atomic

#: Leads, in points, of which it is said how many images they take.
LEADS = (0.2, 0.5, 1.0, 3.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results, and the settings that `dix run run.until=decided` would have."""
    parser.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    parser.add_argument("--alpha", type=float, default=0.05, help="as run.alpha (default .05)")
    parser.add_argument("--least", type=int, default=25, help="as run.least (default 25)")
    parser.add_argument("--compare", choices=sorted(CHOICES), default="pairs", help="as run.compare (default pairs)")
    parser.add_argument("--order", type=int, default=0, metavar="SEED", help="as run.order (default 0)")
    parser.add_argument("--metrics", default="", metavar="NAMES", help="only these, separated by commas")
    parser.add_argument("--images", type=int, default=50_000, metavar="N", help="forecast for so many (default 50,000)")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the page and keep it as decisions.md in the folder; 1 where a verdict contradicts that of all images."""
    if not 0 < arguments.alpha < 1 or arguments.least < 2:
        raise ValueError("dix decide: expected --alpha between 0 and 1 and --least of at least 2")
    folder = results_folder(arguments.results)
    store = ResultStore(folder)
    plans = plans_of(store, "", 0, folders_of(arguments))
    stored = samples.stored(store)
    parts, wrong = ["# Decided while running"], 0
    for block in dict.fromkeys(key.block for key in stored):
        family = _family(block, stored, plans[block.protocol], arguments)
        if family.comparisons:
            found = held(family, block, stored, arguments.alpha)
            wrong += sum(one.contradicts for one in found)
            parts += _section(block, family, found, plans[block.protocol], arguments)
    text = shown("\n\n".join(parts) + "\n")
    print(text)
    write_atomic(folder / "decisions.md", text)
    print(folder / "decisions.md")
    return 1 if wrong else 0


def _family(block: Block, stored: Mapping[Key, Sample], plan: Plan, arguments: argparse.Namespace) -> Family:
    """The comparisons of a block, followed over all its images in a random order."""
    keys = [key for key in stored if key.block == block]
    ids = sorted({image for key in keys for image in stored[key].images})
    order = random_order(block.dataset, ids, arguments.order)
    wanted = {name: plan.metrics[name] for name in arguments.metrics.split(",") if name} or plan.metrics
    present = {name: metric for name, metric in wanted.items() if any(key.metric == name for key in keys)}
    methods = sorted({key.method for key in keys})
    roles = Roles(plan.proposed, plan.claimed, plan.controls)
    chosen = comparisons(arguments.compare, methods, present, roles)
    rule = Rule(arguments.alpha / max(1, len(chosen)), arguments.least, len(ids))
    family = replayed(block, stored, present, chosen, rule, {ids[index]: place for place, index in enumerate(order)})
    family.follow()
    return family


def _section(
    block: Block, family: Family, found: Sequence[Held], plan: Plan, arguments: argparse.Namespace
) -> Iterator[str]:
    cells = needed(family)
    rows = 100 * sum(cells.values()) / (len(cells) * family.rule.length)
    ahead = [one for one in found if one.verdict.winner and not one.winner]
    yield f"## {markdown_escape(', '.join(block))}"
    yield (
        f"{family.rule.length:,} images in the random order of seed {arguments.order}; {len(found)} comparisons "
        f"({arguments.compare}) at alpha {arguments.alpha:g} together, {family.rule.level:.2g} each; nothing before "
        f"{arguments.least} images. decided: while running; by all images: the sign-flip test of all rows, corrected "
        "for the same comparisons; contradict: both decide, and not alike; images, fixed size, ratio: medians over "
        f"those decided while running; fixed size: what a test of {100 * forecast.POWER:g} % power at the level of one "
        "comparison needs for the lead over all images."
    )
    yield held_table(found, replace(plan.labels, metrics={n: metric.label for n, metric in plan.metrics.items()}))
    yield (
        f"{decimals(rows, 1)} % of the rows were needed. Decided while running and not by all images: {len(ahead)}, of "
        f"which {sum(_against(one, family) for one in ahead)} against the sign of the lead over all images."
    )
    yield f"Images needed by lead, with alpha over {len(found)} comparisons, of {arguments.images:,}:"
    yield _leads(family, found, arguments.images)


def _against(one: Held, family: Family) -> bool:
    """Whether a verdict speaks against the sign of the lead over all images."""
    higher = 1 if family.metrics[one.verdict.comparison.metric].higher_is_better else -1
    return (one.lead * higher > 0) != (one.verdict.winner == one.verdict.comparison.first)


def _leads(family: Family, found: Sequence[Held], most: int) -> str:
    """By metric: the images that a lead takes at the spread of these rows, and those of a test of fixed size."""
    header = ["Metric", "spread of an image's difference", *(f"lead {lead:g}" for lead in LEADS)]
    rows = []
    for metric in dict.fromkeys(one.verdict.comparison.metric for one in found):
        bounds = bounds_of(family.metrics[metric])
        spread = median(one.spread for one in found if one.verdict.comparison.metric == metric)
        if bounds is not None:
            reach = bounds[1] - bounds[0]
            cells = (_lead(lead / reach, spread / reach, family.rule.level, most) for lead in LEADS)
            rows.append([family.metrics[metric].label, decimals(spread), *cells])
    return markdown_table(header, rows, 1)


def _lead(lead: float, spread: float, level: float, most: int) -> str:
    """Images until decided, and in brackets those of the fixed size."""
    counts = (
        forecast.images_needed(forecast.growth_of(lead, spread), level),
        forecast.fixed_size(lead, spread, level),
    )
    texts = [f"{count:,.0f}" if count <= most else f"above {most:,}" for count in counts]
    return f"{texts[0]} ({texts[1]})"
