"""What the code knows of each method and metric, as Markdown for the site's pages."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from dix.bench.run.settings import ScoreProtocol
from dix.cli.config import CONF, files
from dix.cli.listing import FACTS, about, facts
from dix.metrics.api import Case, ImageBatch, Prediction

DOCS = Path(__file__).resolve().parent.parent / "docs"
KINDS = ("method", "metric")
#: A setting that a metric has of the protocol.
PROTOCOLS = re.compile(r"\$\{protocol\.(\w+)\}")
#: A line of a page that is replaced by what the code knows of these parts, as in <!-- methods: gc gcpp -->.
MARKER = re.compile(r"^<!-- (method|metric)s: ([\w ]+) -->$", re.MULTILINE)
#: Fields that every part has, and that are told elsewhere on its page.
TOLD = {"label", "extra", "version"}
NETWORKS = {"efficientnet_lite0": "CNN (EfficientNet-Lite0)", "vit_small_embedded": "Vision Transformer (ViT-S/14)"}


@dataclass(frozen=True)
class Part:
    """A method or metric as its YAML file has it.

    kind: "method" or "metric". about: the file's first line. node: class and arguments. facts: its paper, what it was
    verified against, how it deviates, as far as the file says so.
    """

    kind: str
    name: str
    about: str
    node: Mapping[str, Any]
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def target(self) -> type:
        """The class."""
        module, _, name = str(self.node["_target_"]).rpartition(".")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]

    @property
    def label(self) -> str:
        """The name that tables print."""
        own = getattr(self.target, "label", "")
        return str(self.node.get("label") or (own if isinstance(own, str) else "") or self.name)


@cache
def parts(kind: str) -> dict[str, Part]:
    """All parts of a kind by name, in the order of `dix list`."""
    return {name: part(kind, name, path) for name, path in files(kind).items()}


def part(kind: str, name: str, path: Path) -> Part:
    """The part that a YAML file describes."""
    [node] = yaml.safe_load(path.read_text(encoding="utf-8")).values()
    return Part(kind, name, about(path), node, facts(path))


def folder(kind: str) -> Path:
    """Where the pages of a kind lie."""
    return DOCS / f"{kind}s"


def claimed(kind: str) -> dict[str, Path]:
    """By part, the hand-written page that has its marker. Raises ValueError where two pages claim one, or none is."""
    found: dict[str, Path] = {}
    for page in sorted(folder(kind).glob("*.md")):
        for marked, names in MARKER.findall(page.read_text(encoding="utf-8")):
            for name in names.split():
                if marked != kind or name not in parts(kind) or name in found:
                    raise ValueError(f"{page.name}: {marked} {name} is not there, or has a page already")
                found[name] = page
    return found


def unclaimed(kind: str) -> list[str]:
    """Parts that no hand-written page describes: their pages hold what the code knows, and no more."""
    return [name for name in parts(kind) if name not in claimed(kind)]


def page_of(kind: str, name: str) -> str:
    """The file name of the page on which a part is found."""
    page = claimed(kind).get(name)
    return page.name if page else f"{name}.md"


def bare_page(kind: str, name: str) -> str:
    """A page of nothing but what the code knows."""
    return f"# {escaped(parts(kind)[name].label)}\n\n<!-- {kind}s: {name} -->\n"


def filled(text: str) -> str:
    """A page with its markers replaced."""
    text = MARKER.sub(lambda found: "\n".join(together([parts(found[1])[name] for name in found[2].split()])), text)
    for kind in KINDS:
        place = re.search(rf"^.*<!-- table of {kind}s -->$", text, re.MULTILINE)
        text = text.replace(place[0], "\n".join(table(kind))) if place else text
    return text


def table(kind: str) -> Iterator[str]:
    """Every part of a kind with its page, a line each."""
    yield f"| {kind} | printed | what it is |"
    yield "| :-- | :-- | :-- |"
    for name, each in parts(kind).items():
        yield f"| [`{name}`]({page_of(kind, name)}#{name}) | {escaped(each.label)} | {escaped(each.about)} |"


def together(family: Sequence[Part]) -> Iterator[str]:
    """What the code knows of parts on one page: of the second of a class only what is different."""
    first: dict[type, Part] = {}
    for each in family:
        yield described(each, first.get(each.target))
        first.setdefault(each.target, each)


def described(each: Part, like: Part | None = None) -> str:
    """What the code knows of one part. like: another part of its class, described before."""
    own = method_facts(each) if each.kind == "method" else metric_facts(each)
    said = [f"- {words}: {escaped(each.facts[key])}" for key, words in FACTS.items() if key in each.facts]
    head = [f"## `{each.name}` {{ #{each.name} }}", "", escaped(each.about), "", *own, *said, ""]
    words = [f"As [`{like.name}`](#{like.name}), but for:", ""] if like else [*docstring(each.target), ""]
    return "\n".join([*head, *pictures(each), "", *words, *settings(each, like), ""])


def method_facts(each: Part) -> Iterator[str]:
    """Names, and what it explains at what cost."""
    target = each.target
    yield f"- printed as **{escaped(each.label)}**; class `{target.__module__}.{target.__qualname__}`"
    yield f"- {'beside' if each.node.get('extra', getattr(target, 'extra', False)) else 'in'} the thesis's tables"
    for network, words in NETWORKS.items():
        found = measured().get(each.name, {}).get(network)
        yield f"- {words}: {'not measured yet' if found is None else _cost(found)}"


def _cost(found: Mapping[str, Any]) -> str:
    if "reason" in found:
        return f"no: {escaped(found['reason'])}"
    changed = ", ".join(f"{key} = {value}" for key, value in found.get("settings", {}).items())
    count = f"about {found['forwards']:g}" if found["forwards"] >= 0.1 else "next to no"
    cost = f"{count} forward passes an image"
    return f"explains it, for {cost}{f' with {changed}' if changed else ''}"


def metric_facts(each: Part) -> Iterator[str]:
    """Names, direction, and what it needs."""
    target: Any = each.target
    ways = {True: "higher is better", False: "lower is better", None: "neither end is better"}
    yield f"- printed as **{escaped(each.label)}**; class `{target.__module__}.{target.__qualname__}`"
    yield f"- {ways[target.higher_is_better]}; {'beside' if target.extra else 'in'} the thesis's tables"
    yield f"- {'needs a truth mask' if target.needs_mask else 'needs no truth mask'}"
    count = forwards(each)
    yield f"- {f'shows the network {count} altered images for each map' if count else 'asks the network nothing'}"


def made(each: Part) -> Any:
    """A metric as an object, under the protocol `thesis`."""
    stated = yaml.safe_load((CONF / "protocol" / "thesis.yaml").read_text(encoding="utf-8"))
    settings = {field.name: field.default for field in dataclasses.fields(ScoreProtocol)} | stated
    given = {key: value for key, value in each.node.items() if key != "_target_"}
    asked = {key: found[1] for key, value in given.items() if (found := PROTOCOLS.fullmatch(str(value)))}
    return each.target(**given | {key: settings[name] for key, name in asked.items()})


def forwards(each: Part) -> int:
    """How many altered images the network is shown for one map, counted on an image of 32 x 32 pixels."""
    probe, seen = made(each).probe, 0

    def predict(images: torch.Tensor, targets: torch.Tensor, **_: Any) -> Prediction:
        nonlocal seen
        seen += len(images)
        return Prediction(torch.full((len(images),), 0.5), torch.zeros(len(images), dtype=torch.int64))

    images = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    clean = Prediction(torch.full((1,), 0.5), torch.zeros(1, dtype=torch.int64))
    batch = ImageBatch(["0"], images, torch.zeros(1, dtype=torch.int64), clean, torch.zeros(1, dtype=torch.int64))
    if probe is not None:
        probe.trace(Case(batch, images[:, 0]), predict)
    return seen


def docstring(target: type) -> Iterator[str]:
    """The class's own words, without the paragraphs that are about its settings."""
    fields = names_of(target)
    for paragraph in (inspect.getdoc(target) or "").split("\n\n"):
        if not _starts(paragraph, fields):
            yield from (f"> {escaped(' '.join(paragraph.split()))}", ">")


