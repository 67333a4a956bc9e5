"""What mkdocs does besides Markdown: pages of parts, formulas, notebooks, and links that leave the site.

mkdocs.yml names this file as its hooks. Pages of methods and metrics are hand-written Markdown with a marker in whose
place stands what the code knows; a part that no page names gets a page of its own. Formulas become MathML, which
browsers draw without scripts or fonts.
"""

from __future__ import annotations

import atexit
import html
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import docs_parts as about
from latex2mathml.converter import convert
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = about.DOCS.parent
LOG = logging.getLogger("mkdocs.hooks.docs_site")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)\s]*)\)")
SECTIONS = {"method": "Methods", "metric": "Metrics"}
#: The section of pages that no other section names.
LAST = "Background"


@event_priority(100)  # type: ignore[untyped-decorator]  # before mkdocstrings reads its own settings
def on_config(config: Any) -> Any:
    """List all pages of methods and metrics in the navigation, and let the API reference find linked folders."""
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [_sources()]
    for section in config.nav:
        for kind, title in SECTIONS.items():
            if title in section:
                section[title] = [f"{kind}s/{name}" for name in ["index.md", *pages(kind)]]
        if LAST in section:
            section[LAST] += unlisted(str(config.nav))
    config.watch += [str(ROOT / "dix"), str(ROOT / "conf")]
    return config


def unlisted(listed: str) -> list[str]:
    """Pages in docs/ that the navigation does not name yet."""
    return [page.name for page in sorted(about.DOCS.glob("*.md")) if f"'{page.name}'" not in listed]


def _sources() -> str:
    """A folder with the package's source, links to the top-level folders replaced by what they lead to."""
    folder = Path(tempfile.mkdtemp(prefix="dix-docs-"))
    shutil.copytree(ROOT / "dix", folder / "dix", ignore=shutil.ignore_patterns("__pycache__", "*.npz", "conf"))
    for each in {path.parent for path in (folder / "dix").rglob("*.py")}:
        (each / "__init__.py").touch()  # a folder without one is a package too, which the reference does not know
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder)


def pages(kind: str) -> list[str]:
    """File names of the pages of a kind, by their titles."""
    written = {page.name: page.read_text(encoding="utf-8").splitlines()[0] for page in about.claimed(kind).values()}
    bare = {f"{name}.md": f"# {about.parts(kind)[name].label}" for name in about.unclaimed(kind)}
    return sorted(written | bare, key=lambda name: (written | bare)[name].lower())


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file holds."""
    for kind in about.KINDS:
        for name in about.unclaimed(kind):
            files.append(File.generated(config, f"{kind}s/{name}.md", content=about.bare_page(kind, name)))
    for notebook in sorted((about.DOCS / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=as_page(notebook)))
    return files


def as_page(notebook: Path) -> str:
    """A notebook as Markdown: its text and its code."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    shown = [
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    ]
    return "\n\n".join([*shown, f"[Download the notebook]({notebook.name})", ""])


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in what the code knows; links to other files become names, those to notebooks lead to pages."""
    base = (about.DOCS / page.file.src_uri).parent
    text = LINK.sub(lambda found: _inside(found, base), about.filled(markdown))
    return text if base.name == "notebooks" else re.sub(r"(\]\([^)\s]*)\.ipynb\)", r"\1.md)", text)


def _inside(found: re.Match[str], base: Path) -> str:
    target = (base / found[2].partition("#")[0]).resolve()
    if target.is_relative_to(about.DOCS):
        return found[0]
    if not target.exists():
        LOG.warning("%s links to %s, which is not there", base, found[2])
    return f"{found[1]} (`{target.relative_to(ROOT)}`)"


def on_page_content(text: str, page: Any, config: Any, files: Files) -> str:
    """Draw formulas."""
    return FORMULA.sub(lambda found: formula(html.unescape(found[3]), found[2] == "[", page.file.src_uri), text)


def formula(latex: str, display: bool, place: str) -> str:
    """MathML of a formula; a command that is not understood fails a strict build."""
    drawn = convert(latex.strip(), display="block" if display else "inline")
    if "\\" in drawn:
        LOG.warning("%s: a formula has a command that is not understood: %s", place, latex)
    return f'<div class="math-display">{drawn}</div>' if display else drawn
