"""A table: every cell with its uncertainty, its place among the methods, and its distance from the thesis's value.

`build` reduces stored rows. A *line* is one metric of one block (protocol, data set, model): its methods are ranked
and tested against the best baseline. A *claim* is the thesis's order of two methods in one line, and gets a verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from dix.bench.tables import paper, samples, statistics
from dix.bench.tables.samples import Block, Derived, Key, Sample, Summarised
from dix.bench.tables.statistics import Bootstrap, Draws, Interval, Paired

#: What is asked for and possible but not stored is missing; what nobody asked for is absent.
Status = Literal["measured", "skipped", "missing", "absent"]
Skip = tuple[str, str, str, str, str]

CONFIRMED = "confirmed"
REFUTED = "not confirmed"
UNDECIDED = "undecided at this n"
INCOMPARABLE = "not comparable"
UNMEASURED = "not measured"
VERDICTS = (CONFIRMED, REFUTED, UNDECIDED, INCOMPARABLE, UNMEASURED)


class Layout(NamedTuple):
    """The blocks, columns (methods) and lines (metrics) that a table has, in its order."""

    blocks: tuple[Block, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Printed names; a name without a label prints as it is."""

    methods: Mapping[str, str] = field(default_factory=lambda: dict(paper.METHOD_LABELS))
    models: Mapping[str, str] = field(default_factory=lambda: dict(paper.MODEL_LABELS))
    datasets: Mapping[str, str] = field(default_factory=lambda: dict(paper.DATASET_LABELS))
    metrics: Mapping[str, str] = field(default_factory=dict)

    def method(self, name: str) -> str:
        """The method's printed name."""
        return self.methods.get(name, name)

    def model(self, name: str) -> str:
        """The model's printed name."""
        return self.models.get(name, name)

    def dataset(self, name: str) -> str:
        """The data set's printed name."""
        return self.datasets.get(name, name)

    def metric(self, name: str) -> str:
        """The metric's printed name."""
        return self.metrics.get(name, name)


@dataclass(frozen=True)
class Evidence:
    """What the store holds.

    rows: one row for each (cell, image) with the columns `samples.COLUMNS`, or what `samples.stored` reads. cells: the
    stored cells' names and identities. skips: (model, data set, method, metric, reason) of impossible cells, "*" as a
    name stands for all.
    provenance: what the numbers depend on besides, printed with them. The tables know the keys `weights` and
    `incomparable` (a text by model; `incomparable` also by data set: why its values must not be held against the
    thesis's), `protocol` (choices by protocol), `images`, `machine`, `versions` and `cost`; others are printed too.
    """

    rows: pd.DataFrame | Mapping[Key, Sample]
    cells: Sequence[Mapping[str, Any]] = ()
    skips: Sequence[Skip] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a table shows and how it compares.

    metrics: by name; derived ones too. layout: None shows whatever is stored or skipped. printed: the thesis's values
    by (model, data set, method, metric). proposed: the variants of the proposed method, which are no baselines.
    claimed: those of them whose lead is claimed. controls: rows that are shown but neither ranked nor compared.
    """

    metrics: Mapping[str, Summarised]
    title: str = ""
    labels: Labels = field(default_factory=Labels)
    layout: Layout | None = None
    printed: Mapping[tuple[str, str, str, str], float] = field(default_factory=paper.lookup)
    proposed: Sequence[str] = paper.PROPOSED
    claimed: Sequence[str] = paper.CLAIMED
    controls: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """One method's score on one line.

    value, low, high: the score and its interval. n: images that count; excluded: how many do not, by reason.
    flagged: how many have a remark, by remark (a constant map, for one).
    note: why there is no interval. printed: the thesis's value (NaN: none); difference: value - printed; outside:
    the thesis's value is outside the interval. rank: 1 is best; p: Holm-corrected, against the best baseline `rival`.
    reason: why the cell is skipped or its value must not be held against the thesis's.
    """

    key: Key
    status: Status = "missing"
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    printed: float = np.nan
    difference: float = np.nan
    outside: bool = False
    best: bool = False
    second: bool = False
    rank: float = np.nan
    p: float = np.nan
    rival: str = ""
    reason: str = ""
    flagged: Mapping[str, int] = field(default_factory=dict)


class MeanRank(NamedTuple):
    """A method's mean rank over the lines of a block where it has one, of all ranked lines of the block."""

    mean: float
    lines: int
    of: int


