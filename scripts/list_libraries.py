"""Write the table of docs/libraries.md: every method of five libraries, tried on the embedded networks.

Each method explains one photo with few steps and samples, so that all take minutes. Seconds are CPU seconds of one
thread; beside them those of the suite's own method with the same steps, where it has one. Also LXT, on torchvision's
ViT-B/16 with random weights, since neither embedded network has the attention that LXT patches.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dix.baselines.cam import GradCam
from dix.baselines.path import BlurIntegratedGradients, GuidedIntegratedGradients, IntegratedGradients
from dix.baselines.wrap import Captum, Lxt, PytorchGradCam, Saliency, Zennit, captum, grad_cam, saliency, zennit
from dix.baselines.wrap.adapter import Adapter
from dix.bench.run import runtime
from dix.classifier import Classifier
from dix.cli.config import composed
from dix.cli.construct import build, job_of
from dix.explainer import Explainer
from dix.maps import faults
from dix.passes import Passes

#: Few steps and samples, by the argument's name.
FEW: Mapping[str, Any] = {
    "n_steps": 4, "n_samples": 4, "nt_samples": 2, "x_steps": 4, "steps": 4, "num_scales": 2, "n_iter": 2,
    "ratio_channels_to_ablate": 0.05, "size": 220, "extra_parameters": {"steps": 2, "algorithm": "fast"},
}  # fmt: skip
#: The suite's own methods, with the same steps, by the adapter's label.
OWN: Mapping[str, Explainer] = {
    "GradCAM (grad-cam)": GradCam(),
    "LayerGradCam (captum)": GradCam(),
    "GradCam (saliency)": GradCam(),
    "IntegratedGradients (captum)": IntegratedGradients(steps=4, score="logit"),
    "IntegratedGradients (saliency)": IntegratedGradients(steps=4, rule="endpoints"),
    "GuidedIG (saliency)": GuidedIntegratedGradients(steps=4, fraction=0.25, max_dist=0.02),
    "BlurIG (saliency)": BlurIntegratedGradients(steps=4),
}
#: And by the name of their configuration.
CONFIGURED: Mapping[str, str] = {
    "GradCAMPlusPlus (grad-cam)": "gcpp_pgc",
    "XGradCAM (grad-cam)": "xgc",
    "LayerCAM (grad-cam)": "lc",
    "HiResCAM (grad-cam)": "hires_cam",
    "EigenCAM (grad-cam)": "eigen_cam",
    "ScoreCAM (grad-cam)": "score_cam",
    "InputXGradient (captum)": "input_x_gradient",
}
MODELS = ("efficientnet_lite0", "vit_small_embedded")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Tried:
    """What came of one method on one network. seconds, own: CPU seconds an image; None: not measured."""

    outcome: str
    seconds: float | None = None
    own: float | None = None

    def __str__(self) -> str:
        """A cell of the table."""
        if self.seconds is None:
            return self.outcome
        return f"{self.outcome}, {self.seconds:.2f} s" + ("" if self.own is None else f" (own {self.own:.2f} s)")


def adapters() -> Iterator[Adapter]:
    """Every method that the installed libraries offer, small."""
    for name in sorted(captum.offered()):
        probe = Captum(attribution=name, cells=2)
        yield Captum(attribution=name, cells=2 if name == "ShapleyValues" else 4, arguments=few(probe))
    for name in sorted(grad_cam.offered()):
        layer = "third" if name in ("ScoreCAM", "SESS") else "last"
        yield PytorchGradCam(cam=name, layer=layer, arguments=few(PytorchGradCam(cam=name)))
    for name in sorted(saliency.offered()):
        yield Saliency(method=name, arguments=few(Saliency(method=name)))
    yield Saliency(method="GradientSaliency", smoothed=True, arguments={"nsamples": 2})
    for name in sorted(zennit.offered()):
        yield Zennit(composite=name)
    for attributor in zennit.ATTRIBUTORS:
        probe_of = Zennit(composite="none", attributor=attributor)
        window = {"window": (3, 56, 56), "stride": (3, 56, 56)} if attributor == zennit.OCCLUDING else few(probe_of)
        yield Zennit(composite="none", attributor=attributor, arguments=window)
    yield from (Lxt(), Lxt(arguments={"conv_gamma": 0.25, "linear_gamma": 0.05}))


def few(probe: Any) -> dict[str, Any]:
    """Those of FEW that a method takes."""
    parts = [
        getattr(probe, name)()
        for name in ("_made_with", "_called_with", "_known", "_of_attributor")
        if hasattr(probe, name)
    ]
    known = {name for part in parts for name in part}
    return {name: value for name, value in FEW.items() if name in known}


def tried(method: Adapter, model: Classifier, image: torch.Tensor) -> Tried:
    """The method on one photo."""
    reason = method.unsupported(model)
    if reason:
        return Tried(f"no: {reason}")
    try:
        seconds, maps = timed(method, model, image)
    except Exception as error:  # whatever a library raises is what the table says
        return Tried(f"fails: {type(error).__name__}: {str(error).splitlines()[0]}")
    fault = faults(maps)[0]
    own = own_of(method)
    able = own is not None and not own.unsupported(model)
    return Tried(f"runs{f', {fault} map' if fault else ''}", seconds, timed(own, model, image)[0] if able else None)


def own_of(method: Adapter) -> Explainer | None:
    """The suite's own method of the same name, at the same layer."""
    if method.label in CONFIGURED:
        name = CONFIGURED[method.label]
        found: Any = build(composed([f"method=[{name}]"]).method[name], "method", f"method.{name}")
        return replace(found, layer=method.layer) if hasattr(found, "layer") else found  # type: ignore[no-any-return]
    return OWN.get(method.label)


