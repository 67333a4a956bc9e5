"""`dix report`: tables and a page from what a results folder holds, or two folders side by side."""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from dix.bench import paper, samples
from dix.bench.compare import compare, compare_csv, compare_markdown
from dix.bench.curves import curve_panels
from dix.bench.figures import overlay, without_peaks
from dix.bench.html import GalleryItem, render_html
from dix.bench.render_text import facts, head, render_claims_csv, render_csv, render_latex, render_markdown
from dix.bench.samples import Block, Key
from dix.bench.status import survey
from dix.bench.store import ResultStore
from dix.bench.tables import Cell, Evidence, Labels, Layout, MeanRank, Plan, Table, build, thesis_layout
from dix.cli.config import CONF, composed, many, options
from metrics.derived import Difference

#: Columns that tables compute from others, where those are stored.
DERIVED = {"srg": Difference("neg", "pos", "SRG")}
#: The module whose methods are controls: shown, but neither ranked nor compared.
CONTROLS = "baselines.controls."
#: Metrics of the thesis whose formula has another name here: its mF1 is taken over the rows of pixels.
THESIS_METRICS = {"mf1": "mf1_rows"}
#: Most bytes of pictures in a page.
PAGE = 6_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to report."""
    parser.add_argument("results", nargs="?", help="a results folder, or its name under results/")
    parser.add_argument("--title", default="", help="printed above the tables")
    parser.add_argument(
        "--table", type=int, metavar="N", help="lay it out as the thesis's Table N (0: whatever is stored)"
    )
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two results folders side by side instead")


def main(arguments: argparse.Namespace) -> int:
    """Write table.csv, claims.csv, table.md, table.tex and index.html into the folder, or compare two folders."""
    if arguments.compare:
        return _compare(*(results_folder(name) for name in arguments.compare))
    if not arguments.results:
        raise ValueError("dix report: name a results folder, or two with --compare")
    folder = results_folder(arguments.results)
    table = write(folder, arguments.title, arguments.table)
    for line in [*gaps(table), *incomplete(ResultStore(folder))]:
        print(line)
    return 0


def write(folder: Path, title: str = "", number: int | None = None) -> Table:
    """Write every file of a folder's report. number: of the thesis's table whose layout is used; None: as recorded."""
    store = ResultStore(folder)
    evidence = evidence_of(store)
    number = table_number(store) if number is None else number
    title = title or (f"Thesis Table {number}, measured" if number else f"Results: {folder.name}")
    plans = plans_of(store, title, number)
    table = joined([build(_of_protocol(evidence, name), plan) for name, plan in plans.items()])
    for name, text in documents(table, evidence, plans, folder).items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    return table


def gaps(table: Table) -> list[str]:
    """What is missing, a line for each model and data set."""
    lines = []
    for block in table.layout.blocks:
        cells = [cell for cell in table.cells.values() if cell.key.block == block]
        missing = [cell for cell in cells if cell.status == "missing"]
        if missing:
            what = "everything" if len(missing) == len(cells) else f"{len(missing)} of {len(cells)} cells"
            lines.append(f"missing: {what} of {block.model} on {block.dataset}, protocol {block.protocol}")
    return [*lines, "run the same job again to complete them; nothing stored is computed twice"] if lines else []


def incomplete(store: ResultStore) -> list[str]:
    """Cells whose jobs have not stored all their images, a line for each model and data set."""
    cells = survey(store).incomplete
    lines = []
    for group in dict.fromkeys(cell.group for cell in cells):
        own = [cell for cell in cells if cell.group == group]
        missing, failed = (sum(getattr(cell, what) for cell in own) for what in ("missing", "failed"))
        lines.append(
            f"{group.replace('--', ', ')}: {missing:,} rows missing and {failed:,} failed in {len(own)} cells; "
            f"`dix status {store.folder.parent.name}` names them"
        )
    return lines


def _compare(first: Path, second: Path) -> int:
    """Print two result sets side by side, and keep the comparison in the first folder."""
    stores = (ResultStore(first), ResultStore(second))
    evidence = (evidence_of(stores[0]), evidence_of(stores[1]))
    tables = (_stored_table(stores[0], evidence[0]), _stored_table(stores[1], evidence[1]))
    comparison = compare(tables, evidence)
    text = compare_markdown(comparison, tables, (first.name, second.name))
    print(text)
    for suffix, content in (("md", text), ("csv", compare_csv(comparison))):
        path = first / f"compare-{second.name}.{suffix}"
        path.write_text(content, encoding="utf-8")
        print(path)
    return 0


def _stored_table(store: ResultStore, evidence: Evidence) -> Table:
    plans = plans_of(store, "", 0)
    return joined([build(_of_protocol(evidence, name), plan) for name, plan in plans.items()])


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
    return Evidence(samples.stored(store), cells, _skips(store), provenance(store))


def table_number(store: ResultStore) -> int:
    """The number of the thesis's table that a run was made for, by its `run.name`; 0 for none."""
    names = {str(record["config"]["run"]["name"]) for record in store.read_json("provenance")}
    numbers = {int(found[1]) for name in names if (found := re.fullmatch(r"table([1-5])", name))}
    return numbers.pop() if len(numbers) == 1 else 0