@dataclass(frozen=True)
class Claim:
    """`better` scores better than `worse` on one line, and what was measured.

    printed: the lead in the thesis's table, positive; NaN for the general claim where the thesis has no values.
    lead, low, high: the measured lead and its interval, positive in favour. n: paired images.
    p: Wilcoxon's p-value, Holm-corrected over the line's claims.
    """

    block: Block
    metric: str
    better: str
    worse: str
    printed: float
    lead: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    p: float = np.nan
    verdict: str = UNMEASURED


@dataclass(frozen=True)
class Table:
    """All cells of a table with what is said about them; see `build`."""

    title: str
    layout: Layout
    labels: Labels
    directions: Mapping[str, bool | None]
    cells: Mapping[Key, Cell]
    mean_ranks: Mapping[tuple[Block, str], MeanRank]
    claims: tuple[Claim, ...]
    bootstrap: Bootstrap
    provenance: Mapping[str, Any]
    identities: Sequence[Mapping[str, Any]] = ()
    proposed: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

    def cell(self, block: Block, method: str, metric: str) -> Cell:
        """One cell."""
        return self.cells[Key(block, method, metric)]

    def line(self, block: Block, metric: str) -> tuple[Cell, ...]:
        """One metric of a block for all methods."""
        return tuple(self.cell(block, method, metric) for method in self.layout.methods)

    def with_status(self, status: Status) -> tuple[Cell, ...]:
        """All cells that are measured, skipped or missing."""
        return tuple(cell for cell in self.cells.values() if cell.status == status)

    def methods_of(self, block: Block) -> tuple[str, ...]:
        """The methods that a block has or should have."""
        return tuple(name for name in self.layout.methods if self._any(block, (name,), self.layout.metrics))

    def metrics_of(self, block: Block) -> tuple[str, ...]:
        """The metrics that a block has or should have."""
        return tuple(name for name in self.layout.metrics if self._any(block, self.layout.methods, (name,)))

    def _any(self, block: Block, methods: Sequence[str], metrics: Sequence[str]) -> bool:
        statuses = {self.cell(block, method, metric).status for method in methods for metric in metrics}
        return bool(statuses & {"measured", "missing"})


def thesis_layout(number: int, protocol: str = "thesis", more_metrics: Sequence[str] = ()) -> Layout:
    """The layout of the thesis's Table 1-5, with further metrics as more lines."""
    printed = paper.layout(number)
    blocks = tuple(Block(protocol, dataset, model) for dataset, model in printed.blocks)
    return Layout(blocks, printed.methods, printed.metrics + tuple(more_metrics))


@dataclass(frozen=True)
class _Measured:
    """A cell's score with what comparisons need; draws: None where fewer than two images count."""

    sample: Sample
    kept: tuple[str, ...]
    interval: Interval
    draws: Draws | None


@dataclass(frozen=True)
class _Context:
    """What building one block needs."""

    plan: Plan
    layout: Layout
    bootstrap: Bootstrap
    skips: Mapping[Key, str]
    incomparable: Mapping[str, str]

    def why_incomparable(self, block: Block) -> str:
        return self.incomparable.get(block.model) or self.incomparable.get(block.dataset) or ""

    def printed(self, block: Block, method: str, metric: str) -> float:
        return self.plan.printed.get((block.model, block.dataset, method, metric), np.nan)


