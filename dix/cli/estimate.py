"""`dix estimate`: forwards, time, disk and memory of a run before it starts."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence

from dix.bench.run.calibrate import calibrate
from dix.bench.run.estimate import Forecast, Work, alike, forecast, joined, remaining_together
from dix.bench.run.job import Job
from dix.bench.run.prices import Prices
from dix.bench.run.workers import workers
from dix.bench.store.results import ResultStore
from dix.cli.config import together
from dix.cli.options import add_overrides, overrides_of
from dix.cli.session import open_jobs
from dix.cli.sweep import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A job as `dix run` takes it."""
    add_overrides(parser, "as for `dix run`; a sweep is summed over its jobs")
    parser.add_argument("--calibrate", type=int, default=2, metavar="N", help="images of the calibration (default 2)")
    parser.add_argument("--images", type=int, metavar="N", help="as if the data set had so many images")
    parser.add_argument(
        "--pilot",
        type=int,
        default=50,
        metavar="K",
        help="with run.until=decided: images from which the cost to a decision is foreseen; stored ones or, where "
        "there are fewer, a trial (default 50)",
    )


def main(arguments: argparse.Namespace) -> int:
    """Calibrate every job of the run and print what it will cost on this machine."""
    forecasts: list[Forecast] = []
    for words in expanded(overrides_of(arguments)):
        begun = time.perf_counter()
        configs = together(words)
        jobs = open_jobs(configs, [""] * len(configs))
        start, results = time.perf_counter() - begun, str(configs[0].run.results)
        forecasts += [_foreseen(group, results, arguments, start) for group in alike(jobs)]
    if len(forecasts) > 1:
        print(total(forecasts))
    return 0


def _foreseen(jobs: Sequence[Job], results: str, arguments: argparse.Namespace, start: float) -> Forecast:
    """The forecast of alike jobs, printed. start: seconds that opening them took."""
    begun = time.perf_counter()
    job, prices = _priced(jobs, arguments.calibrate, start)
    found = forecast(job, prices, _work(jobs, results, arguments.images))
    found = dataclasses.replace(found, job=found.job + "".join(f" + {other.protocol.name}" for other in jobs[1:]))
    print("\n".join(lines(found, time.perf_counter() - begun)), flush=True)
    if job.run.until == "decided":
        for one in jobs:
            own = prices if len(jobs) == 1 else _priced([one], arguments.calibrate, start)[1]
            print("\n".join(_until_decided(one, results, own, arguments.pilot)), flush=True)
    return found


def _priced(jobs: Sequence[Job], images: int, start: float) -> tuple[Job, Prices]:
    """Alike jobs as one, and what its parts cost."""
    job = joined(jobs)
    with workers(job.run.workers) as pool:
        return job, calibrate(job, images, pool, start=start)


def _until_decided(job: Job, results: str, prices: Prices, pilot: int) -> list[str]:
    """What a run until all is decided will cost, for people; the lines above it are then the most that it can."""
    from dix.bench.run.prospect import prospect  # imports the statistics, for which other forecasts need not wait

    begun = time.perf_counter()
    found = prospect(job, ResultStore(results), prices, pilot)
    low, middle, high = (duration(cost.total_seconds) for cost in found.forecasts)
    source = f"computed for it in {duration(time.perf_counter() - begun)}" if found.own else "stored"
    needed = ", ".join(f"{name} {images:,}" for name, images in found.needed.items())
    return [
        f"  until decided   {middle} ({low} to {high} in four of five resamples of a pilot), from the first image on",
        f"  pilot           {found.images:,} images, {source}",
        f"  comparisons     {found.decided:,} of {found.comparisons:,} probably decided before the last image",
        f"  most images     {needed}",
    ]


def _work(jobs: Sequence[Job], results: str, pretended: int | None) -> Work:
    """What is left of alike jobs, or all of it on so many images."""
    if pretended is None:
        return remaining_together(jobs, ResultStore(results))
    job, work = joined(jobs), Work()
    able = set(job.methods) - set(job.unsupported())
    count = pretended if job.run.limit is None else min(pretended, job.run.limit)
    cells = [(method, metric) for method in job.methods if method in able for metric in job.metrics]
    work.add(job, count, cells, [] if cells else sorted(able))
    return dataclasses.replace(work, batches=-(-count // job.run.batch_size))


def lines(found: Forecast, calibration: float) -> list[str]:
    """A forecast for people."""
    if not found.images:
        return [f"{found.job}: everything is stored already"]
    phases: dict[str, float] = {}
    for name, seconds in found.seconds.items():
        phase = name.split(" ")[0]
        phases[phase] = phases.get(phase, 0.0) + seconds
    slowest = sorted(found.seconds.items(), key=lambda item: -item[1])[:4]
    return [
        f"{found.job}: {found.images:,} images, {found.rows:,} rows",
        f"  model forwards  {found.forwards:,} for metrics, {found.explain_forwards:,} for methods",
        f"  time            {duration(found.total_seconds)}"
        f" ({', '.join(f'{name} {duration(seconds)}' for name, seconds in phases.items())})",
        f"  most of it      {', '.join(f'{name} {duration(seconds)}' for name, seconds in slowest)}",
        f"  disk, memory    about {size(found.disk)}, {size(found.memory)}",
        f"  calibrated in   {duration(calibration)}",
    ]


def total(forecasts: Sequence[Forecast]) -> str:
    """A sweep's sums: jobs one after the other."""
    forwards = sum(found.forwards + found.explain_forwards for found in forecasts)
    seconds, disk = (sum(getattr(found, name) for found in forecasts) for name in ("total_seconds", "disk"))
    most = max(found.memory for found in forecasts)
    return (
        f"all {len(forecasts)} jobs, one after the other: {forwards:,} forwards, {duration(seconds)}, "
        f"{size(disk)} of disk, {size(most)} of memory at most"
    )


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 599.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return (
        f"{minutes:.0f} min"
        if minutes < 99.5
        else f"{minutes / 60:.1f} h"
        if minutes < 6000
        else f"{minutes / 1440:.0f} d"
    )


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