def plans_of(store: ResultStore, title: str, number: int = 0) -> dict[str, Plan]:
    """How to make a table of each stored protocol: whatever is stored, or the thesis's Table `number`.

    A metric may reduce its rows by another protocol's choices (SIC's median or mean curve), so each has its own plan.
    """
    cells = store.cells()
    settings = {r["config"]["protocol"]["name"]: r["config"]["protocol"] for r in store.read_json("provenance")}
    plans = {}
    for name in sorted({str(cell["protocol"]) for cell in cells}):
        wanted = {str(cell["metric"]) for cell in cells if cell["protocol"] == name}
        layout = _thesis_layout(number, name, wanted) if number else None
        wanted |= {*layout.metrics} if layout else set()
        plans[name] = Plan(
            metrics=metrics_of(wanted, name, settings.get(name, {})),
            title=title,
            labels=Labels(methods=method_labels()),
            layout=layout,
            printed={(*key[:3], THESIS_METRICS.get(key[3], key[3])): v for key, v in paper.lookup().items()},
            controls=_controls(),
        )
    return plans


def _thesis_layout(number: int, protocol: str, stored: Iterable[str]) -> Layout:
    """The thesis's blocks, methods and metrics, and further stored metrics as more lines."""
    layout = thesis_layout(number, protocol)
    metrics = [THESIS_METRICS.get(name, name) for name in layout.metrics]
    return layout._replace(metrics=(*metrics, *sorted(set(stored) - set(metrics), key=_place)))


def _of_protocol(evidence: Evidence, protocol: str) -> Evidence:
    """The rows and cells of one protocol."""
    rows = samples.of_protocol(evidence.rows, protocol)
    return replace(evidence, rows=rows, cells=[cell for cell in evidence.cells if cell["protocol"] == protocol])


def joined(tables: Sequence[Table]) -> Table:
    """The tables of several protocols as one."""
    if len(tables) == 1:
        return tables[0]
    methods, metrics = (
        tuple(dict.fromkeys(name for table in tables for name in getattr(table.layout, part)))
        for part in ("methods", "metrics")
    )
    layout = Layout(tuple(block for table in tables for block in table.layout.blocks), methods, metrics)
    cells = {key: cell for table in tables for key, cell in table.cells.items()}
    absent = (Key(block, method, metric) for block in layout.blocks for method in methods for metric in metrics)
    return replace(
        tables[0],
        layout=layout,
        labels=replace(tables[0].labels, metrics={k: v for t in tables for k, v in t.labels.metrics.items()}),
        directions={name: way for table in tables for name, way in table.directions.items()},
        cells={key: cells.get(key, Cell(key, "absent")) for key in absent},
        mean_ranks={
            (block, method): next(
                (t.mean_ranks[block, method] for t in tables if (block, method) in t.mean_ranks),
                MeanRank(np.nan, 0, 0),
            )
            for block in layout.blocks
            for method in methods
        },
        claims=tuple(claim for table in tables for claim in table.claims),
        identities=[cell for table in tables for cell in table.identities],
    )


def documents(table: Table, evidence: Evidence, plans: Mapping[str, Plan], folder: Path) -> dict[str, str]:
    """The text of every file of a report, by file name."""
    curves = [panel for name, plan in plans.items() for panel in curve_panels(_of_protocol(evidence, name), plan)]
    return {
        "table.csv": "".join(f"# {line}\n" for line in head(table)) + render_csv(table),
        "claims.csv": render_claims_csv(table),
        "table.md": render_markdown(table),
        "table.tex": render_latex(table),
        "index.html": render_html(table, gallery_of(folder, table, evidence), curves=curves),
    }


def gallery_of(folder: Path, table: Table, evidence: Evidence) -> list[GalleryItem]:
    """The kept pictures: each photo with its maps and its own scores; as many as fit into a page of `PAGE` bytes.

    Every model and data set shows its first pictures before any shows its next.
    """
    groups: dict[str, list[Path]] = {}
    for about in sorted((folder / "images").glob("*/*/about.json")):
        groups.setdefault(about.parent.parent.name, []).append(about)
    order = [(place, group) for group, files in groups.items() for place in range(len(files))]
    items, left = {}, PAGE
    for place, group in sorted(order):
        item = _gallery_item(groups[group][place].parent, group, table, evidence)
        left -= sum(map(len, (item.photo_png, *item.overlays.values())))
        if left < 0:
            break
        items[group, place] = item
    return [items[key] for key in sorted(items)]


