"""`dix report`: tables and a page from what a results folder holds, or two folders side by side."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf.errors import OmegaConfBaseException

from dix.bench.report.compare import ResultSet, compare_runs, comparison_csv
from dix.bench.report.compare_text import comparison_markdown, made_with
from dix.bench.report.csv import render_claims_csv, render_csv, render_protocols_csv
from dix.bench.report.html import render_html
from dix.bench.report.latex import render_latex
from dix.bench.report.markdown import markdown_escape, render_markdown
from dix.bench.report.notes import head
from dix.bench.report.verdicts import courses_csv, courses_markdown
from dix.bench.store.doubts import doubts
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey
from dix.bench.tables import paper, samples
from dix.bench.tables.build import build, scores
from dix.bench.tables.choices import Roles, standing
from dix.bench.tables.curves import curve_panels
from dix.bench.tables.decide import Course, recorded
from dix.bench.tables.layouts import thesis_layout
from dix.bench.tables.samples import Block, Key
from dix.bench.tables.table import Evidence, Labels, MeanRank, Plan, Table, TableCell, TableLayout
from dix.cli import trust
from dix.cli.config import composed, content, files, options
from dix.cli.construct import many
from dix.cli.evidence import evidence_of, incomplete
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of, search_path
from dix.cli.pictures import gallery_of
from dix.cli.words import first_line
from dix.explainer import BASELINE, CONTROL, PROPOSED
from dix.files import write_atomic
from dix.metrics.derived import Difference, StoredMean
from dix.text import printable, told_apart

#: Columns that tables compute from others, where those are stored.
DERIVED = {"srg": Difference("neg", "pos", "SRG")}
#: Metrics of the thesis whose formula has another name here: its mF1 is taken over the rows of pixels.
THESIS_METRICS = {"mf1": "mf1_rows"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to report."""
    parser.add_argument("results", nargs="?", metavar="NAME", help="a results folder, or its name under results/")
    parser.add_argument("--title", default="", help="printed above the tables")
    parser.add_argument(
        "--table", type=int, metavar="N", help="lay it out as the thesis's Table N (0: whatever is stored)"
    )
    add_config_dir(parser)
    parser.add_argument(
        "--compare", nargs="+", metavar="RESULTS", help="several results folders instead, each beside the first"
    )


def main(arguments: argparse.Namespace) -> int:
    """Write table.csv, claims.csv, table.md, table.tex and index.html into the folder, or compare several folders.

    1 where rows contradict each other, or something that was stored is gone or damaged; the files are written anyway.
    """
    if arguments.compare:
        return _compare([results_folder(name) for name in arguments.compare], folders_of(arguments))
    if not arguments.results:
        raise ValueError("name a results folder, or two with --compare, as in `dix report table1`")
    folder = results_folder(arguments.results)
    folders = folders_of(arguments)
    table = write(folder, arguments.title, arguments.table, folders)
    store = ResultStore(folder)
    status = survey(store)
    told = [*unknown_metrics(store, folders), *gaps(table), *incomplete(status), *doubts(status), *status.mixtures]
    for line in told:
        print(line)
    return 0 if status.sound else 1


def write(folder: Path, title: str = "", number: int | None = None, folders: Sequence[Path] = ()) -> Table:
    """Write every file of a folder's report.

    number: of the thesis's table whose layout is used; None: as recorded. folders: of the user's own configurations.
    """
    store = ResultStore(folder)
    evidence = evidence_of(store)
    number = table_number(store) if number is None else number
    title = title or (f"Thesis Table {number}, measured" if number else f"Results: {folder.name}")
    plans = plans_of(store, title, number, folders)
    table = joined([build(of_protocol(evidence, name), plan) for name, plan in plans.items()])
    courses = recorded(store, samples.read(evidence.rows), {name: plan.metrics for name, plan in plans.items()})
    for name, text in documents(table, evidence, plans, folder, courses).items():
        write_atomic(folder / name, shown(text))
        print(folder / name)
    return table


def shown(text: str) -> str:
    """A document without characters that act on the terminal or page that shows it; line ends stay."""
    return printable(text, keep="\n\t\r")


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


