"""Put the tables of docs/findings.md between their marks, from the tables that `make embedded` wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dix.cli.report import method_labels
from dix.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "findings.md"
EMBEDDED = ROOT / "results" / "embedded"
CNN, VIT, LENET = "efficientnet_lite0", "vit_small_embedded", "lenet5"
NETWORKS = {CNN: "EfficientNet-Lite0", VIT: "ViT-S/14", LENET: "LeNet-5"}
OURS = ("dix1", "dix2", "dix3")
THESIS = ("neg", "pos", "ins", "deletion", "adp", "pic", "sic", "aic", "pa", "map", "miou", "mf1")
EXPLANATION = THESIS[:8]
DIGITS = THESIS[:6]
SEGMENTATION = ("pa", "map", "miou", "mf1", "ap_object", "best_iou", "energy", "pointing")
GAME = ("localisation", "pointing", "energy")
READINGS = tuple(name + kind for name in ("dix2", "dix3") for kind in ("", "_signed", "_rect", "_released", "_raw"))
READ_BY = ("neg", "pos", "ins", "deletion", "adp", "ap_object", "energy")


class Measured:
    """The measured cells of one model on one data set."""

    def __init__(self, data: pd.DataFrame, model: str, dataset: str) -> None:
        own = data[(data["model"] == model) & (data["dataset"] == dataset) & (data["status"] == "measured")]
        self.cells = own.set_index(["method", "metric"]).sort_index()
        self.methods = list(dict.fromkeys(own["method"]))
        self.labels = method_labels()

    def has(self, metric: str) -> bool:
        """Whether a metric was measured."""
        return metric in self.cells.index.get_level_values("metric")

    def metric(self, name: str) -> str:
        """A metric's printed name."""
        one = self.cells.xs(name, level="metric").iloc[0]
        return str(one["label"]).removeprefix(f"{self.labels[str(one.name)]} ")

    def scores(self, metrics: Sequence[str], methods: Iterable[str] = ()) -> str:
        """Scores of methods, the lowest mean rank first; the best ranked one of a metric is bold.

        The mean is over the metrics that every ranked method has: ranks among few are lower than ranks among many.
        """
        each = self.cells["rank"].unstack("metric").reindex(columns=metrics)
        ranked = each[each.notna().any(axis=1)]
        ranks = each[ranked.columns[ranked.notna().all()]].mean(axis=1)
        known = [name for name in self.methods if any((name, m) in self.cells.index for m in metrics)]
        own = list(methods) or sorted(known, key=lambda name: (ranks.isna()[name], ranks[name], name))
        lines = [
            [self.labels[name], *(self._score(name, m) for m in metrics), _number(ranks[name])]
            for name in own
            if name in known
        ]
        return _table(["method", *map(self.metric, metrics), "mean rank"], lines)

    def leads(self, metrics: Sequence[str]) -> str:
        """By how much DIX leads the best baseline of each metric, with its interval; bold where that leaves out 0."""
        lines = []
        for metric in metrics:
            own = [self.cells.loc[(name, metric)] for name in OURS]
            rival = self.labels.get(str(own[0]["rival"]), "")
            lines.append([self.metric(metric), rival, *map(_lead, own)])
        return _table(["metric", "best baseline", *(self.labels[name] for name in OURS)], lines)

    def _score(self, method: str, metric: str) -> str:
        if (method, metric) not in self.cells.index:
            return "-"
        cell = self.cells.loc[(method, metric)]
        text = _number(cell["value"])
        return f"**{text}**" if cell["best"] == 1 else text


def verdicts(claims: pd.DataFrame) -> str:
    """How often the measured order is as the thesis says, by network and claimed method."""
    found = claims[claims["verdict"] != "not measured"]
    lines = []
    for (model, method), own in found.groupby(["model", "better"], sort=False):
        count = own["verdict"].value_counts()
        cells = [str(count.get(name, 0)) for name in ("better", "worse", "undecided at this n")]
        lines.append([NETWORKS.get(str(model), str(model)), method_labels()[str(method)], *cells])
    return _table(["network", "claimed to be better", "better", "worse", "undecided"], lines)


def tables(folder: Path) -> Mapping[str, str]:
    """Every table of the page by the name in its marks. Raises FileNotFoundError without results."""
    data = pd.read_csv(folder / "table.csv", comment="#")
    cnn, vit, digits = Measured(data, CNN, "photos"), Measured(data, VIT, "photos"), Measured(data, LENET, "mnist")
    return {
        "lite0 explanation": cnn.scores(EXPLANATION),
        "lite0 segmentation": cnn.scores(SEGMENTATION),
        "lite0 leads": cnn.leads(THESIS),
        "vit explanation": vit.scores(EXPLANATION),
        "vit segmentation": vit.scores(SEGMENTATION),
        "digits": digits.scores(DIGITS),
        "digits leads": digits.leads(DIGITS),
        "lite0 game": Measured(data, CNN, "grid").scores(GAME),
        "vit game": Measured(data, VIT, "grid").scores(GAME),
        "lite0 contrast": Measured(data, CNN, "grid").scores(("contrast",)),
        "vit contrast": Measured(data, VIT, "grid").scores(("contrast",)),
        "lite0 readings": cnn.scores(READ_BY, READINGS),
        "claims": verdicts(pd.read_csv(folder / "claims.csv", comment="#")),
    }


def filled(page: str, content: Mapping[str, str]) -> str:
    """A page with its tables between their marks. Raises KeyError for a mark that names no table."""
    marks = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}\n{content[found[2]]}\n\n{found[3]}", page)


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    rows = [list(heads)]
    rows += [["---"] * len(rows[0]), *map(list, lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _number(value: float) -> str:
    return "-" if value != value else f"{round(value, 1) + 0.0:.1f}"  # no "-0.0"


def _lead(cell: pd.Series) -> str:
    text = f"{cell['lead']:+.1f} [{cell['lead_low']:+.1f}, {cell['lead_high']:+.1f}]"
    return f"**{text}**" if cell["lead_low"] > 0 or cell["lead_high"] < 0 else text


def main() -> None:
    """Rewrite docs/findings.md between its marks."""
    write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8"), tables(EMBEDDED)))


if __name__ == "__main__":
    main()
