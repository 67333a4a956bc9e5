"""The report page: what it says, that it escapes and loads nothing, and that it works in a real Chromium."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from support import browser
from support.table_frames import METRICS, Mean, rows_of

from dix.bench.report import charts, html
from dix.bench.report.styles import Style
from dix.bench.tables import build as tables
from dix.bench.tables import curves, paper
from dix.bench.tables.samples import Block
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import Evidence, Labels, Plan
from dix.metrics.api import Axis
from dix.metrics.confidence import Adp, Pic
from dix.metrics.faithfulness import Ins, Neg
from dix.metrics.information import Sic
from dix.pictures import png_bytes

HOSTILE = """<script>alert('x')</script>"><img src=x onerror=alert(1)> & {{ 7*7 }}"""
BLOCK = Block("thesis", "imagenet", "resnet101")
FRACTIONS = (0.0, 0.1, 0.2, 0.3)
PROVENANCE = {
    "weights": {"resnet101": "IMAGENET1K_V2"},
    "protocol": {"thesis": {"hit": "label"}},
    "machine": {"cpu": "two cores"},
    "cost": [{"model": "RN", "forwards": 26640, "seconds": 812.44}, {"model": "DN", "forwards": 3, "seconds": 9}],
}


def evidence(n=12, **more):
    generator = np.random.default_rng(0)
    frames = []
    for method, score in {"gc": 56.0, "ig": 45.0, "dix3": 58.0, "dix2": 57.0}.items():
        curve = np.linspace(1, score / 100, 4) + generator.normal(0, 0.02, size=(n, 4))
        frames.append(rows_of(method, "neg", score + generator.normal(0, 1, size=n), curve=curve))
        frames.append(rows_of(method, "pos", 80 - score + generator.normal(0, 1, size=n)))
    return Evidence(pd.concat(frames), **{"provenance": PROVENANCE, **more})


def picture(value=90):
    return png_bytes(np.full((8, 8, 3), value, dtype=np.uint8))


def report(title="Table 1"):
    given = evidence(cells=[{**BLOCK._asdict(), "method": "gc", "metric": "neg", "identity": {"steps": 25}}])
    plan = Plan(METRICS, title)
    table = tables.build(given, plan, Bootstrap(resamples=200))
    panels = curves.curve_panels(given, plan, {"neg": Axis(FRACTIONS, "masked fraction")})
    item = html.GalleryItem(
        "val_0001", "tripod", picture(), {"gc": picture(10)}, {"gc": {"neg": 51.25}, "dix3": {"neg": np.nan}}
    )
    return table, html.render_html(table, [item], curves=panels)


def hostile_report():
    rows = rows_of(
        HOSTILE,
        HOSTILE,
        [1.0, 2.0, np.nan],
        model=HOSTILE,
        dataset=HOSTILE,
        protocol=HOSTILE,
        curve=np.arange(6.0).reshape(3, 2),
        reason=HOSTILE,
    )
    names = dict.fromkeys(("protocol", "dataset", "model", "method", "metric"), HOSTILE)
    facts = {key: {HOSTILE: HOSTILE} for key in ("weights", "images", "versions", HOSTILE)}
    given = Evidence(
        rows,
        cells=[{**names, "identity": {HOSTILE: HOSTILE}}],
        skips=[("*", "*", f"skipped {HOSTILE}", "*", HOSTILE)],
        provenance={**facts, "incomparable": {HOSTILE: HOSTILE}, "cost": {HOSTILE: {HOSTILE: HOSTILE}}},
    )
    plan = Plan(
        {HOSTILE: Mean(HOSTILE)},
        HOSTILE,
        Labels(methods={HOSTILE: HOSTILE}),
        printed={(HOSTILE, HOSTILE, HOSTILE, HOSTILE): 1.5},
    )
    table = tables.build(given, plan, Bootstrap(resamples=50))
    panels = curves.curve_panels(given, plan, {HOSTILE: Axis((0.0, 1.0), HOSTILE)})
    item = html.GalleryItem(HOSTILE, HOSTILE, picture(), {HOSTILE: picture()}, {HOSTILE: {HOSTILE: 1.0}})
    return html.render_html(table, [item], curves=panels)


