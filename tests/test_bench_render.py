"""Rendered tables read back: numbers, emphasis, notes and escapes in CSV, Markdown, LaTeX."""

import csv
import io
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from support.table_frames import METRICS, Mean, Minus, rows_of, thesis_rows

from dix.bench.report.csv import render_claims_csv, render_csv
from dix.bench.report.latex import render_latex
from dix.bench.report.markdown import render_markdown
from dix.bench.report.notes import decimals, signed
from dix.bench.tables import build as tables
from dix.bench.tables import paper
from dix.bench.tables.layouts import thesis_layout
from dix.bench.tables.samples import Block
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import Evidence, Labels, Plan, TableLayout

BLOCK = Block("thesis", "imagenet", "resnet101")
QUICK = Bootstrap(resamples=200)
HOSTILE = "<script>alert('x|y')</script> & _50%_ *$ \\ #1"
PROVENANCE = {
    "weights": {"resnet101": "IMAGENET1K_V2", "vit_base": "augreg"},
    "protocol": {"thesis": {"hit": "label", "fractions": [0.0, 0.1]}, "rise": {"hit": "predicted"}},
    "machine": "two cores",
    "versions": {"torch": "2.13.0"},
    "cost": [{"model": "resnet101", "forwards": 1200, "seconds": 80.5}],
}


def thesis_table(number, **evidence):
    plan = Plan(METRICS, f"Table {number}", layout=thesis_layout(number))
    return tables.build(Evidence(thesis_rows([number]), **evidence), plan, QUICK)


def scored_frames(n=20):
    generator = np.random.default_rng(0)
    base = generator.uniform(40, 60, size=n)
    shifts = {"gc": 0, "ig": -10, "dix2": 1, "dix3": 5}
    scores = {method: base + shift + generator.normal(0, 2, size=n) for method, shift in shifts.items()}
    scores["gc"][:3] = np.nan
    return [rows_of(method, "neg", value, reason="too unsure") for method, value in scores.items()]


def scored_table(**evidence):
    return tables.build(Evidence(pd.concat(scored_frames()), **evidence), Plan(METRICS, "Scores"), QUICK)


def hostile_table():
    frames = [rows_of(HOSTILE, "neg", [1.0, 2.0], model=HOSTILE, dataset=HOSTILE, protocol=HOSTILE)]
    labels = Labels(methods={HOSTILE: HOSTILE}, models={}, datasets={})
    facts = {key: {HOSTILE: HOSTILE} for key in ("weights", "images", "protocol", "versions", HOSTILE)}
    plan = Plan({"neg": Mean(HOSTILE)}, HOSTILE, labels)
    return tables.build(Evidence(pd.concat(frames), provenance={**facts, "machine": HOSTILE}), plan, QUICK)