def _gallery_item(folder: Path, group: str, table: Table, evidence: Evidence) -> GalleryItem:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    model, dataset, protocol = group.split("--")
    photo = _pixels(folder / "photo.png")
    maps = {path.stem: _pixels(path) for path in folder.glob("*.png") if path.stem != "photo"}
    order = [*table.layout.methods, *sorted(set(maps) - set(table.layout.methods))]
    scores = samples.scores_of(evidence.rows, Block(protocol, dataset, model), about["image"])
    return GalleryItem(
        image_id=f"{about['image']} \u00b7 {table.labels.model(model)}",
        label=f"explained: {about['explained']}, p = {about['probability']:.2f}",
        photo_png=webp_bytes(np.rint(255 * photo).astype(np.uint8)),
        overlays={name: webp_bytes(overlay(photo, without_peaks(maps[name]))) for name in order if name in maps},
        scores={name: _ordered(scores[name], table) for name in order if name in scores},
    )


def _ordered(scores: Mapping[str, float], table: Table) -> dict[str, float]:
    return {name: scores[name] for name in table.layout.metrics if name in scores}


def webp_bytes(pixels: np.ndarray) -> bytes:
    """A picture [H, W, 3] as small WebP bytes, which every browser shows."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="WEBP", quality=82, method=4)
    return stream.getvalue()


def _pixels(path: Path) -> np.ndarray:
    """A picture in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=float) / 255


def metrics_of(wanted: Iterable[str], protocol: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Metric objects by name, from this installation's configuration, with the derived ones.

    settings: the protocol's recorded choices. Nothing that a results folder names is executed.
    """
    names = sorted(set(wanted), key=_place)
    unknown = sorted(set(names) - set(options("metric")))
    if unknown:
        raise ValueError(f"the results name metrics that conf/metric does not have: {', '.join(unknown)}")
    config = composed(
        [f"metric=[{','.join(names)}]", f"protocol={protocol if protocol in options('protocol') else 'thesis'}"]
    )
    config.protocol.update({key: value for key, value in settings.items() if key in config.protocol})
    found = many(config.metric, "metric")
    return found | {name: d for name, d in DERIVED.items() if set(d.inputs) <= set(found)}


def method_labels() -> dict[str, str]:
    """Printed names of all configured methods, in the order of their files' labels."""
    configured = {name: str(node.get("label", name)) for name, node in _method_nodes().items()}
    return {**paper.METHOD_LABELS, **configured}


def provenance(store: ResultStore) -> dict[str, Any]:
    """What the numbers depend on besides the rows: weights, machine, versions, protocol, cost."""
    records = store.read_json("provenance")
    return {
        "weights": {record["model"]: _weights_line(record["weights"]) for record in records},
        "incomparable": _incomparable(records),
        "images": _images(records),
        "clean top-1": _clean(store, records),
        "protocol": {r["config"]["protocol"]["name"]: _settings(r["config"]["protocol"]) for r in records},
        "machine": sorted({record["device"] for record in records}),
        "versions": records[0]["versions"] if records else {},
        "commit": sorted({record["commit"] for record in records}),
        "unread": {image: reason for record in store.read_json("unread") for image, reason in record.items()},
        "cost": [_cost(record) for record in records],
        "damaged files set aside": store.damaged(),
        "incomplete": incomplete(store),
    }


def _incomparable(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Why a model's or a data set's values must not be held against the thesis's."""
    why = {r["model"]: r["weights"]["note"] for r in records if r["weights"]["trained"] and r["weights"]["note"]}
    why |= {r["model"]: "random weights" for r in records if not r["weights"]["trained"]}
    photos = "another data set, of photos chosen for this project"
    return why | ({"photos": photos} if any(_dataset(record) == "photos" for record in records) else {})


def _dataset(record: Mapping[str, Any]) -> str:
    return str(record["job"]).split("--")[1]


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    cost = record["cost"]
    named = {
        "job": record["job"],
        "methods": len(record["config"]["method"]),
        "metrics": len(record["config"]["metric"]),
    }
    return {**named, **{key: cost[key] for key in ("images", "forwards_of_metrics", "wall_seconds") if key in cost}}


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


def _place(metric: str) -> tuple[int, str]:
    """Metrics in the order of the thesis's tables, then by name."""
    order = [*paper.layout(1).metrics, *(THESIS_METRICS.get(name, name) for name in paper.layout(3).metrics)]
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
