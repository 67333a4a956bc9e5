"""What each method can explain, what it costs, and how it looks: docs/methods/measured.json and pictures/ beside it.

    python scripts/measure_methods.py               # the methods that have not been counted yet
    python scripts/measure_methods.py gc dix3       # these, anew

One photo (scikit-image's cat), the embedded networks, the predicted class. The cost is counted, not timed: the
operations of convolutions and matrix products for one map, clean pass and gradients included, over those of one forward
pass, so it is the same on any machine and under any load. Methods that differ only in settings which cost nothing are
counted once. The site's pages are made of the file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dix.bench.run.job import Job
from dix.bench.run.speed import Flops, forward_flops
from dix.cli.config import composed, options
from dix.cli.construct import job_of
from dix.explainer import Explainer
from dix.maps import faults, resize
from dix.passes import Passes
from dix.pictures import overlay, without_peaks

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "methods"
MODELS = ("efficientnet_lite0", "vit_small_embedded")
PHOTO = "chelsea.png"
#: Side of a picture and its quality: all of them together stay below 1 MB.
SIDE, QUALITY = 224, 70
#: Methods that would take many minutes, with fewer samples; their pages say so.
FEWER: dict[str, dict[str, Any]] = {"rise": {"masks": 500}, "gig_pair": {"steps": 50}}
#: Methods that take long, last.
LAST = ("smooth_grad", "big", "gig", "gig_pair", "rise", "score_cam")
#: Settings that cost nothing.
FREE = {"label", "extra", "phi", "combine", "normalise"}
#: How many blocks from the end methods take attention from and go on behind it.
DEEPEST = 3


@dataclass
class Bench:
    """A network with the photo. costs: of methods by what decides them, in forward passes."""

    job: Job
    costs: dict[Hashable, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        index = list(self.job.dataset.ids).index(PHOTO)
        self.image = self.job.preprocess.image(self.job.dataset.read(index).image)[None]
        self.shared = self.passes()
        self.forward = forward_flops(self.job.classifier, self.image)
        classifier = self.job.classifier
        for layer in {*classifier.layers.values(), *classifier.attention_layers[-DEEPEST:]}:
            classifier.tail(layer)  # recorded once for a network: no method's cost

    def passes(self) -> Passes:
        """The photo under explanation, nothing computed yet."""
        return Passes(self.job.classifier, self.image, ids=[PHOTO])

    def method(self, name: str) -> Explainer:
        """A method by its name, with fewer samples where it would take too long."""
        return dataclasses.replace(self.job.methods[name], **FEWER.get(name, {}))  # type: ignore[type-var]

    def measured(self, name: str) -> dict[str, Any]:
        """The reason why the method cannot explain the network, or its cost and the settings that were changed."""
        method = self.method(name)
        if reason := method.unsupported(self.job.classifier):
            return {"reason": reason}
        maps = self.explained(method)
        if faults(maps)[0] == "not finite":
            return {"reason": "its map is not finite"}
        draw(maps, self.image, picture(name, self.job.classifier.name))
        cost = self.costs[decides(method)]
        return {"forwards": cost, **({"settings": FEWER[name]} if name in FEWER else {})}

    def explained(self, method: Explainer) -> Tensor:
        """The photo's map [1, h, w]; what it costs is counted unless it is known."""
        key = decides(method)
        if key in self.costs:
            return method.explain(self.shared)
        with Flops() as counter:
            maps = method.explain(self.passes())
        self.costs[key] = float(f"{counter.count / self.forward:.2g}")
        return maps


def main(names: Sequence[str]) -> None:
    """Measure and write after each method, so that a long run may be ended and gone on with."""
    torch.set_num_threads(1)
    path, everything = FOLDER / "measured.json", options("method")
    old: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {name: found for name, found in old.items() if name in everything}
    wanted = list(names) or sorted(set(everything) - set(known), key=lambda name: (name in LAST, name))
    if not wanted:
        return
    kept = {name: found for name, found in known.items() if name not in wanted}
    benches = {model: bench(model, everything, kept) for model in MODELS}
    for name in wanted:
        known[name] = {model: each.measured(name) for model, each in benches.items()}
        print(name, known[name], flush=True)
        path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def bench(model: str, names: Sequence[str], known: dict[str, Any]) -> Bench:
    """A network with what is known of the methods' costs."""
    words = [f"model={model}", "dataset=photos", "metric=[]", f"method=[{','.join(names)}]"]
    made = Bench(job_of(composed(words)))
    for name, found in known.items():
        if "forwards" in found[model]:
            made.costs[decides(made.method(name))] = found[model]["forwards"]
    return made


def decides(method: Explainer) -> Hashable:
    """What decides a method's cost: its class and its settings, but for those that cost nothing."""
    fields = dataclasses.fields(method)  # type: ignore[arg-type]
    return type(method), tuple(repr(getattr(method, each.name)) for each in fields if each.name not in FREE)


def picture(name: str, model: str) -> Path:
    """Where a map's picture lies."""
    return FOLDER / "pictures" / f"{name}-{model}.webp"


def draw(maps: Tensor, image: Tensor, path: Path) -> None:
    """The map over its photo, as `dix explain` draws it."""
    large = resize(maps.detach().float(), (image.shape[-2], image.shape[-1]))[0]
    pixels = overlay(image[0].numpy().astype(np.float64), without_peaks(large.numpy().astype(np.float64)))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(path, quality=QUALITY, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="METHOD", help="default: those not measured yet")
    main(parser.parse_args().names)
