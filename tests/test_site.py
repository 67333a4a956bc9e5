"""The documentation site: built without a warning, every link leads somewhere, and nothing is asked of another host."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import docs_parts as about
import pytest
from support import browser

import dix

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
API = sorted((DOCS / "api").glob("*.md"))
NAMED = [name for page in API for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)]
#: What each hand-written page of a method or metric says, in this order.
SECTIONS = ["## Definition", "## Good for", "## Known deviations"]
NETWORK = re.compile(r"^(?:https?:)?//")


class Seen(HTMLParser):
    """Ids of a page, where its links lead, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Seen]:
    return {page: Seen(page.read_text(encoding="utf-8")) for page in site.rglob("*.html") if page.name != "404.html"}


def test_links_and_anchors_lead_somewhere(site: Path, pages: dict[Path, Seen]) -> None:
    lost = []
    for page, seen in pages.items():
        for link in [*seen.links, *seen.loaded]:
            address, anchor = urldefrag(link)
            if re.match(r"(?:[a-z]+:|//)", address):
                continue
            target = (page.parent / unquote(address)).resolve() if address else page
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (anchor and target in pages and unquote(anchor) not in known):
                lost.append(f"{page.relative_to(site)}: {link}")
    assert lost == []
    assert len(pages) > 60


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Seen]) -> None:
    strangers = {link for seen in pages.values() for link in seen.loaded if NETWORK.match(link)}
    assert strangers == set()
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import\s*)[\"']?((?:https?:)?//[^)\"']+)", text) == [], sheet.name


def test_formulas_are_drawn(pages: dict[Path, Seen]) -> None:
    texts = {page.stem: page.read_text(encoding="utf-8") for page in pages}
    assert "<mfrac>" in texts["grad-cam"]
    assert [name for name, text in texts.items() if 'class="arithmatex"' in text] == []


def test_every_part_and_public_name_is_found(pages: dict[Path, Seen]) -> None:
    shown = {id_: page for page, seen in pages.items() for id_ in seen.ids}
    for kind in about.KINDS:
        [index] = [page for page in pages if page.parent.name == f"{kind}s" and page.name == "index.html"]
        for name in about.parts(kind):
            assert shown[name].parent == index.parent
            assert f"{shown[name].name}#{name}" in pages[index].links
    homes = {f"{getattr(dix, name).__module__}.{name}" for name in set(dix.__all__) - {"__version__"}}
    assert homes <= set(NAMED)
    assert set(NAMED) <= set(shown)


@pytest.mark.parametrize("kind", about.KINDS)
def test_every_part_has_a_text(kind: str) -> None:
    """Without one its page holds what the code knows; docs/methods/grad-cam.md shows what a text is."""
    for page in set(about.claimed(kind).values()):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"^## .*", text, re.MULTILINE) == SECTIONS, page.name
    if lacking := about.unclaimed(kind):
        pytest.skip(f"no page in docs/{kind}s/ has the marker <!-- {kind}s: NAME --> for {', '.join(lacking)}")


def test_every_method_is_measured_and_has_its_pictures() -> None:
    for name, found in about.measured().items():
        for network in about.NETWORKS:
            assert about.picture(name, network).exists() is ("reason" not in found[network]), f"{name}, {network}"
    assert sum(path.stat().st_size for path in about.picture("gc", "x").parent.iterdir()) < 1_000_000
    if lacking := sorted(set(about.parts("method")) - set(about.measured())):
        pytest.skip(f"run: python scripts/measure_methods.py {' '.join(lacking)}")


@dataclass(frozen=True)
class Base:
    """A base.

    shared: what all have, in a | b.
    """

    shared: int = 0


@dataclass(frozen=True)
class Strange(Base):
    """A part that nobody wrote about (Nobody 2020), x_y.

    steps: N; twice. rule, path: the quadrature.

    Attributes:
        more: A list of
            things.
    """

    steps: int = 3
    rule: str = "right"
    path: str = "line"
    more: tuple[int, ...] = field(default_factory=tuple)
    label: str = "Strange"


def test_settings_are_read_from_docstrings() -> None:
    assert about.documented(Strange) == {
        "shared": "what all have, in a | b.",
        "steps": "N; twice.",
        "rule": "the quadrature.",
        "path": "the quadrature.",
        "more": "A list of things.",
    }


