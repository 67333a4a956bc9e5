"""A results folder in Python: its rows, its table, two methods compared, and a picture of a metric."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dix.api.parts import folders
from dix.bench.report.styles import styles
from dix.bench.store.cells import NAMES
from dix.bench.store.results import ResultStore
from dix.bench.tables.build import build
from dix.bench.tables.pairwise import pairwise
from dix.bench.tables.samples import Block
from dix.bench.tables.table import Claim, Evidence, Plan, Table, TableCell
from dix.cli.evidence import evidence_of
from dix.cli.folders import results_folder
from dix.cli.report import joined, of_protocol, plans_of
from dix.cli.words import nearest

#: What names a line of a table.
LINE = ["protocol", "dataset", "model", "metric"]


def load_results(folder: str | Path, config_dir: str | Path | None = None) -> Results:
    """The results that a folder holds, whoever computed them; nothing in it is executed.

    Args:
        folder: Its path, or its name under results/.
        config_dir: A folder of your own configurations, for metrics that they name.

    Returns:
        The results, read when they are asked for.

    Raises:
        ValueError: There are no results.
    """
    return Results(results_folder(str(folder)), tuple(folders(config_dir)))


class Drawing(Figure):
    """A figure that a notebook shows."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=120, bbox_inches="tight")
        return stream.getvalue()


@dataclass(frozen=True)
class Results:
    """What a results folder holds.

    Attributes:
        folder: Where it is.
        folders: Folders of the user's own configurations.
        metrics: Objects of metrics that no file names.
    """

    folder: Path
    folders: tuple[Path, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """Tidy rows, one for each image and score.

        Returns:
            Columns protocol, dataset, model, method, metric, image and value; reason says why an image has no value;
            note holds remarks that do not exclude it.
        """
        rows = self._store.rows()
        return rows[[*NAMES, "image", "value", "reason", "note"]].rename_axis(None)

    def table(self) -> pd.DataFrame:
        """Scores, a line for each metric and a column for each method."""
        scores = self.scores()
        wide = scores.pivot(index=LINE, columns="method", values="value")
        return wide[[name for name in self._table.layout.methods if name in wide.columns]]

    def scores(self) -> pd.DataFrame:
        """The same, a row for each score, with the test against the best baseline.

        Returns:
            value with its 95 % interval (low, high), n images and rank; rival: the best baseline; lead, lead_low and
            lead_high: how much better than it; p: corrected for all tests.
        """
        return pd.DataFrame([_score(cell) for cell in self._table.with_status("measured")])

    def compare(self, first: str, second: str) -> pd.DataFrame:
        """Whether one method is better than another, a row for each metric, over the images that count for both.

        Args:
            first: A method's name, as in `table`.
            second: Another one.

        Returns:
            lead: how much better `first` is, positive in its favour, with its 95 % interval (low, high); p: of a
            sign-flip test that both score alike, corrected for all rows; verdict: better, worse, or undecided at this
            n.

        Raises:
            ValueError: A method is not in the results.
        """
        known = self._table.layout.methods
        for name in (first, second):
            if name not in known:
                raise ValueError(f"no method {name!r} in {self.folder}{nearest(name, known)}")
        pairs = [pairwise(of_protocol(self._evidence, name), plan, first, second) for name, plan in self._plans.items()]
        return pd.DataFrame([_comparison(claim) for claims in pairs for claim in claims])

    def plot(self, metric: str) -> Figure:
        """Every method's score with its interval, a panel for each protocol, data set and model.

        Args:
            metric: A metric's name, as in `table`.

        Returns:
            A Matplotlib figure, which a notebook shows.

        Raises:
            ValueError: The metric is not in the results.
        """
        known = self._table.layout.metrics
        if metric not in known:
            raise ValueError(f"no metric {metric!r} in {self.folder}{nearest(metric, known)}")
        cells = [cell for cell in self._table.with_status("measured") if cell.key.metric == metric]
        blocks = list(dict.fromkeys(cell.key.block for cell in cells))
        figure = Drawing(figsize=(4.2 * max(len(blocks), 1), 1 + 0.28 * len(cells)), layout="constrained")
        for place, block in zip(figure.subplots(1, len(blocks), squeeze=False)[0], blocks, strict=True):
            self._panel(place, block, [cell for cell in cells if cell.key.block == block])
        return figure

    def report(self) -> Path:
        """Write the tables and the page of `dix report`; the page's path."""
        from dix.cli.report import write

        write(self.folder, folders=self.folders)
        return self.folder / "index.html"

    def _panel(self, place: Any, block: Block, cells: list[TableCell]) -> None:
        labels = self._table.labels
        looks = styles(self._table.layout.methods, labels.colours)
        for row, cell in enumerate(reversed(cells)):
            width = [[max(0, cell.value - cell.low)], [max(0, cell.high - cell.value)]]
            spread = None if np.isnan(cell.low) else width
            colour = looks[cell.key.method].hexadecimal
            place.errorbar([cell.value], [row], xerr=spread, fmt="o", color=colour, markersize=4)
        place.set_yticks(range(len(cells)), [labels.method(cell.key.method) for cell in reversed(cells)], fontsize=8)
        way = {True: "higher is better", False: "lower is better", None: ""}[
            self._table.directions[cells[0].key.metric]
        ]
        place.set_xlabel(f"{labels.metric(cells[0].key.metric)} ({way})" if way else cells[0].key.metric, fontsize=8)
        place.set_title(f"{block.model}, {block.dataset}, {block.protocol}, n = {cells[0].n}", fontsize=8)

    @property
    def _store(self) -> ResultStore:
        return ResultStore(self.folder)

    @cached_property
    def _evidence(self) -> Evidence:
        return evidence_of(self._store)

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        """How each protocol's table is made; metrics that were given as objects know best how they reduce."""
        plans = plans_of(self._store, "", 0, self.folders)
        return {
            name: replace(plan, metrics={key: self.metrics.get(key, known) for key, known in plan.metrics.items()})
            for name, plan in plans.items()
        }

    @cached_property
    def _table(self) -> Table:
        return joined([build(of_protocol(self._evidence, name), plan) for name, plan in self._plans.items()])


def _names(block: Block, metric: str) -> dict[str, Any]:
    return {"protocol": block.protocol, "dataset": block.dataset, "model": block.model, "metric": metric}


def _score(cell: TableCell) -> dict[str, Any]:
    found = ("value", "low", "high", "n", "rank", "rival", "lead", "lead_low", "lead_high", "p")
    names = _names(cell.key.block, cell.key.metric) | {"method": cell.key.method}
    return names | {name: getattr(cell, name) for name in found}


def _comparison(claim: Claim) -> dict[str, Any]:
    found = ("lead", "low", "high", "n", "p", "verdict")
    names = _names(claim.block, claim.metric) | {"first": claim.better, "second": claim.worse}
    return names | {name: value for name, value in dataclasses.asdict(claim).items() if name in found}
