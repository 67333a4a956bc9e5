"""`dix report`: tables and a page from what a results folder holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from PIL import Image

from dix.bench import paper
from dix.bench.curves import curve_panels
from dix.bench.figures import overlay, png_bytes
from dix.bench.html import GalleryItem, render_html
from dix.bench.render_text import render_claims_csv, render_csv, render_latex, render_markdown
from dix.bench.store import ResultStore
from dix.bench.tables import Evidence, Labels, Plan, Table, build
from dix.cli.config import CONF, composed, many, options
from metrics.derived import Difference

#: Columns that tables compute from others, where those are stored.
DERIVED = {"srg": Difference("neg", "pos", "SRG")}
#: The module whose methods are controls: shown, but neither ranked nor compared.
CONTROLS = "baselines.controls."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to report."""
    parser.add_argument("results", help="a results folder, or its name under results/")
    parser.add_argument("--title", default="", help="printed above the tables")


def main(arguments: argparse.Namespace) -> int:
    """Write table.csv, claims.csv, table.md, table.tex and index.html into the folder."""
    folder = results_folder(arguments.results)
    store = ResultStore(folder)
    evidence, plan = evidence_of(store), plan_of(store, arguments.title or f"Results: {folder.name}")
    table = build(evidence, plan)
    for name, text in documents(table, evidence, plan, folder).items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    missing = len(table.with_status("missing"))
    if missing:
        print(f"{missing} cells are missing; run the same job again to complete them")
    return 0


def results_folder(name: str) -> Path:
    """The folder with that path or name. Raises ValueError where it holds no results."""
    for folder in (Path(name), Path("results") / name):
        if (folder / "store").is_dir():
            return folder
    known = sorted(path.parent.name for path in Path("results").glob("*/store"))
    raise ValueError(f"no results in {name!r}; results/ holds: {', '.join(known) or 'none yet; `dix run` makes some'}")


def evidence_of(store: ResultStore) -> Evidence:
    """Everything stored. Raises ValueError where nothing is."""
    cells = store.cells()
    if not cells:
        raise ValueError(f"{store.folder.parent} holds no results yet; `dix run` makes some")
    return Evidence(store.rows(), cells, _skips(store), provenance(store))


def plan_of(store: ResultStore, title: str) -> Plan:
    """A table of whatever is stored."""
    return Plan(
        metrics=metrics_of(store.cells()),
        title=title,
        labels=Labels(methods=method_labels()),
        controls=_controls(),
    )


def documents(table: Table, evidence: Evidence, plan: Plan, folder: Path) -> dict[str, str]:
    """The text of every file of a report, by file name."""
    return {
        "table.csv": render_csv(table),
        "claims.csv": render_claims_csv(table),
        "table.md": render_markdown(table),
        "table.tex": render_latex(table),
        "index.html": render_html(table, gallery_of(folder, table, evidence), curves=curve_panels(evidence, plan)),
    }


def gallery_of(folder: Path, table: Table, evidence: Evidence) -> list[GalleryItem]:
    """The kept pictures: each photo with its maps and its own scores."""
    rows = evidence.rows
    items = []
    for about_file in sorted((folder / "images").glob("*/*/about.json")):
        about = json.loads(about_file.read_text(encoding="utf-8"))
        model, dataset, protocol = about_file.parent.parent.name.split("--")
        own = rows[(rows["model"] == model) & (rows["dataset"] == dataset) & (rows["protocol"] == protocol)]
        items.append(_gallery_item(about_file.parent, about, own[own["image"] == about["image"]], table, model))
    return items


def _gallery_item(folder: Path, about: Mapping[str, Any], rows: pd.DataFrame, table: Table, model: str) -> GalleryItem:
    photo = _pixels(folder / "photo.png")
    maps = {path.stem: _pixels(path) for path in folder.glob("*.png") if path.stem != "photo"}
    order = [*table.layout.methods, *sorted(set(maps) - set(table.layout.methods))]
    scores: dict[str, dict[str, float]] = {}
    for method, metric, value in zip(rows["method"], rows["metric"], rows["value"], strict=True):
        scores.setdefault(method, {})[metric] = value
    return GalleryItem(
        image_id=f"{about['image']} \u00b7 {table.labels.model(model)}",
        label=f"explained: {about['explained']}, p = {about['probability']:.2f}",
        photo_png=(folder / "photo.png").read_bytes(),
        overlays={name: png_bytes(overlay(photo, maps[name])) for name in order if name in maps},
        scores=scores,
    )


def _pixels(path: Path) -> np.ndarray:
    """A picture in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=float) / 255


def metrics_of(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The metric objects behind stored cells, from this installation's configuration, with the derived ones.

    Nothing that a results folder names is executed.
    """
    names = sorted({str(cell["metric"]) for cell in cells}, key=_place)
    protocols = sorted({str(cell["protocol"]) for cell in cells})
    unknown = sorted(set(names) - set(options("metric")))
    if unknown:
        raise ValueError(f"the results name metrics that conf/metric does not have: {', '.join(unknown)}")
    protocol = protocols[0] if protocols[0] in options("protocol") else "thesis"
    config = composed([f"metric=[{','.join(names)}]", f"protocol={protocol}"])
    found = many(config.metric, "metric")
    return found | {name: d for name, d in DERIVED.items() if set(d.inputs) <= set(found)}


def method_labels() -> dict[str, str]:
    """Printed names of all configured methods, in the order of their files' labels."""
    configured = {name: str(node.get("label", name)) for name, node in _method_nodes().items()}
    return {**paper.METHOD_LABELS, **configured}


def provenance(store: ResultStore) -> dict[str, Any]:
    """What the numbers depend on besides the rows: weights, machine, versions, protocol, cost."""
    records = store.read_json("provenance")
    weights = {record["model"]: _weights_line(record["weights"]) for record in records}
    random = {r["model"]: "random weights" for r in records if not r["weights"]["trained"]}
    few_shot = {r["model"]: r["weights"]["note"] for r in records if r["weights"]["trained"] and r["weights"]["note"]}
    return {
        "weights": weights,
        "incomparable": {**few_shot, **random, "photos": "another data set, of photos chosen for this project"},
        "protocol": {r["config"]["protocol"]["name"]: _settings(r["config"]["protocol"]) for r in records},
        "machine": sorted({record["device"] for record in records}),
        "versions": records[0]["versions"] if records else {},
        "commit": sorted({record["commit"] for record in records}),
        "unread": {image: reason for record in store.read_json("unread") for image, reason in record.items()},
        "cost": {record["job"]: record["cost"] for record in records},
        "damaged files set aside": store.damaged(),
    }


def _place(metric: str) -> tuple[int, str]:
    """Metrics in the order of the thesis's tables, then by name."""
    order = [*paper.layout(1).metrics, *paper.layout(3).metrics]
    return (order.index(metric) if metric in order else len(order), metric)


def _weights_line(weights: Mapping[str, Any]) -> str:
    return f"{weights['source']} ({weights['note']})" if weights["note"] else str(weights["source"])


def _settings(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in protocol.items() if key != "name"}


def _skips(store: ResultStore) -> list[tuple[str, str, str, str, str]]:
    return [(r["model"], r["dataset"], r["method"], "*", r["reason"]) for r in store.read_json("skips")]


def _method_nodes() -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    for name in options("method"):
        nodes.update(OmegaConf.load(CONF / "method" / f"{name}.yaml"))
    return nodes


def _controls() -> list[str]:
    return [name for name, node in _method_nodes().items() if str(node.get("_target_", "")).startswith(CONTROLS)]
