"""Methods and metrics that break what the others rely on, each in its own way, and a network that shows it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from dix.classifier import Classifier, Weights
from dix.metrics.api import Case, Scores, Trace
from dix.metrics.summaries import Averaged
from dix.passes import Passes
from support import engine_jobs as parts


class Conv(nn.Module):
    """A convolution, batch normalisation and dropout before the two classes: everything that a mode changes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.drop = nn.Dropout(0.5)
            self.out = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, 2]."""
        return self.out(self.drop(self.norm(self.conv(images)).relu().mean(dim=(2, 3))))


def conv_model() -> Classifier:
    """The network as a run has it."""
    weights = Weights("made for tests", trained=True)
    layers = {"last": "norm", "second": "conv"}
    return Classifier(
        "conv",
        Conv(),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        input_size=parts.SIZE,
        layers=layers,
        kind="cnn",
        weights=weights,
    )


@dataclass(frozen=True)
class Hostile(parts.Brightness):
    """Does something to what it is handed, then explains as if nothing had happened."""

    what: str = ""

    def explain(self, passes: Passes) -> Tensor:
        TRICKS[self.what](passes)
        return super().explain(passes)


def network(passes: Passes) -> Conv:
    found = passes.classifier.network
    assert isinstance(found, Conv)
    return found


def forward_in_training(passes: Passes) -> None:
    """Leaves the mode as it was, but the running statistics are others."""
    network(passes).train()
    passes.classifier.logits(passes.images)
    network(passes).eval()


def replace_forward(passes: Passes) -> None:
    network(passes).forward = lambda images: images.mean(dim=(2, 3))[:, :2]  # type: ignore[method-assign]


def poison_tail(passes: Passes) -> None:
    """A tail that is recorded while a hook is there stays wrong when the hook is gone."""
    handle = network(passes).conv.register_forward_hook(lambda _m, _a, out: out * 0)
    passes.classifier.tail("last")
    handle.remove()
    network(passes).conv.register_forward_hook(lambda _m, _a, out: out)


TRICKS: dict[str, Callable[[Passes], object]] = {
    "hook": lambda p: network(p).conv.register_forward_hook(lambda _m, _a, out: out * 0),
    "pre-hook": lambda p: network(p).norm.register_forward_pre_hook(lambda _m, given: (given[0] * 0,)),
    "hook on all modules": lambda p: nn.modules.module.register_module_forward_hook(lambda _m, _a, out: out * 0),
    "training mode": lambda p: network(p).train(),
    "training mode of one layer": lambda p: network(p).drop.train(),
    "statistics": forward_in_training,
    "forward replaced": replace_forward,
    "layer replaced": lambda p: setattr(network(p), "norm", nn.Identity()),
    "attribute of a layer": lambda p: setattr(network(p).norm, "eps", 10.0),
    "weights in place": lambda p: network(p).conv.weight.zero_(),
    "weights past the counter": lambda p: network(p).conv.weight.data.zero_(),
    "weights through numpy": lambda p: network(p).conv.weight.numpy().fill(0),
    "weights replaced": lambda p: setattr(network(p).conv, "weight", nn.Parameter(torch.zeros(4, 3, 3, 3))),
    "weights that want gradients": lambda p: network(p).requires_grad_(),
    "normalisation": lambda p: p.classifier.mean.fill_(9),
    "layers": lambda p: p.classifier.layers.update(last="conv"),
    "tail": poison_tail,
    "targets": lambda p: p.targets.add_(1).remainder_(2),
    "targets replaced": lambda p: setattr(p, "targets", 1 - p.targets),
    "images": lambda p: p.images.zero_(),
    "images past the counter": lambda p: p.images.data.zero_(),
    "images through numpy": lambda p: p.images.numpy().fill(0),
    "images turned": lambda p: p.images.data.copy_(p.images.flip(-1)),
    "images replaced": lambda p: setattr(p, "images", torch.zeros_like(p.images)),
    "ids": lambda p: p.ids.reverse(),
    "chunk": lambda p: setattr(p, "chunk", 0),
    "seed": lambda p: setattr(p, "seed", 99),
    "activation": lambda p: p.activation("last").zero_(),
    "gradient": lambda p: p.gradient("last").data.zero_(),
    "logits": lambda p: p.logits.zero_(),
    "working directory": lambda p: os.chdir("/"),
    "gradients off": lambda p: torch.set_grad_enabled(False),
    "default dtype": lambda p: torch.set_default_dtype(torch.float64),
    "threads": lambda p: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda p: torch.set_deterministic_debug_mode("warn"),
    "autocast": lambda p: torch.set_autocast_enabled("cpu", True),
    "errors of numpy": lambda p: np.seterr(divide="raise"),
    "signals": lambda p: signal.signal(signal.SIGTERM, signal.SIG_IGN),
}


@dataclass(frozen=True)
class Leaving(parts.Brightness):
    """Asks for the end of the process, or is interrupted."""

    error: type[BaseException] = field(default=SystemExit, metadata={"summary_only": True})

    def explain(self, passes: Passes) -> Tensor:
        raise self.error(0)


@dataclass(frozen=True)
class Shared(parts.Brightness):
    """Draws from the generators that everybody shares."""

    def explain(self, passes: Passes) -> Tensor:
        noise = torch.rand(len(passes.ids), 8, 8) + random.random()
        return noise + torch.from_numpy(np.random.rand(8, 8))  # noqa: NPY002


@dataclass(frozen=True)
class Vandal(Averaged):
    """A metric that writes into what it is handed."""

    what: str = "maps"
    label: str = "VANDAL"
    higher_is_better: bool | None = True
    extra: bool = True
    probe: None = None
    needs_mask: bool = False

    def score(self, case: Case, trace: Trace | None) -> Scores:
        acts: dict[str, Callable[[], object]] = {
            "maps": lambda: case.maps.zero_(),
            "images": lambda: case.batch.images.data.zero_(),
            "labels": lambda: case.batch.labels.fill_(1),
            "clean": lambda: case.batch.clean.probability.fill_(0.5),
            "raises": lambda: [][0],
        }
        acts[self.what]()
        return Scores.of(torch.zeros(len(case.batch.ids)))