def build(evidence: Evidence, plan: Plan, bootstrap: Bootstrap | None = None) -> Table:
    """Reduce stored rows to a table.

    Raises ValueError where a stored metric is unknown or an image has two rows in one cell.
    """
    bootstrap = bootstrap or Bootstrap()
    stored = samples.read(evidence.rows)
    stored |= samples.derive(stored, plan.metrics)
    layout = plan.layout or stored_layout(stored, evidence.skips, plan)
    unknown = sorted(set(layout.metrics) - set(plan.metrics))
    if unknown:
        raise ValueError(f"expected metrics among {sorted(plan.metrics)}, got {unknown}")
    skips = _skip_reasons(evidence.skips, layout, plan.metrics)
    context = _Context(plan, layout, bootstrap, skips, evidence.provenance.get("incomparable", {}))
    cells: dict[Key, Cell] = {}
    claims: list[Claim] = []
    for block in layout.blocks:
        measured = _measure(block, stored, context)
        for metric in layout.metrics:
            cells |= _line(block, metric, measured, context)
            claims += _claims(block, metric, measured, context)
    return Table(
        title=plan.title,
        layout=layout,
        labels=replace(plan.labels, metrics={name: metric.label for name, metric in plan.metrics.items()}),
        directions={name: plan.metrics[name].higher_is_better for name in layout.metrics},
        cells=cells,
        mean_ranks=_mean_ranks(cells, layout, plan.metrics),
        claims=tuple(claims),
        bootstrap=bootstrap,
        provenance=evidence.provenance,
        identities=evidence.cells,
        proposed=tuple(plan.proposed),
        controls=tuple(plan.controls),
    )


def stored_layout(stored: Iterable[Key], skips: Sequence[Skip], plan: Plan) -> Layout:
    """Whatever is stored, or skipped beside something stored; labelled names first, metrics in the plan's order."""
    keys = list(stored)
    datasets = _ordered((key.block.dataset for key in keys), plan.labels.datasets)
    models = _ordered((key.block.model for key in keys), plan.labels.models)
    blocks = sorted(
        {key.block for key in keys},
        key=lambda block: (block.protocol, datasets.index(block.dataset), models.index(block.model)),
    )
    methods = {key.method for key in keys} | {skip[2] for skip in skips if skip[2] != "*"}
    metrics = {key.metric for key in keys} | {skip[3] for skip in skips if skip[3] != "*"}
    return Layout(tuple(blocks), _ordered(methods, plan.labels.methods), _ordered(metrics, plan.metrics))


def _ordered(names: Iterable[str], order: Iterable[str]) -> tuple[str, ...]:
    present = set(names)
    known = [name for name in order if name in present]
    return tuple(known + sorted(present - set(known)))


def _skip_reasons(skips: Sequence[Skip], layout: Layout, metrics: Mapping[str, Summarised]) -> dict[Key, str]:
    """The reason for each skipped cell of the layout; a derived metric is skipped with its inputs."""
    reasons: dict[Key, str] = {}
    for block in layout.blocks:
        for method in layout.methods:
            for metric in layout.metrics:
                owner = metrics[metric]
                inputs = owner.inputs if isinstance(owner, Derived) else (metric,)
                for skip in skips:
                    if _covers(skip, block, method, inputs):
                        reasons.setdefault(Key(block, method, metric), skip[4])
    return reasons


def _covers(skip: Skip, block: Block, method: str, metrics: Sequence[str]) -> bool:
    names = zip(skip[:3], (block.model, block.dataset, method), strict=True)
    return all(mine in ("*", theirs) for mine, theirs in names) and (skip[3] == "*" or skip[3] in metrics)


def _measure(block: Block, stored: Mapping[Key, Sample], context: _Context) -> dict[Key, _Measured]:
    """All scores of a block; scores over the same images share their resamples."""
    groups: dict[tuple[str, ...], list[tuple[Key, Sample]]] = defaultdict(list)
    for method in context.layout.methods:
        for metric in context.layout.metrics:
            key = Key(block, method, metric)
            if key in stored:
                groups[stored[key].kept].append((key, stored[key]))
    measured = {}
    for kept, members in groups.items():
        columns = [sample.column(context.plan.metrics[key.metric]) for key, sample in members]
        few = len(kept) < 2
        drawn: list[Draws | None] = [None] * len(columns) if few else [*statistics.resample(columns, context.bootstrap)]
        for (key, sample), column, draws in zip(members, columns, drawn, strict=True):
            scored = (
                statistics.without_interval(column)
                if draws is None
                else statistics.interval(draws, len(kept), context.bootstrap.level)
            )
            measured[key] = _Measured(sample, kept, scored, draws)
    return measured