def test_a_part_without_a_text_has_a_page_of_what_the_code_knows(tmp_path: Path) -> None:
    conf = tmp_path / "strange.yaml"
    conf.write_text(f"# Strange, the first line\nstrange:\n  _target_: {__name__}.Strange\n  steps: 7\n")
    part = about.part("method", "strange", conf)
    text = about.described(part)
    for line in (
        "## `strange` { #strange }",
        "Strange, the first line",
        "- CNN (EfficientNet-Lite0): not measured yet",
        "> A part that nobody wrote about (Nobody 2020), x\\_y.",
        "| `steps` | `7` | N; twice. |",
        "| `shared` | `0` | what all have, in a \\| b. |",
    ):
        assert line in text.splitlines()
    like = dataclasses.replace(part, name="other", node={**part.node, "steps": 7, "rule": "left"})
    rows = [line for line in about.described(like, part).splitlines() if line.startswith("| `")]
    assert rows == ["| `rule` | `left` | the quadrature. |"], "only what is different"


def test_the_altered_images_of_a_metric_are_counted() -> None:
    """Under `thesis`: nine masked shares; one soft mask; five shares in two orders; 13 levels and the blur."""
    counts = {
        name: about.forwards(about.parts("metric")[name])
        for name in ("neg", "deletion", "adp", "road", "sic", "miou", "ties")
    }
    assert counts == {"neg": 9, "deletion": 9, "adp": 1, "road": 10, "sic": 14, "miou": 0, "ties": 0}


@pytest.mark.parametrize("name", NAMED)
def test_public_docstrings_are_in_googles_format(name: str) -> None:
    """Every argument, or every field, of what the API reference shows is told in a section of its own."""
    griffe = pytest.importorskip("griffe")
    module, _, last = name.rpartition(".")
    found = getattr(importlib.import_module(module), last)
    text = inspect.getdoc(found) or ""
    parsed = griffe.Docstring(text).parse("google", warnings=False)
    told = {
        item.name.lstrip("*")
        for part in parsed
        if part.kind.value in ("parameters", "attributes")
        for item in part.value
    }
    assert parsed[0].kind.value == "text"
    wanted = _arguments(found)
    assert told >= wanted, f"{name}: nothing is said of {', '.join(sorted(wanted - told))}"
    prose = " ".join(part.value for part in parsed if part.kind.value == "text")
    loose = [argument for argument in wanted if re.search(rf"^{argument}: ", prose, re.MULTILINE)]
    assert loose == [], f"{name}: arguments belong into a section"


def _arguments(found: object) -> set[str]:
    """The public arguments of a function, or of what makes an object of a class; of a protocol its properties."""
    if inspect.isclass(found) and getattr(found, "_is_protocol", False):
        return {name for name, value in vars(found).items() if isinstance(value, property)}
    if inspect.isclass(found) and issubclass(found, Exception):
        return set()
    return {name for name in inspect.signature(found).parameters if not name.startswith("_")}  # type: ignore[arg-type]


needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None or browser.DRIVER is None, reason="needs chromium and chromedriver on the PATH"
)


@needs_browser
def test_pages_fit_a_phone_and_ask_nobody(site: Path, tmp_path: Path) -> None:
    with browser.page(tmp_path / "profile", 390, 844) as opened:
        for name in ("index", "methods/index", "methods/dix", "metrics/segmentation", "api/metrics", "libraries"):
            opened.open(site / f"{name}.html")
            assert opened.run("return document.documentElement.scrollWidth") <= 390, name
            loaded = opened.run("return performance.getEntriesByType('resource').map(each => each.name)")
            assert [address for address in loaded if not address.startswith(("file:", "data:"))] == [], name
            broken = opened.run(
                "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
            )
            assert broken == []
        assert "median" in searched(opened, "median curve")


def searched(opened: browser.Page, words: str) -> str:
    """What the search of a page that was opened from the disk finds first."""
    opened.run(
        "const box = document.querySelector('input.md-search__input');"
        "box.focus(); box.value = arguments[0]; box.dispatchEvent(new Event('keyup', {bubbles: true}));",
        words,
    )
    for _ in range(100):
        found = opened.run("return document.querySelector('.md-search-result__item')?.textContent ?? ''")
        if found:
            return str(found)
        time.sleep(0.1)
    return ""