def _compare(chosen: Sequence[Path], folders: Sequence[Path] = ()) -> int:
    """Print every further result set beside the first, and keep the comparisons in the first one's folder."""
    if len(chosen) < 2:
        raise ValueError("--compare: name two results folders or more")
    first, *others = chosen
    sets = [result_set(ResultStore(folder), folders) for folder in chosen]
    names = [folder.name for folder in chosen]
    print(f"# {', '.join(map(markdown_escape, names))}\n")
    print(made_with([each.evidence for each in sets], names))
    for second, found in zip(others, sets[1:], strict=True):
        comparison = compare_runs(sets[0], found)
        text = comparison_markdown(comparison, sets[0].table, (first.name, second.name))
        print(text)
        kept = made_with([sets[0].evidence, found.evidence], [first.name, second.name])
        for suffix, document in (("md", f"{text}\n{kept}"), ("csv", comparison_csv(comparison))):
            path = first / f"compare-{second.name}.{suffix}"
            write_atomic(path, shown(document))
            print(path)
    return 0


def result_set(store: ResultStore, folders: Sequence[Path] = ()) -> ResultSet:
    """Everything that a results folder holds, as one table with its evidence and plans."""
    evidence, plans = evidence_of(store), plans_of(store, "", 0, folders)
    table = joined([build(of_protocol(evidence, name), plan) for name, plan in plans.items()])
    contents = {Block(group.protocol, group.dataset, group.model): store.contents(group) for group in store.groups()}
    return ResultSet(table, evidence, plans, contents)


def stored_scores(store: ResultStore, folders: Sequence[Path] = ()) -> list[TableCell]:
    """The measured cells of that table with their intervals alone, which takes a fraction of the time."""
    evidence, plans = evidence_of(store), plans_of(store, "", 0, folders)
    return [cell for name, plan in plans.items() for cell in scores(of_protocol(evidence, name), plan)]


def table_number(store: ResultStore) -> int:
    """The number of the thesis's table that a run was made for, by its `run.name`; 0 for none."""
    names = {str(record["config"]["run"]["name"]) for record in store.read_json("provenance")}
    numbers = {int(found[1]) for name in names if (found := re.fullmatch(r"table([1-5])", name))}
    return numbers.pop() if len(numbers) == 1 else 0


def plans_of(store: ResultStore, title: str, number: int = 0, folders: Sequence[Path] = ()) -> dict[str, Plan]:
    """How to make a table of each stored protocol: whatever is stored, or the thesis's Table `number`.

    A metric may reduce its rows by another protocol's choices (SIC's median or mean curve), so each has its own plan.
    """
    cells = store.cells()
    roles = _printed(cells, "role")
    who = roles_of(roles)
    ours = {name for name in who.proposed if name in roles}
    settings = {r["config"]["protocol"]["name"]: r["config"]["protocol"] for r in store.read_json("provenance")}
    plans = {}
    for name in sorted({str(cell["protocol"]) for cell in cells}):
        wanted = {str(cell["metric"]) for cell in cells if cell["protocol"] == name}
        layout = _thesis_layout(number, name, wanted, ours) if number else None
        wanted |= {*layout.metrics} if layout else set()
        plans[name] = Plan(
            metrics=metrics_of(wanted, name, settings.get(name, {}), stored_means(cells), folders),
            title=title,
            labels=Labels(methods=_method_names(cells, folders), colours=_printed(cells, "colour")),
            layout=layout,
            printed={(*key[:3], THESIS_METRICS.get(key[3], key[3])): v for key, v in paper.lookup().items()},
            proposed=who.proposed,
            claimed=who.claimed,
            controls=who.controls,
        )
    return plans


def roles_of(roles: Mapping[str, str]) -> Roles:
    """Who is compared with whom, by the roles that methods are stored with."""
    return standing(*([name for name, own in roles.items() if own == role] for role in (PROPOSED, BASELINE, CONTROL)))


def _thesis_layout(number: int, protocol: str, stored: Iterable[str], ours: Iterable[str]) -> TableLayout:
    """The thesis's blocks, methods and metrics, further stored metrics as more lines, and as columns what is ours."""
    layout = thesis_layout(number, protocol)
    metrics = [THESIS_METRICS.get(name, name) for name in layout.metrics]
    return layout._replace(
        methods=(*layout.methods, *sorted(set(ours) - set(layout.methods))),
        metrics=(*metrics, *sorted(set(stored) - set(metrics), key=_place)),
    )


