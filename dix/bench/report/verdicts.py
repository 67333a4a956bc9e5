"""Verdicts of runs that go on until all is decided: who is better, after how many images, and why it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

from dix.bench.report.csv import as_csv
from dix.bench.report.markdown import markdown_escape, markdown_table
from dix.bench.report.notes import NOTHING, decimals, signed
from dix.bench.tables.decide import Course, Held
from dix.bench.tables.sequential import AT_LOOKS, Verdict
from dix.bench.tables.table import Labels

RULE = (
    "The difference of each pair of methods was held against 0 while images came in a random order. A verdict holds at "
    "any time, or at the looks of a schedule; the probability that any of them is ever wrong is at most alpha. n: "
    "images that count in it; read: images of the order up to it, beyond which rows are kept and not read; the "
    "interval is that of the sequence at n, at the level of one comparison."
)
HEADER = ("Metric", "Pair", "better", "lead", "low", "high", "n", "read", "why it ended", "verdict holds")
FIELDS = ("protocol", "dataset", "model", "metric", "first", "second", "better", "kind", "reason", "n", "read", "lead")
MORE = ("low", "high", "level")


def courses_markdown(courses: Sequence[Course], labels: Labels) -> str:
    """A section for the table's page; nothing without courses."""
    if not courses:
        return ""
    parts = ["## Verdicts while running", RULE]
    for course in courses:
        rows = [[*map(markdown_escape, _row(verdict, labels))] for verdict in course.verdicts]
        body = markdown_table(HEADER, rows, 3)
        parts.append(f"### {markdown_escape(', '.join(course.block))}")
        parts.append(markdown_escape(_about(course)))
        parts.append(f"<details><summary>Every comparison</summary>\n\n{body}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def course_views(courses: Sequence[Course], labels: Labels) -> list[dict[str, object]]:
    """The same for the HTML page, whose template escapes every text."""
    return [
        {
            "title": ", ".join(course.block),
            "about": _about(course),
            "rows": [_row(verdict, labels) for verdict in course.verdicts],
        }
        for course in courses
    ]


def _about(course: Course) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in course.settings.items())
    return f"{settings}; {_counts(course.verdicts)}; {_work(course)}."


def _counts(verdicts: Sequence[Verdict]) -> str:
    """How many comparisons ended for which reason."""
    reasons = Counter(verdict.reason for verdict in verdicts)
    return f"{len(verdicts)} comparisons: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def _work(course: Course) -> str:
    """How much of the rows the verdicts needed."""
    whole = len(course.needed) * course.length
    share = 100 * sum(course.needed.values()) / whole if whole else np.nan
    return f"{decimals(share, 1)} % of the rows of {len(course.needed)} cells over {course.length:,} images were needed"


def _row(verdict: Verdict, labels: Labels) -> list[str]:
    metric, first, second = verdict.comparison
    better = labels.method(verdict.winner) if verdict.winner else NOTHING
    names = (labels.metric(metric), f"{labels.method(first)}, {labels.method(second)}", better)
    numbers = map(signed, (verdict.lead, verdict.low, verdict.high))
    return [*names, *numbers, str(verdict.n), str(verdict.read), verdict.reason, verdict.kind]


def courses_csv(courses: Iterable[Course]) -> str:
    """Every verdict as one line."""
    records = (
        (
            *course.block,
            *verdict.comparison,
            *(verdict.winner, verdict.kind, verdict.reason, verdict.n, verdict.read),
            *(verdict.lead, verdict.low, verdict.high, verdict.level),
        )
        for course in courses
        for verdict in course.verdicts
    )
    return as_csv((*FIELDS, *MORE), records)


def held_table(found: Sequence[Held], labels: Labels) -> str:
    """By metric: what was decided when, beside the verdict of all images and the fixed size for the same lead."""
    header = ["Metric", "holds", "pairs", "decided", "by all images", "contradict", "images", "fixed size", "ratio"]
    by_metric: dict[str, list[Held]] = {}
    for one in found:
        by_metric.setdefault(one.verdict.comparison.metric, []).append(one)
    rows = [_held_row(labels.metric(metric), own) for metric, own in by_metric.items()]
    return markdown_table(header, [*rows, _held_row("all", found)], 2)


def _held_row(name: str, own: Sequence[Held]) -> list[str]:
    decided = [one for one in own if one.verdict.winner]
    numbers = [(float(one.verdict.n), one.fixed, one.ratio) for one in decided] or [(np.nan,) * 3]
    middles = [median(values) for values in zip(*numbers, strict=True)]
    kinds = {one.verdict.kind for one in own}
    return [
        name,
        AT_LOOKS if kinds == {AT_LOOKS} else " or ".join(sorted(kinds)),
        *map(str, (len(own), len(decided), sum(bool(one.winner) for one in own))),
        str(sum(one.contradicts for one in own)),
        *(decimals(value, 0) for value in middles[:2]),
        decimals(middles[2]),
    ]