def _line(block: Block, metric: str, measured: Mapping[Key, _Measured], context: _Context) -> dict[Key, Cell]:
    """One metric of a block: every method's cell, ranked and compared with the best baseline."""
    keys = [Key(block, method, metric) for method in context.layout.methods]
    cells = {key: _cell(key, measured, context) for key in keys}
    direction = context.plan.metrics[metric].higher_is_better
    if direction is None:
        return cells
    ranked = _ranked(cells, direction, context.plan.controls)
    return _compared(ranked, measured, context.plan)


def _cell(key: Key, measured: Mapping[Key, _Measured], context: _Context) -> Cell:
    """One cell by itself, with its distance from the thesis's value."""
    printed = context.printed(key.block, key.method, key.metric)
    if key not in measured:
        reason = context.skips.get(key, "")
        status: Status = "skipped" if reason else "missing" if _asked(key, measured, context) else "absent"
        return Cell(key, status, printed=printed, reason=reason)
    scored, sample = measured[key].interval, measured[key].sample
    reason = "" if np.isnan(printed) else context.why_incomparable(key.block)
    return Cell(
        key,
        "measured",
        scored.value,
        scored.low,
        scored.high,
        scored.n,
        sample.excluded,
        scored.note,
        printed,
        scored.value - printed,
        outside=not reason and (printed < scored.low or printed > scored.high),
        reason=reason,
        flagged=sample.flagged,
    )


def _asked(key: Key, measured: Mapping[Key, _Measured], context: _Context) -> bool:
    """Whether a cell is missing: it is in the given layout, or its method and its metric are stored in its block."""
    if context.plan.layout is not None:
        return True
    return {key.method, key.metric} <= {name for other in measured for name in (other.method, other.metric)}


def _ranked(cells: Mapping[Key, Cell], higher_is_better: bool, controls: Sequence[str]) -> dict[Key, Cell]:
    """The cells with rank, best and second; controls take no part."""
    values = [np.nan if key.method in controls else cell.value for key, cell in cells.items()]
    ranks = statistics.ranks(values, higher_is_better)
    places = sorted({rank for rank in ranks if not np.isnan(rank)})
    first, second = (*places, np.nan, np.nan)[:2]
    return {
        key: replace(cell, rank=float(rank), best=bool(rank == first), second=bool(rank == second))
        for (key, cell), rank in zip(cells.items(), ranks, strict=True)
    }


def _compared(cells: Mapping[Key, Cell], measured: Mapping[Key, _Measured], plan: Plan) -> dict[Key, Cell]:
    """The ranked cells with their paired test against the best baseline, Holm-corrected over the line's methods."""
    baselines = [key for key, cell in cells.items() if key.method not in plan.proposed and not np.isnan(cell.rank)]
    if not baselines:
        return dict(cells)
    rival = min(baselines, key=lambda key: cells[key].rank)
    others = [key for key, cell in cells.items() if key != rival and not np.isnan(cell.rank)]
    p_values = statistics.holm([_paired(measured[key], measured[rival]).p for key in others])
    tested = {key: replace(cells[key], p=float(p), rival=rival.method) for key, p in zip(others, p_values, strict=True)}
    return {key: tested.get(key, cell) for key, cell in cells.items()}


def _paired(first: _Measured, second: _Measured) -> Paired:
    """The paired test over the images that count for both."""
    images = samples.common([first.kept, second.kept])
    return statistics.wilcoxon(*(_values(measured, images) for measured in (first, second)))


def _values(measured: _Measured, images: tuple[str, ...]) -> statistics.Floats:
    sample = measured.sample if measured.sample.images == images else measured.sample.only(images)
    return sample.value


def _claims(block: Block, metric: str, measured: Mapping[Key, _Measured], context: _Context) -> list[Claim]:
    """The thesis's claims on one line with their verdicts, Holm-corrected together."""
    claims = _claimed(block, metric, context)
    tests = [_test(claim, measured, context) for claim in claims]
    p_values = statistics.holm([paired.p for _, paired in tests])
    why = context.why_incomparable(block)
    level = context.bootstrap.level
    return [
        _judge(replace(claim, p=float(p)), paired, level, why)
        for (claim, paired), p in zip(tests, p_values, strict=True)
    ]


