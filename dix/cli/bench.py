"""`dix bench`: what methods and metrics cost on this machine, beside the ways they are usually computed."""

from __future__ import annotations

import argparse

import torch

from dix.bench.run import runtime
from dix.cli.config import composed, job
from dix.seeding import generator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to time."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="methods|libraries|metrics")
    methods = kinds.add_parser("methods", help="images per second and forward-equivalents, beside the literal way")
    methods.add_argument("overrides", nargs="*", help="model=resnet101 model.weights=random method=[dix3,gc] ...")
    methods.add_argument("--batch", type=int, default=8, help="images explained together")
    methods.add_argument("--literal", type=int, default=1, help="images that the literal way explains; 0: none")
    libraries = kinds.add_parser("libraries", help="AC and FG beside grad-cam, GIG and BIG beside saliency")
    libraries.add_argument("overrides", nargs="*", help="model=resnet101 model.weights=random method=[ac,fg,gig,big]")
    libraries.add_argument("--batch", type=int, default=8, help="images explained together by this suite")
    libraries.add_argument("--steps", type=int, default=3, help="steps of GIG and BIG, on both sides")
    metrics = kinds.add_parser("metrics", help="every metric, and SIC and AIC beside saliency")
    metrics.add_argument("--side", type=int, default=224, help="images' height and width in pixels")
    metrics.add_argument("--images", type=int, default=3, choices=(1, 2, 3))


def main(arguments: argparse.Namespace) -> int:
    """Print the machine and the table."""
    return {"methods": _methods, "libraries": _libraries, "metrics": _metrics}[arguments.kind](arguments)


def _methods(arguments: argparse.Namespace) -> int:
    from dix.bench.run.speed import as_text, bench

    chosen = job(composed(arguments.overrides))
    runtime.configure(chosen.run.threads, chosen.protocol.tf32, chosen.run.deterministic)
    device = runtime.choose_device(chosen.run.device)
    model = chosen.classifier.to(device, runtime.choose_dtype(chosen.protocol.dtype))
    print(f"{runtime.machine(device)}; {model.name}, weights: {model.weights.source}; batch {arguments.batch}")
    rows = bench({model.name: model}, chosen.methods, arguments.batch, chosen.chunk, literal_images=arguments.literal)
    print(as_text(list(rows)))
    return 0


def _libraries(arguments: argparse.Namespace) -> int:
    from dix.cli.bench_libraries import compare

    chosen = job(composed(arguments.overrides))
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # random weights saturate the softmax: its tiny gradients would slow both sides down
    runtime.keep_freed_memory()
    model = chosen.classifier
    size = model.input_size
    images = torch.rand(arguments.batch, 3, size, size, generator=generator(0, "bench"))
    print(f"{runtime.machine(model.device)}; {model.name}, weights: {model.weights.source}; batch {arguments.batch}")
    print(f"{'':<6} {'here':>9} {'library':>9} {'ratio':>9}  CPU seconds an image")
    for row in compare(model, dict(chosen.methods), images, arguments.steps):
        print(row, flush=True)
    return 0


def _metrics(arguments: argparse.Namespace) -> int:
    from dix.cli.bench_metrics import report

    return report(arguments.side, arguments.images)