def of_protocol(evidence: Evidence, protocol: str) -> Evidence:
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
    layout = TableLayout(tuple(block for table in tables for block in table.layout.blocks), methods, metrics)
    cells = {key: cell for table in tables for key, cell in table.cells.items()}
    absent = (Key(block, method, metric) for block in layout.blocks for method in methods for metric in metrics)
    return replace(
        tables[0],
        layout=layout,
        labels=replace(tables[0].labels, metrics={k: v for t in tables for k, v in t.labels.metrics.items()}),
        directions={name: way for table in tables for name, way in table.directions.items()},
        cells={key: cells.get(key, TableCell(key, "absent")) for key in absent},
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


def documents(
    table: Table, evidence: Evidence, plans: Mapping[str, Plan], folder: Path, courses: Sequence[Course] = ()
) -> dict[str, str]:
    """The text of every file of a report, by file name. courses: of runs until all is decided."""
    curves = [panel for name, plan in plans.items() for panel in curve_panels(of_protocol(evidence, name), plan)]
    decided = courses_markdown(courses, table.labels)
    more = {"verdicts.csv": courses_csv(courses)} if courses else {}
    about, beside = "".join(f"# {line}\n" for line in head(table)), render_protocols_csv(table)
    more |= {"protocols.csv": about + beside} if beside else {}
    tables = {
        "table.csv": about + render_csv(table),
        "claims.csv": render_claims_csv(table),
        "table.md": render_markdown(table) + (f"\n{decided}" if decided else ""),
        "table.tex": render_latex(table),
    }
    carried = {name: shown(text) for name, text in {**tables, **more}.items()}
    page = render_html(table, gallery_of(folder, table, evidence), curves=curves, courses=courses, downloads=carried)
    return more | tables | {"index.html": page}


def metrics_of(
    wanted: Iterable[str],
    protocol: str,
    settings: Mapping[str, Any],
    stored: Mapping[str, StoredMean],
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """Metric objects by name, from the configuration of this installation and of the user's folders.

    settings: the protocol's recorded choices. stored: what is known of metrics without a configuration.
    Nothing that a results folder names is executed, and no reference in its settings resolved.
    """
    names = sorted(set(wanted), key=_place)
    known = [name for name in names if name in options("metric", folders)]
    chosen = protocol if protocol in options("protocol", folders) else "thesis"
    config = composed([f"metric=[{','.join(known)}]", f"protocol={chosen}", *search_path(folders)])
    plain = trust.settings(settings, "protocol")
    try:
        config.protocol.update({key: value for key, value in plain.items() if key in config.protocol})
    except OmegaConfBaseException as error:
        raise ValueError(f"the recorded settings of protocol {protocol}: {first_line(error)}") from error
    made = many(config.metric, "metric")
    found = {name: made[name] if name in made else stored[name] for name in names}
    return found | {name: d for name, d in DERIVED.items() if set(d.inputs) <= set(found)}


def stored_means(cells: Iterable[Mapping[str, Any]]) -> dict[str, StoredMean]:
    """By metric, what its stored cells say about it."""
    found = {}
    for cell in cells:
        name, printed = str(cell["metric"]), cell.get("printed", {})
        label = str(printed.get("metric_label", name))
        found[name] = StoredMean(name, label, {"higher": True, "lower": False}.get(printed.get("better", "")))
    return found


def unknown_metrics(store: ResultStore, folders: Sequence[Path]) -> list[str]:
    """A line for the metrics that only the results know."""
    unknown = sorted({str(cell["metric"]) for cell in store.cells()} - set(options("metric", folders)))
    if not unknown:
        return []
    names = ", ".join(unknown)
    return [f"not configured here, so shown as the mean of the stored values: {names} (see --config-dir)"]


def method_labels(folders: Sequence[Path] = ()) -> dict[str, str]:
    """Printed names of all configured methods, in the order of their files' labels."""
    nodes = [node for path in files("method", folders).values() for node in _nodes_of(path)]
    return {**paper.METHOD_LABELS, **{name: str(node.get("label", name)) for name, node in nodes}}


def _method_names(cells: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> dict[str, str]:
    """Printed names of all methods, told apart: a stored one may have the name that another is configured with."""
    return told_apart(method_labels(folders) | _printed(cells, "label"))


def _nodes_of(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The methods of a configuration file, by name."""
    found = content(path)
    return [(str(k), node) for k, node in (found.items() if isinstance(found, Mapping) else ()) if hasattr(node, "get")]


def _place(metric: str) -> tuple[int, str]:
    """Metrics in the order of the thesis's tables, then by name."""
    order = [*paper.layout(1).metrics, *(THESIS_METRICS.get(name, name) for name in paper.layout(3).metrics)]
    return (order.index(metric) if metric in order else len(order), metric)


def _printed(cells: Iterable[Mapping[str, Any]], what: str) -> dict[str, str]:
    """A method's "label", "role" or "colour", as stored with its rows, by name."""
    return {str(cell["method"]): str(cell["printed"][what]) for cell in cells if what in cell.get("printed", {})}
