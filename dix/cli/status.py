"""`dix status`: how far an experiment is, across all its jobs, from its results folder alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence

from dix.bench.store.cells import Group
from dix.bench.store.doubts import doubts
from dix.bench.store.results import ResultStore
from dix.bench.store.status import CellStatus, Status, survey
from dix.cli.folders import results_folder
from dix.cli.options import add_config_dir, folders_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results, and how to print them."""
    parser.add_argument("results", metavar="NAME", help="a results folder, or its name under results/")
    parser.add_argument("--json", action="store_true", help="print numbers for programs")
    add_config_dir(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print the progress; 0 where nothing is missing, failed or in doubt, 1 otherwise."""
    folders_of(arguments)  # checked as by every command; the stored records say all that is needed
    folder = results_folder(arguments.results)
    status = survey(ResultStore(folder))
    if arguments.json:
        more = {"missing": status.total("missing"), "doubts": doubts(status)}
        print(json.dumps(dataclasses.asdict(status) | more, indent=1))
    else:
        print("\n".join(lines(status, folder.name)))
    return 1 if status.incomplete or status.broken or not status.sound else 0


def lines(status: Status, name: str) -> Iterator[str]:
    """The progress for people: totals, jobs, and a table for each model, data set and protocol."""
    done, expected = status.total("done"), status.total("expected")
    yield f"{name}: {done:,} of {expected:,} rows ({_percent(done, expected)}), {_counts(status)}"
    yield f"jobs: {_jobs(status)}"
    for key, message in status.broken.items():
        yield f"failed: {key}: {message.splitlines()[0] if message else ''}"
    yield from doubts(status)
    yield from (f"mixed: {line}" for line in status.mixtures)
    for group in dict.fromkeys(cell.group for cell in status.cells):
        yield ""
        yield from _block(group, [cell for cell in status.cells if cell.group == group])
    if status.incomplete:
        yield ""
        yield "done/expected images; * being computed, !n failed, ?n unreadable"


def _counts(status: Status) -> str:
    counts = [f"{status.total(what):,} {what}" for what in ("missing", "failed", "unread") if status.total(what)]
    return ", ".join(counts) or "complete"


def _jobs(status: Status) -> str:
    parts = [f"{count} {state}" for state, count in status.jobs.items() if count]
    begun = sum(status.jobs.values())
    if status.planned > begun:
        parts.append(f"{status.planned - begun} of the last sweep not begun")
    if status.rate:
        parts.append(f"{status.rate:.3g} images/s")
    if status.seconds_left is not None:
        parts.append(f"about {_duration(status.seconds_left)} left for those that run")
    return ", ".join(parts) or "none on record"


def _block(group: Group, cells: Sequence[CellStatus]) -> Iterator[str]:
    """One line a method, one column a metric."""
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    methods = list(dict.fromkeys(cell.method for cell in cells))
    texts = {(cell.method, cell.metric): _cell(cell) for cell in cells}
    widths = [max(len(name), *(len(texts.get((m, name), "")) for m in methods)) for name in metrics]
    first = max(len(name) for name in methods)
    yield group.title
    yield "  ".join(["", " " * first, *(name.rjust(width) for name, width in zip(metrics, widths, strict=True))])
    for method in methods:
        own = [texts.get((method, name), "").rjust(width) for name, width in zip(metrics, widths, strict=True)]
        yield "  ".join(["", method.ljust(first), *own])


def _cell(cell: CellStatus) -> str:
    text = str(cell.done) if cell.done >= cell.expected else f"{cell.done}/{cell.expected}"
    marks = ("*" if cell.running else "", f"!{cell.failed}" if cell.failed else "")
    return text + "".join(marks) + (f"?{cell.unread}" if cell.unread else "")


def _percent(done: int, expected: int) -> str:
    return f"{100 * done / expected:.1f} %" if expected else "nothing expected"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