def markdown_tables(text):
    """All tables of a Markdown text as lists of cells."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_markdown_reprints_the_thesis_table(number):
    text = render_markdown(thesis_table(number))
    wide = [table for table in markdown_tables(text) if any(row[1] == "mean rank" for row in table)]
    labels = {label: name for name, label in paper.METHOD_LABELS.items()}
    models = {label: name for name, label in paper.MODEL_LABELS.items()}
    metrics = {metric.label: name for name, metric in METRICS.items()}
    datasets = list(dict.fromkeys(dataset for dataset, _ in paper.layout(number).blocks))
    read = {
        (models[row[0]], dataset, labels[method], metrics[row[1].split()[0]]): re.sub("[^0-9.]", "", cell)
        for dataset, table in zip(datasets, wide, strict=True)
        for row in table[2:]
        if row[1] != "mean rank"
        for method, cell in zip(table[0][2:], row[2:], strict=True)
    }
    assert read == {key: f"{value:.2f}" for key, value in paper.lookup([number]).items()}
    assert wide[0][0][2:] == [paper.METHOD_LABELS[method] for method in paper.layout(number).methods]
    differences = re.findall(r"\(([+−]?[0-9.]+)\)", text)
    assert len(differences) == len(read)
    assert set(differences) == {"0.00"}


def test_markdown_emphasis_of_a_line():
    text = render_markdown(thesis_table(1))
    line = next(line for line in text.splitlines() if line.startswith("| RN | ADP ↓ |"))
    assert "| **15.68** | <u>16.02</u> |" in line
    assert line.count("**") == 2
    assert line.count("<u>") == 1


def test_markdown_has_the_evidence_under_every_table():
    text = render_markdown(scored_table(provenance=PROVENANCE))
    assert "- n = 17–20 images in every cell" not in text
    assert "n = 17–20 images (NEG)" in text
    assert "excluded from NEG: 3 images (too unsure)" in text
    assert "protocol thesis: hit = label; fractions = 0.0, 0.1" in text
    assert "weights: resnet101 = IMAGENET1K\\_V2\n" in text
    assert "machine: two cores" in text
    assert "versions: torch = 2.13.0" in text
    assert "predicted" not in text


def test_marks_of_values_outside_and_not_comparable():
    outside = render_markdown(scored_table())
    assert "45.66" in outside
    assert re.search(r"45\.66 \([+−][0-9.]+\)†", outside)
    assert "† the thesis's value is outside the interval" in outside
    random = render_markdown(scored_table(provenance={"incomparable": {"resnet101": "random weights"}}))
    assert "†" not in random
    assert re.search(r"45\.66 \([+−][0-9.]+\)‡", random)
    assert "‡ not comparable with the thesis's value: random weights" in random


def test_skips_and_gaps_are_named():
    layout = TableLayout((BLOCK,), ("gc", "ig", "t_attr"), ("neg", "pos"))
    skips = [("resnet101", "*", "t_attr", "*", "no attention in a CNN"), ("*", "*", "ig", "pos", "just so")]
    plan = Plan(METRICS, layout=layout)
    table = tables.build(Evidence(pd.concat(scored_frames()), skips=skips), plan, QUICK)
    text = render_markdown(table)
    assert "- skipped: IG on RN (just so)" in text
    assert "- missing: GC on RN: POS" in text
    assert "| RN | POS ↓ | missing | – |" in text
    wide = render_latex(table)
    assert " & POS $\\downarrow$ & missing & -- \\\\" in wide


def test_csv_holds_every_cell_in_full():
    table = scored_table()
    records = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert len(records) == 4
    record = next(record for record in records if record["method"] == "dix3")
    cell = table.cell(BLOCK, "dix3", "neg")
    for name in ("value", "low", "high", "printed", "difference", "rank"):
        assert float(record[name]) == pytest.approx(getattr(cell, name), rel=1e-11)
    assert (record["n"], record["outside"], record["best"], record["rival"]) == (
        "20",
        str(int(cell.outside)),
        "1",
        "gc",
    )
    excluded = next(record for record in records if record["method"] == "gc")
    assert (excluded["excluded"], excluded["excluded_reasons"], excluded["p"]) == ("3", "too unsure: 3", "")


def test_remarks_are_counted_once_for_all_metrics():
    frames = [rows_of("gc", metric, [1.0, 2.0, 3.0]) for metric in ("neg", "pos")]
    rows = pd.concat([frame.assign(note=["constant map", "", "constant map"]) for frame in frames])
    table = tables.build(Evidence(rows), Plan(METRICS), QUICK)
    assert table.cell(BLOCK, "gc", "neg").flagged == {"constant map": 2}
    assert render_markdown(table).count("- flagged: GC on RN: constant map, 2 images") == 1
    records = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert [record["flagged"] for record in records] == ["constant map: 2"] * 2


def test_claims_csv_and_markdown_say_the_same():
    table = scored_table()
    records = list(csv.DictReader(io.StringIO(render_claims_csv(table))))
    assert len(records) == len(table.claims) == 4
    lead = next(record for record in records if (record["better"], record["worse"]) == ("dix3", "gc"))
    assert (lead["verdict"], lead["n"]) == ("confirmed", "17")
    text = render_markdown(table)
    assert "4 claims: 3 confirmed, 1 undecided at this n." in text
    assert "| IN | RN | DIX3 better than GC on NEG | +0.72 |" in text


def test_latex_reprints_the_thesis_line_and_is_rectangular():
    text = render_latex(thesis_table(1))
    assert "RN & NEG $\\uparrow$ & \\underline{56.41} & 55.20 & " in text
    assert "\\textbf{57.13} \\\\" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\") and " & " in line]
    assert len(rows) == 1 + 3 * (8 + 1)
    assert {row.count(" & ") for row in rows} == {13}
    assert text.count("\\midrule") == 3
    assert text.count("{") == text.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex on the PATH")
def test_latex_compiles_with_hostile_names_and_signs(tmp_path):
    signs = thesis_table(1, provenance={**PROVENANCE, "incomparable": {"resnet101": "n ≥ 3 × 2 …"}})
    body = "".join(render_latex(table) for table in (signs, hostile_table(), scored_table()))
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx,textcomp}\\begin{document}\n"
    (tmp_path / "table.tex").write_text(f"{head}{body}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")


def test_row_order_does_not_change_a_byte():
    frame = pd.concat(scored_frames(), ignore_index=True)
    shuffled = frame.sample(frac=1, random_state=1)
    one, other = (tables.build(Evidence(rows), Plan(METRICS), QUICK) for rows in (frame, shuffled))
    for render in (render_csv, render_markdown, render_latex):
        assert render(one) == render(other)


def test_hostile_names_are_escaped_in_text():
    table = hostile_table()
    markdown = render_markdown(table)
    assert "<script" not in markdown
    assert "&lt;script&gt;" in markdown
    assert {len(row) for row in markdown_tables(markdown)[0]} == {3}
    latex = render_latex(table)
    assert "\\textless{}script\\textgreater{}" in latex
    assert not re.search(r"(?<!\\)[_%#]", latex.split("\n", 1)[1].replace("{%\n", ""))
    records = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert [record["method"] for record in records] == [HOSTILE]


def test_absent_lines_are_left_out_of_a_table_of_whatever_is_stored():
    metrics = METRICS | {"srg": Minus("SRG", extra=True)}
    frames = [rows_of("gc", "neg", [1.0]), rows_of("gc", "pa", [1.0], dataset="voc"), rows_of("ig", "neg", [2.0])]
    table = tables.build(Evidence(pd.concat(frames)), Plan(metrics), QUICK)
    text = render_markdown(table)
    assert "missing" not in text
    assert [[row[1] for row in found[2:]] for found in markdown_tables(text)[::3][:2]] == [
        ["NEG ↑", "mean rank"],
        ["PA ↑", "mean rank"],
    ]


@pytest.mark.parametrize(
    ("number", "plain", "with_sign"),
    [(1.005, "1.00", "+1.00"), (-0.004, "0.00", "0.00"), (-2.5, "−2.50", "−2.50"), (np.nan, "–", "–")],
)
def test_numbers(number, plain, with_sign):
    assert decimals(number) == plain
    assert signed(number) == with_sign


def test_rows_of_several_origins_are_noted_under_their_own_table_alone():
    lines = ["resnet101 · imagenet · thesis: 2 cells with rows of 2 origins (chunk: 8, 32)", "vgg19 · voc · thesis: 1"]
    table = scored_table(provenance={"mixed": lines})
    note = "mixed: resnet101 · imagenet · thesis: 2 cells with rows of 2 origins (chunk: 8, 32)"
    for text in (render_markdown(table), render_latex(table)):
        assert note in text.replace("$\\cdot$", "·")
        assert "mixed: vgg19" not in text
    assert "mixed:" not in render_markdown(scored_table())
