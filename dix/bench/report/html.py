"""The report: one self-contained HTML page with every number's evidence, the curves, the maps and the provenance.

The page loads nothing: its style, script, charts and images are inside. Its content security policy allows its own
script and `data:` images only, and every name, label and reason is escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from dix.bench.report import html_parts, html_results, notes, verdicts
from dix.bench.report.html_parts import GalleryItem, image_uri
from dix.bench.report.html_results import TONES
from dix.bench.tables.curves import CurvePanel
from dix.bench.tables.decide import Course
from dix.bench.tables.table import Table

__all__ = ["GalleryItem", "image_uri", "render_html"]

FOLDER = Path(__file__).parent / "templates"


def render_html(
    table: Table,
    gallery: Sequence[GalleryItem] = (),
    provenance: Mapping[str, Any] | None = None,
    curves: Sequence[CurvePanel] = (),
    courses: Sequence[Course] = (),
    downloads: Mapping[str, str] | None = None,
) -> str:
    """The whole report as one page.

    provenance: what the numbers depend on (see `tables.Evidence`); by default the table's own. Its `cost` becomes a
    section by itself. courses: of runs until all is decided. downloads: further documents by file name, which the page
    carries with it. Raises ValueError for an image in a format that browsers do not show.
    """
    about = table.provenance if provenance is None else provenance
    claims, protocols = html_results.claims(table), html_results.protocols(table)
    parts = {
        "results": True,
        "protocols": protocols,
        "claims": claims,
        "decided": courses,
        "curves": curves,
        "gallery": gallery,
        "provenance": True,
        "cost": about.get("cost"),
    }
    return template("report.html.jinja").render(
        **_head(table),
        downloads=html_parts.downloads(downloads or {}),
        sections=[name for name, present in parts.items() if present],
        groups=[html_results.group(table, blocks) for blocks in notes.groups(table).values()],
        claims=claims,
        decided=verdicts.course_views(courses, table.labels),
        protocols=protocols,
        legend=html_parts.legend(table, curves),
        curves=html_parts.curve_groups(table, curves),
        gallery=[html_parts.example(table, item) for item in gallery],
        provenance=html_parts.provenance(about),
        identities=html_parts.identities(table),
        cost=html_parts.cost(about.get("cost")),
    )


def _head(table: Table) -> dict[str, Any]:
    """What stands above the sections or explains them, and what the page is drawn with."""
    script = page_script()
    return {
        "title": table.title or "Benchmark of explanations",
        "subtitle": html_results.subtitle(table),
        "warnings": html_results.warnings(table),
        "tiles": html_results.tiles(table),
        "level": f"{100 * table.bootstrap.level:g} %",
        "decided_rule": verdicts.RULE,
        "decided_header": verdicts.HEADER,
        "method_note": _sentence(notes.interval_note(table)),
        "tones": TONES,
        "css": Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": script_hash(script),
    }


def page_script() -> str:
    """The page's script, which a leaderboard has, too."""
    return "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("wide.js", "report.js"))


def script_hash(script: str) -> Markup:
    """What a page's content security policy calls a script that it allows."""
    return Markup(f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}")


def template(name: str, folder: Path = FOLDER) -> jinja2.Template:
    """A page's template, which escapes every text that it is given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."
