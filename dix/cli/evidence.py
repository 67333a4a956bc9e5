"""What a results folder proves: its rows, and everything that they depend on, in words for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dix.bench.report.notes import facts
from dix.bench.store.doubts import doubts
from dix.bench.store.results import ResultStore
from dix.bench.store.status import Status, survey
from dix.bench.tables import samples
from dix.bench.tables.table import Evidence

#: What a report says of a run's cost, where its record has it.
COSTS = ("images", "forwards_of_metrics", "wall_seconds", "times_the_floor", "workers_busy")
#: What is said of images that were computed until all was decided.
UNTIL_DECIDED = (
    "in a random order, each method and metric until its comparisons were decided: intervals, p-values and marks of "
    "this table take the number of images for given, which it was not; verdicts that allow for it are under 'Verdicts "
    "while running'"
)


def evidence_of(store: ResultStore) -> Evidence:
    """Everything stored. Raises ValueError where nothing is."""
    cells = store.cells()
    if not cells:
        raise ValueError(f"{store.folder.parent} holds no results yet; `dix run` makes some")
    return Evidence(samples.stored(store), cells, _skips(store), provenance(store))


def provenance(store: ResultStore) -> dict[str, Any]:
    """What the numbers depend on besides the rows: weights, machine, versions, protocol, cost."""
    records = store.read_json("provenance")
    status = survey(store)
    return {
        "weights": {record["model"]: _weights_line(record["weights"]) for record in records},
        "incomparable": _incomparable(records),
        "images": _images(records),
        "clean top-1": _clean(store, records),
        "protocol": {r["config"]["protocol"]["name"]: _settings(r["config"]["protocol"]) for r in records},
        "machine": sorted({record["device"] for record in records}),
        "versions": records[0]["versions"] if records else {},
        "encoders": {name: codec for record in records for name, codec in record.get("codecs", {}).items()},
        "commit": sorted({record["commit"] for record in records}),
        "unread": {i: reason for record in store.read_json("unread") for i, reason in record["images"].items()},
        "cost": [_cost(record) for record in records],
        "damaged files set aside": store.damaged(),
        "incomplete": incomplete(status),
        "in doubt": doubts(status),
        "mixed": list(status.mixtures),
    }


def _incomparable(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Why a model's or a data set's values must not be held against the thesis's."""
    why = {r["model"]: r["weights"]["note"] for r in records if r["weights"]["trained"] and r["weights"]["note"]}
    why |= {r["model"]: "random weights" for r in records if not r["weights"]["trained"]}
    photos = "another data set, of photos chosen for this project"
    return why | ({"photos": photos} if any(_dataset(record) == "photos" for record in records) else {})


def _dataset(record: Mapping[str, Any]) -> str:
    return str(record["dataset"])


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    cost = record["cost"]
    named = {
        "job": record["job"],
        "methods": len(record["config"]["method"]),
        "metrics": len(record["config"]["metric"]),
    }
    return {**named, **{key: cost[key] for key in COSTS if cost.get(key) is not None}}


def _images(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Which images of each data set the runs that scored took; by model where they differ."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for record in records:
        if record["config"]["metric"]:
            lines = found.setdefault(_dataset(record), {}).setdefault(record["model"], {})
            lines[_images_line(record["config"])] = None
    texts = {dataset: {m: ", then ".join(lines) for m, lines in models.items()} for dataset, models in found.items()}
    return {
        dataset: next(iter(models.values())) if len({*models.values()}) == 1 else facts(models)
        for dataset, models in texts.items()
    }


def _images_line(config: Mapping[str, Any]) -> str:
    """Which images of the data set a run took."""
    subset, limit = config["dataset"].get("subset"), config["run"].get("limit")
    parts = [f"subset {subset}"] if subset else []
    if config["run"].get("until", "all") == "decided":
        return ", ".join([*parts, *([f"at most {limit}"] if limit else []), UNTIL_DECIDED])
    return ", ".join(parts + ([f"the first {limit}"] if limit else [])) or "all of the data set"


def _clean(store: ResultStore, records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """How many labelled images each model gets right unaltered, by data set and model, beside the published figure."""
    right: dict[tuple[str, str], dict[str, bool]] = {}
    for record in store.read_json("clean"):
        right.setdefault((record["dataset"], record["model"]), {}).update(record["right"])
    weights = {record["model"]: record["weights"] for record in records}
    found: dict[str, dict[str, str]] = {}
    for (dataset, model), hits in right.items():
        if hits and model in weights:
            found.setdefault(dataset, {})[model] = _clean_line(dataset, list(hits.values()), weights[model])
    return found


def _clean_line(dataset: str, hits: Sequence[bool], weights: Mapping[str, Any]) -> str:
    """Photos that were chosen for the project, and a head that has seen them, say nothing about accuracy."""
    count = f"{sum(hits)} of {len(hits)} labelled images right"
    if dataset == "photos" or weights["note"]:
        return f"{count} (no measure of accuracy)"
    published = weights.get("published_top1")
    said = "" if published is None else f"; published for the whole of ImageNet: {published:.2f} %"
    return f"{count}, {100 * sum(hits) / len(hits):.2f} %{said}"


def _weights_line(weights: Mapping[str, Any]) -> str:
    return f"{weights['source']} ({weights['note']})" if weights["note"] else str(weights["source"])


def _settings(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in protocol.items() if key != "name"}


def _skips(store: ResultStore) -> list[tuple[str, str, str, str, str]]:
    return [(r["model"], r["dataset"], r["method"], "*", r["reason"]) for r in store.read_json("skips")]


def incomplete(status: Status) -> list[str]:
    """Cells whose jobs have not stored all their images, a line for each model and data set."""
    cells = status.incomplete
    lines = []
    for group in dict.fromkeys(cell.group for cell in cells):
        own = [cell for cell in cells if cell.group == group]
        missing, failed = (sum(getattr(cell, what) for cell in own) for what in ("missing", "failed"))
        lines.append(
            f"{', '.join(group)}: {missing:,} rows missing and {failed:,} failed in {len(own)} cells; "
            f"`dix status` names them"
        )
    return lines