class Elements(HTMLParser):
    """All tags with their attributes, and the text outside style and script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._open = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open not in ("style", "script"):
            self.text += data


def test_page_shows_the_scores_with_their_evidence():
    table, page = report()
    text = Elements(page).text
    cell = table.cell(BLOCK, "dix3", "neg")
    for expected in (
        f"{cell.value:.2f}",
        f"{cell.low:.2f} to {cell.high:.2f}",
        f"57.13 (+{cell.difference:.2f})",
        "DIX3 better than GC on NEG",
        "two cores",
        "26,640",
        "IMAGENET1K_V2",
        "steps = 25",
        "val_0001",
        "51.25",
        "masked fraction",
    ):
        assert expected in text
    assert 'class="v best"' in page
    assert page == report()[1]


def test_page_loads_nothing_from_elsewhere():
    elements = Elements(report()[1])
    links = [value for _, attrs in elements.tags for name, value in attrs.items() if name in ("src", "href")]
    assert len(links) > 5
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "http" not in report()[1].replace("http-equiv", "")
    assert "url(" not in report()[1]


def test_reports_start_without_the_network_libraries():
    modules = "sys, dix.bench.report.html, dix.bench.report.figures"
    code = f"import {modules}; print({{'torch', 'hydra', 'omegaconf'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_pictures_are_embedded_as_they_are():
    page = report()[1]
    uris = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert [base64.b64decode(uri) for uri in uris] == [picture(), picture(10)]
    assert html.image_uri(b"\xff\xd8\xff\xe0rest").startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match=r"PNG, JPEG or WebP .* b'<svg>'"):
        html.image_uri(b"<svg>")


def test_hostile_names_are_escaped_everywhere():
    elements = Elements(hostile_report())
    assert [tag for tag, _ in elements.tags].count("script") == 1
    images = [attrs for tag, attrs in elements.tags if tag == "img"]
    assert {name for attrs in images for name in attrs} == {"src", "alt", "decoding"}
    assert not any(name.startswith("on") for _, attrs in elements.tags for name in attrs)
    assert elements.text.count(HOSTILE) > 20


def test_random_weights_are_said_first():
    given = evidence(provenance={"incomparable": {"resnet101": "random weights"}})
    table = tables.build(given, Plan(METRICS), Bootstrap(resamples=50))
    page = html.render_html(table)
    assert "RN: not comparable with the thesis&#39;s values (random weights)." in page.split("<nav")[0]
    assert "†" not in page
    assert '<path d="M' not in page


def test_empty_parts_have_no_section():
    table = tables.build(evidence(provenance={}), Plan(METRICS, printed={("a", "b", "c", "d"): 1.0}, claimed=()))
    page = html.render_html(table)
    ids = re.findall(r'<section id="(\w+)"', page)
    assert ids == ["results", "provenance"]


def test_curves_average_the_images_that_count():
    curve = np.array([[1.0, 0.5], [1.0, 0.3], [9.0, 9.0]])
    rows = rows_of("gc", "neg", [1.0, 2.0, np.nan], curve=curve, reason="out")
    (panel,) = curves.curve_panels(Evidence(rows), Plan(METRICS))
    (line,) = panel.lines
    assert (line.n, line.mean.tolist()) == (2, [1.0, 0.4])
    half = 12.706204736432095 * 0.1  # Student's t for one degree of freedom, times the standard error
    assert 0.4 - half < 0
    assert line.low.tolist() == [1.0, 0.0]  # a band of hit rates stays in [0, 1]
    assert line.high.tolist() == [1.0, 1.0]
    assert panel.axis.x == (0.0, 1.0)


def test_curve_axis_is_what_the_metric_says():
    class Masked(Mean):
        axis = Axis((0.0, 0.3, 0.9), "masked")

    assert curves.axis_of(Masked("M"), 3) == Masked.axis
    assert curves.axis_of(Masked("M"), 5).x == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert curves.axis_of(Mean("M"), 3).x == (0.0, 0.5, 1.0)
    assert Neg(FRACTIONS).axis.x == FRACTIONS
    rise = Ins(FRACTIONS, schedule="rise").axis.x
    assert (len(rise), rise[0], rise[112], rise[-1]) == (225, 0.0, 0.5, 1.0)  # a row of 224 at a time


def test_information_curves_are_drawn_over_information():
    # Two images: (0.5, 0.8) then a fall to 0.4 at 0.75, which the running maximum holds; and (0.2, 0) then (0.6, 0.5).
    curve = np.array([[0.5, 0.75, 0.8, 0.4], [0.2, 0.6, 0.0, 0.5]])
    rows = rows_of("gc", "sic", [1.0, 2.0], curve=curve)
    (panel,) = curves.curve_panels(Evidence(rows), Plan({"sic": Sic((0.1, 0.5))}))
    at = dict(zip(panel.axis.x, panel.lines[0].mean, strict=True))
    assert at[0.0] == 0
    assert at[0.5] == pytest.approx((0.8 + 0.5 * 0.3 / 0.4) / 2)
    assert at[0.75] == pytest.approx((0.8 + 0.5 + 0.5 * 0.15 / 0.4) / 2)
    assert at[1.0] == 1
    assert panel.axis.label.startswith("information")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.9, [0, 0.2, 0.4, 0.6, 0.8]),
        (-37, 61, [-20, 0, 20, 40, 60]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_chart_places_points_on_its_axes():
    line = curves.CurveLine("gc", 3, np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    panel = curves.CurvePanel(BLOCK, "neg", Axis((0.0, 2.0), "x"), (line,))
    svg = charts.curve_chart(panel, {"dix3": Style(0, 0), "gc": Style(2, 1, "#aa3377")}, ())
    bottom, right = charts.HEIGHT - charts.BOTTOM, charts.WIDTH - charts.RIGHT
    assert f'd="M{charts.LEFT:.1f},{bottom:.1f} {right:.1f},{charts.TOP:.1f}"' in svg
    assert 'class="curve k2 d1" style="--c:#aa3377" data-curve="1"' in svg


def test_a_curve_of_one_point_becomes_a_distribution_or_no_panel():
    masked = np.array([[0.1], [0.5], [0.5], [0.9]])
    rows = pd.concat([rows_of("gc", name, [0.0, 100.0, 0.0, 0.0], curve=masked) for name in ("adp", "pic")])
    [panel] = curves.curve_panels(Evidence(rows), Plan({"adp": Adp(), "pic": Pic()}))
    assert panel.metric == "adp"
    assert len(panel.axis.label) <= 60  # what a chart is wide enough for
    [line] = panel.lines
    at = dict(zip(panel.axis.x, line.mean, strict=True))
    assert [at[x] for x in (0.0, 0.1, 0.48, 0.5, 0.9, 1.0)] == [0, 0.25, 0.25, 0.75, 1, 1]
    assert 0 <= line.low.min() <= line.high.max() <= 1


def test_masked_probabilities_stand_beside_the_clean_ones_that_the_rows_tell():
    """Clean probabilities 0.8, 0.5 and 0.3: one method lowers the first two, no method the third."""
    clean, lowered = np.array([0.8, 0.5, 0.3]), np.array([0.2, 0.4, 0.3])
    drop = 100 * np.maximum(clean - lowered, 0) / clean
    rows = pd.concat(
        [rows_of("gc", "adp", drop, curve=lowered[:, None]), rows_of("ones", "adp", [0.0] * 3, curve=clean[:, None])]
    )
    evidence_ = Evidence(rows)
    [panel] = curves.curve_panels(evidence_, Plan({"adp": Adp()}))
    at = dict(zip(panel.axis.x, panel.reference.mean, strict=True))
    assert (panel.images, panel.reference.n) == (3, 2)
    assert [at[x] for x in (0.3, 0.48, 0.52, 0.78, 0.82)] == [0, 0, 0.5, 0.5, 1]
    plan = Plan({"adp": Adp()})
    page = html.render_html(tables.build(evidence_, plan, Bootstrap(resamples=50)), curves=[panel])
    assert "the 2 of 3 that some method" in page
    assert np.isnan(Adp.clean(np.array([0.0, 100.0, 50.0]), np.array([[0.5], [0.0], [0.0]]))).all()


def test_the_page_carries_its_documents():
    table, _ = report()
    text = "a,±\n</a><script>1</script>\n"
    page = html.render_html(table, downloads={"table.csv": text, "claims.csv": ""})
    found = [attrs for tag, attrs in Elements(page).tags if tag == "a" and "download" in attrs]
    assert [attrs["download"] for attrs in found] == ["table.csv"]
    kind, _, code = found[0]["href"].partition(";base64,")
    assert (kind, base64.b64decode(code).decode()) == ("data:text/plain;charset=utf-8", text)


needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None or browser.DRIVER is None, reason="needs chromium and chromedriver on the PATH"
)
COLUMN = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[arguments[0]].dataset.v)"
METHODS = "[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[0].textContent)"
CLICK = "document.querySelectorAll('table.sortable thead button')[arguments[0]].click()"


@needs_browser
def test_page_sorts_and_folds_in_chromium(tmp_path):
    table, page = report()
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    scores = {name: table.cell(BLOCK, name, "pos").value for name in table.layout.methods}
    best_first = [paper.METHOD_LABELS[name] for name in sorted(scores, key=scores.get)]
    with browser.page(tmp_path / "profile") as opened:
        opened.open(path)
        opened.run(CLICK, 2)
        assert opened.run(f"return {METHODS}") == best_first
        opened.run(CLICK, 2)
        assert opened.run(f"return {METHODS}") == best_first[::-1]
        opened.run(CLICK, 1)
        values = [float(value) for value in opened.run(f"return {COLUMN}", 1)]
        assert values == sorted(values, reverse=True)
        heads = "return [...document.querySelectorAll('table.sortable')[0].tHead.rows[0].cells].map(c => c.ariaSort)"
        assert opened.run(heads) == [None, "descending", None, None]
        shown = "return getComputedStyle(document.querySelector('small.interval')).display"
        assert opened.run(shown) == "block"
        opened.run("document.querySelector('#show-interval').click()")
        assert opened.run(shown) == "none"
        opened.run("document.querySelector('button[data-all=ours]').click()")
        visible = "return [...document.querySelectorAll('g[data-curve]:not(.hidden)')].length"
        assert opened.run(visible) == 2
        assert opened.console() == []


@needs_browser
def test_page_fits_a_phone_and_follows_dark_mode(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(report()[1], encoding="utf-8")
    with browser.page(tmp_path / "profile", 375, 812) as opened:
        opened.open(path)
        opened.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert opened.run("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
        background = "return getComputedStyle(document.body).backgroundColor"
        light = sum(map(int, re.findall(r"\d+", opened.run(background))))
        opened.dark()
        dark = sum(map(int, re.findall(r"\d+", opened.run(background))))
        assert light > 700
        assert dark < 100
        assert opened.console() == []


@needs_browser
def test_hostile_names_run_nothing_in_chromium(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(hostile_report(), encoding="utf-8")
    with browser.page(tmp_path / "profile") as opened:
        opened.open(path)
        assert opened.run("return document.querySelectorAll('script').length") == 1
        assert opened.run("return document.title") == " ".join(HOSTILE.split())
        assert json.dumps(opened.console()) == "[]"
