"""What a leaderboard says: for each block and over all, every run's methods with ranks, groups, scores and costs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dix.bench.share.collection import BADGES, Collection, Entry
from dix.bench.share.printed import Printed
from dix.bench.tables import paper
from dix.bench.tables.ranks import ranks
from dix.bench.tables.samples import Block, Key
from dix.bench.tables.standings import Standing, combined, standings
from dix.bench.tables.table import Labels, Table, TableCell
from dix.text import told_apart

#: Columns of the file with everything.
COLUMNS = (
    "protocol", "dataset", "model", "run", "badge", "method", "metric", "score", "low", "high", "n", "excluded",
    "rank", "mean_rank", "mean_rank_low", "mean_rank_high", "groups", "seconds_an_image", "sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One method of one run in a block.

    standing: None where the method is not ranked. cells: by metric. cost: seconds an image, NaN where nobody says.
    """

    method: str
    label: str
    role: str
    standing: Standing | None
    cells: Mapping[str, TableCell]
    cost: float = np.nan


@dataclass(frozen=True)
class Run:
    """One run, or one publication, in a block. entry: None for a publication. lines: best mean rank first."""

    name: str
    badge: str
    lines: tuple[Line, ...]
    entry: Entry | None = None


@dataclass(frozen=True)
class Sheet:
    """One block with all its runs. metrics: labels by name, with their directions."""

    block: Block
    metrics: Mapping[str, tuple[str, bool | None]]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Overall:
    """A protocol's methods over several blocks. blocks: how many each method is ranked in, of so many."""

    protocol: str
    badge: str
    standings: tuple[Standing, ...]
    blocks: Mapping[str, int]
    of: int


@dataclass(frozen=True)
class Board:
    """A whole leaderboard."""

    collection: Collection
    sheets: tuple[Sheet, ...]
    overall: tuple[Overall, ...]
    labels: Labels = field(default_factory=Labels)


def board(collection: Collection) -> Board:
    """Rank everything in a collection."""
    runs: dict[Block, list[Run]] = {}
    metrics: dict[Block, dict[str, tuple[str, bool | None]]] = {}
    for entry in collection.entries:
        table, block = entry.table, entry.block
        runs.setdefault(block, []).append(_run(entry))
        metrics.setdefault(block, {}).update(
            {m: (table.labels.metric(m), table.directions[m]) for m in _metrics(table)}
        )
    labels = Labels(methods={k: v for e in collection.entries for k, v in e.table.labels.methods.items()})
    labels = replace(labels, methods=told_apart({**Labels().methods, **labels.methods}))
    for one in collection.printed:
        for block in one.values:
            runs.setdefault(block, []).append(_printed_run(one, block, labels))
            known = metrics.setdefault(block, {})
            for metric, better in one.better.items():
                if any(metric in scores for scores in one.values[block].values()):
                    known.setdefault(metric, (one.labels[metric], better))
    order = sorted(runs, key=lambda block: (not _measured(runs[block]), block))
    sheets = tuple(Sheet(block, metrics[block], tuple(_best_first(runs[block]))) for block in order)
    return Board(collection, sheets, tuple(_overall(sheets)), labels)


def _measured(runs: Sequence[Run]) -> bool:
    return any(run.entry is not None for run in runs)


def _metrics(table: Table) -> tuple[str, ...]:
    return table.metrics_of(table.layout.blocks[0]) if table.layout.blocks else ()


def _best_first(runs: Sequence[Run]) -> list[Run]:
    """Runs of which more may be said, and then larger ones, first."""

    def key(run: Run) -> tuple[int, int, str]:
        images = 0 if run.entry is None else run.entry.about["images"]
        return -BADGES.index(run.badge), -images, "" if run.entry is None else run.entry.pack.digest

    return sorted(runs, key=key)


def _run(entry: Entry) -> Run:
    table, block, drawn = entry.table, entry.block, entry.ranks
    placed = {} if drawn is None else {one.method: one for one in standings(drawn, table.bootstrap.level)}
    methods = [*placed, *(name for name in table.methods_of(block) if name not in placed)]
    lines = [
        Line(
            name,
            table.labels.method(name),
            "ours" if name in table.proposed else "control" if name in table.controls else "",
            placed.get(name),
            {metric: table.cell(block, name, metric) for metric in table.metrics_of(block)},
            entry.costs.get(name, np.nan),
        )
        for name in methods
    ]
    return Run(entry.name, entry.badge, tuple(lines), entry)


