"""What result sets were made with, side by side: the facts in which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dix.bench.report.notes import NOTHING, flatten
from dix.bench.tables.table import Evidence

#: What is printed with numbers because they depend on it.
FACTS = ("weights", "images", "machine", "versions", "encoders", "commit")


def unlike(sets: Sequence[Evidence]) -> list[tuple[str, list[str]]]:
    """Facts in which sets differ, each with what every set says; a dash where one says nothing.

    Names of protocols and of classes are facts as well, with their settings and versions.
    """
    found = [dict(facts_of(evidence)) for evidence in sets]
    names = dict.fromkeys(name for facts in found for name in facts)
    rows = [(name, [facts.get(name, NOTHING) for facts in found]) for name in names]
    return [(name, texts) for name, texts in rows if len(set(texts)) > 1]


def facts_of(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Everything that a set's numbers depend on, by dotted name."""
    about = evidence.provenance
    yield from _protocols(about.get("protocol", {}))
    yield from _versions(evidence.cells)
    for name in FACTS:
        if about.get(name):
            yield from flatten(about[name], name)


def _protocols(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """A single protocol's settings without its name, so that those of two protocols stand side by side."""
    yield "protocol", ", ".join(settings)
    yield from flatten(next(iter(settings.values())) if len(settings) == 1 else settings, "protocol")


def _versions(cells: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Class and version of every method and metric, which change when their numbers do."""
    for kind in ("method", "metric"):
        found: dict[str, dict[str, None]] = {}
        for cell in cells:
            said = cell.get("identity", {}).get(kind)
            if isinstance(said, Mapping) and "class" in said:
                found.setdefault(str(cell[kind]), {})[f"{said['class']} version {said.get('version')}"] = None
        yield from ((f"{kind} {name}", ", ".join(texts)) for name, texts in sorted(found.items()))
