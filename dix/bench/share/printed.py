"""Values that a publication prints, without rows behind them: a JSON file of a collection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dix.bench.share.shape import misfit, schema
from dix.bench.tables import paper
from dix.bench.tables.samples import Block, Summarised

FORMAT, VERSION = "dix-printed", 1
#: Bytes of the largest file that is read.
LARGEST = 2**24
#: How a metric's direction is written, by whether higher is better.
BETTER = {True: "higher", False: "lower"}


@dataclass(frozen=True)
class Printed:
    """One publication's values in percent, by block, method and metric. better: whether a metric's larger value is."""

    source: str
    values: Mapping[Block, Mapping[str, Mapping[str, float]]]
    better: Mapping[str, bool]
    labels: Mapping[str, str]


def read_printed(path: Path) -> Printed:
    """The values of a file. Raises ValueError that says what is wrong with it."""
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST:
            raise ValueError("a link, or too large")
        record = json.loads(path.read_bytes())
        if isinstance(record, dict) and isinstance(record.get("version"), int) and record["version"] > VERSION:
            raise ValueError(f"written for a newer version of this program (format {record['version']})")
        wrong = misfit(record, schema("printed"))
        unknown = {one["metric"] for one in record["values"]} - record["metrics"].keys() if not wrong else set()
        if wrong or unknown:
            raise ValueError(wrong or f"metrics that it does not describe: {sorted(unknown)[:5]}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    values: dict[Block, dict[str, dict[str, float]]] = {}
    for one in record["values"]:
        block = Block(record["protocol"], one["dataset"], one["model"])
        values.setdefault(block, {}).setdefault(one["method"], {})[one["metric"]] = one["value"]
    metrics = record["metrics"]
    return Printed(
        record["source"],
        values,
        {name: about["better"] == BETTER[True] for name, about in metrics.items()},
        {name: about["label"] for name, about in metrics.items()},
    )


def of_thesis(metrics: Mapping[str, Summarised], names: Mapping[str, str]) -> dict[str, Any]:
    """The thesis's Tables 1-5 as such a file's content. names: what a metric of theirs is called here."""
    values = [
        {**{key: getattr(one, key) for key in ("dataset", "model", "method", "value")}, "metric": names.get(m, m)}
        for one in paper.printed_values()
        for m in [one.metric]
    ]
    used = dict.fromkeys(one["metric"] for one in values)
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": "the thesis, Tables 1-5",
        "protocol": "thesis",
        "metrics": {n: {"label": metrics[n].label, "better": BETTER[bool(metrics[n].higher_is_better)]} for n in used},
        "values": values,
    }