def _printed_run(printed: Printed, block: Block, labels: Labels) -> Run:
    """A publication's values of a block, ranked; nothing tells how sure they are."""
    scores = printed.values[block]
    metrics = [m for m in printed.better if any(m in own for own in scores.values())]
    placed = {
        m: dict(zip(scores, ranks([own.get(m, np.nan) for own in scores.values()], printed.better[m]), strict=True))
        for m in metrics
    }
    lines = []
    for method, own in scores.items():
        places = [placed[m][method] for m in own]
        standing = Standing(method, float(np.mean(places)), np.nan, np.nan, len(places), ())
        empty = {m: TableCell(Key(block, method, m), "absent") for m in metrics}
        cells = {
            m: replace(empty[m], status="measured", value=v, rank=float(placed[m][method])) for m, v in own.items()
        }
        role = "ours" if method in paper.PROPOSED else ""
        lines.append(Line(method, labels.method(method), role, standing, {**empty, **cells}))
    return Run(printed.source, BADGES[0], tuple(sorted(lines, key=_mean_rank)))


def _mean_rank(line: Line) -> float:
    return np.inf if line.standing is None else line.standing.rank


def _overall(sheets: Sequence[Sheet]) -> Iterator[Overall]:
    """By protocol, the methods over all blocks, of each the run of which most may be said; and what is printed."""
    for protocol in sorted({sheet.block.protocol for sheet in sheets}):
        own = [sheet for sheet in sheets if sheet.block.protocol == protocol]
        measured = [run.entry for sheet in own for run in sheet.runs[:1] if run.entry is not None]
        parts = [entry.ranks for entry in measured if entry.ranks is not None]
        if parts:
            worst = min((entry.badge for entry in measured), key=BADGES.index)
            level = measured[0].table.bootstrap.level
            found = tuple(standings(combined(parts), level))
            yield Overall(protocol, worst, found, _counts([part.methods for part in parts]), len(parts))
        printed = [run for sheet in own for run in sheet.runs if run.entry is None]
        if printed:
            yield _overall_printed(protocol, printed)


def _counts(parts: Sequence[Sequence[str]]) -> dict[str, int]:
    return {name: sum(name in part for part in parts) for part in parts for name in part}


def _overall_printed(protocol: str, runs: Sequence[Run]) -> Overall:
    """The mean over blocks of each method's printed mean rank."""
    found: dict[str, list[Standing]] = {}
    for run in runs:
        for line in run.lines:
            if line.standing is not None:
                found.setdefault(line.method, []).append(line.standing)
    places = [
        Standing(name, float(np.mean([s.rank for s in own])), np.nan, np.nan, sum(s.lines for s in own), ())
        for name, own in found.items()
    ]
    counts = {name: len(own) for name, own in found.items()}
    return Overall(protocol, BADGES[0], tuple(sorted(places, key=lambda s: s.rank)), counts, len(runs))


def board_csv(found: Board) -> str:
    """Every score of a leaderboard, a line each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for sheet in found.sheets:
        for run in sheet.runs:
            for line in run.lines:
                writer.writerows(_csv_rows(sheet, run, line))
    return stream.getvalue()


def _csv_rows(sheet: Sheet, run: Run, line: Line) -> Iterator[list[object]]:
    place = line.standing
    ranked = [place.rank, place.low, place.high] if place else [np.nan] * 3
    groups = " ".join(map(str, place.groups)) if place else ""
    digest = "" if run.entry is None else run.entry.pack.digest
    for metric, cell in line.cells.items():
        if cell.status == "measured":
            names = [_inert(text) for text in (*sheet.block, run.name)]
            numbers = [cell.value, cell.low, cell.high, cell.n or "", sum(cell.excluded.values()) if cell.n else ""]
            own = [*names, run.badge, _inert(line.method), _inert(metric), *numbers, cell.rank, *ranked, groups]
            yield [_number(value) for value in (*own, line.cost, digest)]


def _inert(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _number(value: object) -> object:
    return f"{value:.10g}" if isinstance(value, float) and not np.isnan(value) else "" if value != value else value