def timed(method: Explainer, model: Classifier, image: torch.Tensor) -> tuple[float, torch.Tensor]:
    """CPU seconds and the map, everything that the method needs included."""
    start = time.process_time()
    maps = method.explain(Passes(model, image, ids=["photo"]))
    return time.process_time() - start, maps


def networks() -> dict[str, tuple[Classifier, torch.Tensor]]:
    """The embedded networks with the first photo."""
    found = {}
    for name in MODELS:
        job = job_of(composed([f"model={name}", "dataset=photos", "method=[]", "metric=[]"]))
        found[name] = job.classifier, job.preprocess.image(job.dataset.read(0).image)[None]
    return found


def lxts(image: torch.Tensor) -> tuple[str, Classifier, torch.Tensor]:
    """A network that LXT can patch, by its printed name."""
    node = "{_target_: dix.models.zoo.torchvision_model, name: vit_b_16, architecture: vit_b_16, weights: random}"
    vit: Classifier = build(omegaconf(node), "model", "model")
    head: Any = vit.network.get_submodule("heads.head")
    with torch.no_grad():  # torchvision begins with a head of zeros, which nothing explains
        head.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return "torchvision's vit_b_16 (random weights)", vit, image


def omegaconf(text: str) -> Any:
    """A node from a line of YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.create(text)


def rows(library: str) -> Iterator[str]:
    """A line of the table for each method of a library."""
    known = networks()
    for method in adapters():
        if method.library == library:
            cells = [tried(method, model, image) for model, image in known.values()]
            if library == "lxt":
                name, *about = lxts(known[MODELS[1]][1])
                cells[1] = Tried(f"{cells[1]}; on {name}: {tried(method, *about)}")
            line = f"| {library} | {method.name} | {' | '.join(map(str, cells))} |"
            print(line, flush=True)
            yield line


def _ran(cell: str) -> bool:
    """Whether a cell tells of a map that can be used."""
    return cell.startswith("runs") and "not finite" not in cell


def document(page: str, new: Mapping[str, Sequence[str]]) -> str:
    """The page with new lines of some libraries; the others keep theirs."""
    before, rest = page.split(START)
    old, after = rest.split(END)
    kept = {name: [line for line in old.splitlines() if line.startswith(f"| {name} |")] for name in LIBRARIES}
    lines = [line for name in LIBRARIES for line in new.get(name, kept[name])]
    runs = sum(all(_ran(cell) for cell in line.split(" | ")[2:]) for line in lines)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    machine = runtime.machine(torch.device("cpu"))
    head = HEAD.format(versions=versions, machine=machine, models=" | ".join(MODELS))
    return (
        f"{before}{START}{head}" + "\n".join(lines) + f"\n\n{runs} of {len(lines)} run on both networks.\n{END}{after}"
    )


LIBRARIES = ("captum", "grad-cam", "saliency", "zennit", "lxt")
#: The page's own words stand before and behind these.
START, END = "<!-- methods -->\n", "<!-- end of methods -->"
HEAD = """{versions}; {machine}. Written by `python scripts/list_libraries.py`.

| library | method | {models} |
| :-- | :-- | :-- | :-- |
"""


def main() -> int:
    """Write the lines of one library, or of all, into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="*", default=LIBRARIES, help=f"some of {', '.join(LIBRARIES)}; default all")
    chosen = parser.parse_args().libraries
    torch.set_num_threads(1)
    page = ROOT / "docs" / "libraries.md"
    for library in chosen:
        lines = list(rows(library))
        page.write_text(document(page.read_text(encoding="utf-8"), {library: lines}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