def settings(each: Part, like: Part | None = None) -> Iterator[str]:
    """A table of the class's settings: what this part has, and what they mean; like: those that it has otherwise."""
    fields = [field for field in dataclasses.fields(each.target) if field.name not in TOLD]
    if like:
        fields = [field for field in fields if _value(each, field) != _value(like, field)]
    if not fields:
        return
    meanings = documented(each.target)
    yield "| setting | here | meaning |"
    yield "| :-- | :-- | :-- |"
    for field in fields:
        meaning = meanings.get(field.name, "")
        yield f"| `{field.name}` | {_shown(_value(each, field))} | {escaped(meaning)} |"


def _value(each: Part, field: Any) -> Any:
    if field.name in each.node:
        return each.node[field.name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _shown(value: Any) -> str:
    if isinstance(value, str) and (found := PROTOCOLS.fullmatch(value)):
        return f"the protocol's `{found[1]}`"
    return f"`{_plain(value)}`".replace("|", "\\|")


def _plain(value: Any) -> str:
    """A value as YAML has it; a node that names a class as that class would be called."""
    if isinstance(value, Mapping) and "_target_" in value:
        given = ", ".join(f"{key}={each}" for key, each in value.items() if key != "_target_")
        return f"{str(value['_target_']).rpartition('.')[2]}({given})"
    return str(value).lower() if isinstance(value, bool) else str(value)


def names_of(target: type) -> list[str]:
    """The settings of a class."""
    return [field.name for field in dataclasses.fields(target)]


def documented(target: type) -> dict[str, str]:
    """By setting, what the docstring of the class says of it, or else that of a class it is made from."""
    found: dict[str, str] = {}
    for base in target.__mro__:
        for name, text in _said(inspect.cleandoc(base.__doc__ or ""), names_of(target)):
            found.setdefault(name, text)
    return found


def _said(text: str, fields: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of name and meaning from sentences such as "steps: N. rule, path: the quadrature."."""
    for paragraph in re.split(r"\n\s*\n", text):
        joined = " ".join(paragraph.split())
        marks = list(_marks(joined, fields))
        for mark, after in zip(marks, [*marks, None][1:], strict=True):
            meaning = joined[mark.end() : after.start() if after else None].strip()
            yield from ((name, meaning) for name in mark[1].split(", "))


def _marks(text: str, fields: list[str]) -> Iterator[re.Match[str]]:
    either = "|".join(map(re.escape, fields))
    return re.finditer(rf"(?<![\w`.])((?:{either})(?:, (?:{either}))*)(?: \([^()]*\))?: ", text)


def _starts(paragraph: str, fields: list[str]) -> bool:
    words = " ".join(paragraph.split()).removeprefix("Attributes: ").removeprefix("Args: ")
    return any(mark.start() == 0 for mark in _marks(words, fields)) if fields else False


def pictures(each: Part) -> Iterator[str]:
    """The maps of one photo, where there are some."""
    found = [(each.name, network) for network in NETWORKS if picture(each.name, network).exists()]
    if each.kind != "method" or not found:
        return
    yield '<div class="maps">'
    for name, network in found:
        words = f"{each.label}, {NETWORKS[network]}"
        yield f'<figure><img src="pictures/{name}-{network}.webp" alt="{words}" width="224" height="224">'
        yield f"<figcaption>{NETWORKS[network]}</figcaption></figure>"
    yield "</div>"


def picture(name: str, network: str) -> Path:
    """Where scripts/measure_methods.py put a map."""
    return folder("method") / "pictures" / f"{name}-{network}.webp"


@cache
def measured() -> dict[str, Any]:
    """What scripts/measure_methods.py found out."""
    return json.loads((folder("method") / "measured.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def escaped(text: str) -> str:
    """Plain text as Markdown, its `code` left alone."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_<>|\[\]$#])", r"\\\1", p) for p in pieces)