def _claimed(block: Block, metric: str, context: _Context) -> list[Claim]:
    """Each claimed method against each baseline: as printed, or as generally claimed where nothing is printed."""
    plan, owner = context.plan, context.plan.metrics[metric]
    if owner.higher_is_better is None or owner.extra:
        return []
    sign = 1.0 if owner.higher_is_better else -1.0
    rivals = [method for method in context.layout.methods if method not in (*plan.proposed, *plan.controls)]
    known = {(model, dataset) for model, dataset, _, _ in plan.printed}
    claims = []
    for ours in [method for method in context.layout.methods if method in plan.claimed]:
        for rival in rivals:
            lead = sign * (context.printed(block, ours, metric) - context.printed(block, rival, metric))
            general = (block.model, block.dataset) not in known
            if general or lead > 0:
                claims.append(Claim(block, metric, ours, rival, lead))
            elif lead < 0:
                claims.append(Claim(block, metric, rival, ours, -lead))
    return claims


def _test(claim: Claim, measured: Mapping[Key, _Measured], context: _Context) -> tuple[Claim, Paired]:
    """The claim with its measured lead and interval, and the paired test of its two methods."""
    better, worse = (measured.get(Key(claim.block, name, claim.metric)) for name in (claim.better, claim.worse))
    if better is None or worse is None:
        return claim, Paired(0, np.nan, 0)
    metric = context.plan.metrics[claim.metric]
    images = samples.common([better.kept, worse.kept])
    paired = _paired(better, worse)
    draws = _lead(better, worse, images, metric, context.bootstrap)
    if draws is None:
        lead, low, high = better.interval.value - worse.interval.value, np.nan, np.nan
    else:
        lead, (low, high) = draws.estimate, statistics.bca(draws, context.bootstrap.level)
    if not metric.higher_is_better:
        lead, low, high = -lead, -high, -low
        paired = replace(paired, sign=-paired.sign)
    return replace(claim, lead=lead, low=low, high=high, n=len(images)), paired


def _lead(
    better: _Measured, worse: _Measured, images: tuple[str, ...], metric: Summarised, bootstrap: Bootstrap
) -> Draws | None:
    """The draws of a difference of two scores, over the images that count for both."""
    if len(images) < 2:
        return None
    if better.kept == worse.kept and better.draws is not None and worse.draws is not None:
        return better.draws - worse.draws
    columns = [measured.sample.only(images).column(metric) for measured in (better, worse)]
    first, second = statistics.resample(columns, bootstrap)
    return first - second


def _judge(claim: Claim, paired: Paired, level: float, why_incomparable: str) -> Claim:
    """A verdict: decided only where the paired test and the interval of the lead agree on a direction."""
    if not paired.n:
        return claim
    decided = claim.p < 1 - level
    if why_incomparable:
        verdict = INCOMPARABLE
    elif decided and paired.sign > 0 and claim.low > 0:
        verdict = CONFIRMED
    elif decided and paired.sign < 0 and claim.high < 0:
        verdict = REFUTED
    else:
        verdict = UNDECIDED
    return replace(claim, verdict=verdict)


def _mean_ranks(
    cells: Mapping[Key, Cell], layout: Layout, metrics: Mapping[str, Summarised]
) -> dict[tuple[Block, str], MeanRank]:
    """Each method's mean rank over the block's lines, without extra metrics and lines that nobody has."""
    means = {}
    lines = [name for name in layout.metrics if not metrics[name].extra]
    for block in layout.blocks:
        ranked = {
            name: [cells[Key(block, method, name)].rank for method in layout.methods]
            for name in lines
            if any(not np.isnan(cells[Key(block, method, name)].rank) for method in layout.methods)
        }
        for position, method in enumerate(layout.methods):
            own = [rank[position] for rank in ranked.values() if not np.isnan(rank[position])]
            means[block, method] = MeanRank(float(np.mean(own)) if own else np.nan, len(own), len(ranked))
    return means
