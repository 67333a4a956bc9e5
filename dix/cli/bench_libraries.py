"""Time baselines against the library that people use for them: the same network, images and steps, in one run.

CPU seconds of this process on one thread, so that other work on the machine counts as little as can be.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dix.baselines.wrap import PytorchGradCam
from dix.bench.run.speed import seconds
from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.extras import MissingExtra, optional
from dix.passes import Passes

#: Share of the channels that grad-cam ablates here; its time is scaled to all of them.
ABLATED = 1 / 32


@dataclass(frozen=True)
class LibraryTiming:
    """Seconds per image of one method, ours and the library's. note: how the library's time was got."""

    method: str
    ours: float
    library: float
    note: str

    def __str__(self) -> str:
        """One line."""
        ratio = self.library / self.ours
        return f"{self.method:<6} {self.ours:9.3f} {self.library:9.3f} {ratio:8.1f}x  {self.note}"


def library_timings(
    classifier: Classifier, methods: dict[str, Any], images: Tensor, steps: int
) -> Iterator[LibraryTiming]:
    """Compare those of `methods` that a library has, explaining images [B, 3, S, S].

    steps: of GIG and BIG on both sides, few, since the library needs minutes for the usual numbers.
    """
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # the libraries show bars of their own
        warnings.simplefilter("ignore")
        _grad_cam(), _saliency()  # imported before anything is timed
        for name, method in methods.items():
            if name in LIBRARIES:
                yield _timing(classifier, method, name, images, steps)


def _timing(classifier: Classifier, method: Any, name: str, images: Tensor, steps: int) -> LibraryTiming:
    tried = replace(method, steps=steps) if hasattr(method, "steps") else method
    ours, reason = _ours(classifier, tried, images), _refused(classifier, name)
    if reason:
        return LibraryTiming(method.label, ours, float("nan"), reason)
    run, share, note = LIBRARIES[name]
    library = cpu(lambda: run(classifier, images[:1], steps)) / share
    return LibraryTiming(method.label, ours, library, note + (f", {steps} steps" if hasattr(method, "steps") else ""))


def _refused(classifier: Classifier, name: str) -> str:
    """Why the library cannot explain this classifier, or ""."""
    return ADAPTED[name]().unsupported(classifier) if name in ADAPTED else ""


def library_seconds(classifier: Classifier, name: str, method: Explainer, image: Tensor) -> tuple[float, str]:
    """Seconds of the clock that a method's library takes for an image [1, 3, S, S]; NaN where it has none.

    Its steps are those of `method`. Returns the seconds, and how they were got.
    """
    if name not in LIBRARIES:
        return float("nan"), ""
    if classifier.device.type != "cpu":
        return float("nan"), "libraries are asked on a CPU only"
    run, share, note = LIBRARIES[name]
    steps = int(getattr(method, "steps", 0))
    try:
        _grad_cam(), _saliency()
        reason = _refused(classifier, name)
    except MissingExtra as error:
        reason = str(error)
    if reason:
        return float("nan"), reason
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        spent = seconds(lambda: run(classifier, image, steps), classifier.device)
    return spent / share, note


def _grad_cam() -> Any:
    return optional("pytorch_grad_cam", "bench")


def _saliency() -> Any:
    return optional("saliency.core", "bench")


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _ours(classifier: Classifier, method: Explainer, images: Tensor) -> float:
    """CPU seconds per image of a batch, everything the method needs included."""
    method.explain(Passes(classifier, images))  # what a classifier prepares once, and memory for tensors of this size
    return cpu(lambda: method.explain(Passes(classifier, images))) / len(images)


def _ablation_cam() -> PytorchGradCam:
    return PytorchGradCam(cam="AblationCAM", arguments={"ratio_channels_to_ablate": ABLATED})


def _full_grad() -> PytorchGradCam:
    return PytorchGradCam(cam="FullGrad")


#: grad-cam's classes change the network that they are given: their adapters give them a copy.
ADAPTED: dict[str, Callable[[], PytorchGradCam]] = {"ac": _ablation_cam, "fg": _full_grad}


def _ablation(classifier: Classifier, image: Tensor, steps: int) -> None:
    _ablation_cam().explain(Passes(classifier, image))


def _full_gradient(classifier: Classifier, image: Tensor, steps: int) -> None:
    _full_grad().explain(Passes(classifier, image))


def _guided(classifier: Classifier, image: Tensor, steps: int) -> None:
    pixels = classifier.normalise(image)[0].permute(1, 2, 0).numpy()
    _saliency().GuidedIG().GetMask(
        pixels, _gradients(classifier), x_baseline=np.zeros_like(pixels), x_steps=steps, fraction=0.5, max_dist=1.0
    )


def _straight(classifier: Classifier, image: Tensor, steps: int) -> None:
    pixels = classifier.normalise(image)[0].permute(1, 2, 0).numpy()
    _saliency().IntegratedGradients().GetMask(
        pixels, _gradients(classifier), x_baseline=np.zeros_like(pixels), x_steps=steps, batch_size=1
    )


def _blur(classifier: Classifier, image: Tensor, steps: int) -> None:
    pixels = classifier.normalise(image)[0].permute(1, 2, 0).numpy()
    _saliency().BlurIG().GetMask(pixels, _gradients(classifier), steps=steps, batch_size=1)


def _gradients(classifier: Classifier) -> Callable[..., dict[str, np.ndarray]]:
    """The library's way to ask for gradients: normalised images [M, H, W, 3] in, gradients of the same shape out."""

    def call(images: np.ndarray, call_model_args: object = None, expected_keys: object = None) -> dict[str, np.ndarray]:
        leaf = torch.from_numpy(np.asarray(images, dtype=np.float32)).permute(0, 3, 1, 2).requires_grad_()
        probability = classifier.network(leaf).softmax(dim=1).amax(dim=1)
        [gradient] = torch.autograd.grad(probability.sum(), leaf)
        return {_saliency().INPUT_OUTPUT_GRADIENTS: gradient.permute(0, 2, 3, 1).numpy()}

    return call


#: By method: the library's way to explain one image, the share of its work that is timed, and how to say so.
LIBRARIES: dict[str, tuple[Callable[[Classifier, Tensor, int], None], float, str]] = {
    "ac": (_ablation, ABLATED, f"grad-cam, {ABLATED:.1%} of the channels timed and scaled"),
    "fg": (_full_gradient, 1.0, "grad-cam"),
    "ig": (_straight, 1.0, "saliency"),
    "gig": (_guided, 1.0, "saliency"),
    "gig_alone": (_guided, 1.0, "saliency"),
    "big": (_blur, 1.0, "saliency"),
}
