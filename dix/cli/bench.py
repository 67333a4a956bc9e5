"""`dix bench`: what methods and metrics cost on this machine, and what the usual ways cost."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from dix.bench.run import runtime
from dix.bench.run.job import Job
from dix.classifier import Classifier
from dix.cli.bench_files import NUMBERS, compared, written
from dix.cli.config import composed
from dix.cli.options import add_overrides, overrides_of
from dix.cli.session import open_job
from dix.seeding import generator

#: What `dix bench libraries` times where nothing is chosen: the methods that a library has, on a small network.
LIBRARIES_DEFAULT = {"method": "[ac,fg,gig,big]", "model": "efficientnet_lite0", "model.weights": "random"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to time."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="methods|libraries|metrics|networks")
    methods = kinds.add_parser("methods", help="seconds an image, passes and their floor, the library, the literal way")
    add_overrides(methods, "model=resnet101 model.weights=random method=[dix3,gc] ...")
    methods.add_argument("--batch", type=int, default=8, help="images explained together")
    methods.add_argument("--literal", type=int, default=2, help="steps of DIX's literal way, scaled up; 0: none")
    methods.add_argument(
        "--steps", type=int, default=4, help="of longer paths (IG, GIG, BIG), and twice as many: a line; 0: all"
    )
    methods.add_argument("--no-libraries", action="store_true", help="leave out what grad-cam and saliency take")
    libraries = kinds.add_parser("libraries", help="AC and FG compared with grad-cam, GIG and BIG with saliency")
    add_overrides(libraries, "default: model=efficientnet_lite0 model.weights=random method=[ac,fg,gig,big]")
    libraries.add_argument("--batch", type=int, default=8, help="images explained together by this suite")
    libraries.add_argument("--steps", type=int, default=3, help="steps of GIG and BIG, on both sides")
    metrics = kinds.add_parser("metrics", help="every metric, and SIC and AIC compared with saliency")
    metrics.add_argument("--side", type=int, default=224, help="images' height and width in pixels")
    metrics.add_argument("--images", type=int, default=3, choices=(1, 2, 3))
    networks = kinds.add_parser("networks", help="passes a second: plain, channels last, folded, compiled, ...")
    add_overrides(networks, "model=resnet101 model.weights=random")
    networks.add_argument("--batch", type=int, default=8, help="images in one pass")
    for kind in (methods, networks):
        kind.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there, too")
        kind.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="only compare two such files")


def main(arguments: argparse.Namespace) -> int:
    """Print the machine and the table, each row as it comes."""
    if getattr(arguments, "compare", None):
        print(*compared(*arguments.compare), sep="\n")
        return 0
    kinds = {"methods": _methods, "libraries": _libraries, "metrics": _metrics, "networks": _networks}
    return kinds[arguments.kind](arguments)


def _methods(arguments: argparse.Namespace) -> int:
    from dix.bench.run.speed import HEADER, Effort, bench, no_library
    from dix.cli.bench_libraries import library_seconds

    chosen = open_job(composed([*overrides_of(arguments), "metric=[]"]))
    model = chosen.classifier
    effort = Effort(arguments.batch, chosen.chunk, steps=arguments.steps, literal=arguments.literal)
    print(f"{_where(model)}; batch {effort.batch}, chunk {effort.chunk}\n{HEADER}", flush=True)
    setting = _setting("methods", chosen, effort.batch) | {"chunk": str(effort.chunk), "steps": str(effort.steps)}
    asked = no_library if arguments.no_libraries else partial(library_seconds, model)
    rows = []
    for row in bench(model, chosen.methods, effort, asked):
        print(row, flush=True)
        numbers = {name: f"{getattr(row, name):.6g}" for name in NUMBERS}
        rows.append(setting | numbers | {"row": row.method, "note": row.note})
        _keep(arguments.csv, rows)
    return 0


def _where(model: Classifier) -> str:
    return f"{runtime.machine(model.device)}; {model.name}, weights: {model.weights.source}"


def _setting(kind: str, job: Job, batch: int) -> dict[str, str]:
    """What a row of a file hangs on."""
    model = job.classifier
    return {
        "kind": kind,
        "model": model.name,
        "weights": model.weights.source,
        "dtype": str(model.dtype).removeprefix("torch."),
        "batch": str(batch),
        "machine": runtime.machine(model.device),
        "torch": torch.__version__,
    }


def _keep(path: Path | None, rows: Sequence[Mapping[str, str]]) -> None:
    """All rows so far: what was measured before an interruption stays."""
    if path is not None:
        written(path, rows)


def _libraries(arguments: argparse.Namespace) -> int:
    from dix.cli.bench_libraries import library_timings

    given = overrides_of(arguments)
    named = {word.split("=")[0] for word in given}
    defaults = [f"{key}={value}" for key, value in LIBRARIES_DEFAULT.items() if key.split(".")[0] not in named]
    chosen = open_job(composed([*defaults, *given, "metric=[]", "run.threads=1", "run.device=cpu"]))
    torch.set_flush_denormal(True)  # random weights saturate the softmax: its tiny gradients would slow both sides down
    model = chosen.classifier
    size = model.input_size
    images = torch.rand(arguments.batch, 3, size, size, generator=generator(0, "bench"))
    print(f"{runtime.machine(model.device)}; {model.name}, weights: {model.weights.source}; batch {arguments.batch}")
    print(f"{'':<6} {'here':>9} {'library':>9} {'ratio':>9}  CPU seconds an image", flush=True)
    for row in library_timings(model, dict(chosen.methods), images, arguments.steps):
        print(row, flush=True)
    return 0


def _networks(arguments: argparse.Namespace) -> int:
    from dix.bench.run.rates import HEADER, rates

    job = open_job(composed([*overrides_of(arguments), "method=[]", "metric=[]"]))
    print(f"{_where(job.classifier)}; batch {arguments.batch}\n{HEADER}", flush=True)
    rows = []
    for rate in rates(job.classifier, arguments.batch):
        print(rate, flush=True)
        if not rate.reason:
            found = {"row": rate.way, "seconds": f"{1 / rate.forwards:.6g}"}
            rows.append(_setting("networks", job, arguments.batch) | found)
            _keep(arguments.csv, rows)
    return 0


def _metrics(arguments: argparse.Namespace) -> int:
    from dix.cli.bench_metrics import report

    return report(arguments.side, arguments.images)
