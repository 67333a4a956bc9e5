"""`dix bench`: what methods and metrics cost on this machine, and what the usual ways cost."""

from __future__ import annotations

import argparse

import torch

from dix.bench.run import runtime
from dix.cli.config import composed
from dix.cli.options import add_overrides, overrides_of
from dix.cli.session import open_job
from dix.seeding import generator

#: What `dix bench libraries` times where nothing is chosen: the methods that a library has, on a small network.
LIBRARIES_DEFAULT = {"method": "[ac,fg,gig,big]", "model": "efficientnet_lite0", "model.weights": "random"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to time."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="methods|libraries|metrics|networks")
    methods = kinds.add_parser("methods", help="images per second and forwards, compared with the literal way")
    add_overrides(methods, "model=resnet101 model.weights=random method=[dix3,gc] ...")
    methods.add_argument("--batch", type=int, default=8, help="images explained together")
    methods.add_argument("--literal", type=int, default=1, help="images that the literal way explains; 0: none")
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


def main(arguments: argparse.Namespace) -> int:
    """Print the machine and the table."""
    return {"methods": _methods, "libraries": _libraries, "metrics": _metrics, "networks": _networks}[arguments.kind](
        arguments
    )


def _methods(arguments: argparse.Namespace) -> int:
    from dix.bench.run.speed import as_text, bench

    chosen = open_job(composed(overrides_of(arguments)))
    model = chosen.classifier
    print(f"{runtime.machine(model.device)}; {model.name}, weights: {model.weights.source}; batch {arguments.batch}")
    rows = bench({model.name: model}, chosen.methods, arguments.batch, chosen.chunk, literal_images=arguments.literal)
    print(as_text(list(rows)))
    return 0


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

    model = open_job(composed([*overrides_of(arguments), "method=[]", "metric=[]"])).classifier
    print(f"{runtime.machine(model.device)}; weights: {model.weights.source}; batch {arguments.batch}")
    print(HEADER)
    for rate in rates(model, arguments.batch):
        print(rate, flush=True)
    return 0


def _metrics(arguments: argparse.Namespace) -> int:
    from dix.cli.bench_metrics import report

    return report(arguments.side, arguments.images)
