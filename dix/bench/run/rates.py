"""What a network's passes cost in each of the ways that a machine offers: plain, channels last, folded, compiled, ...

Nothing here is used by a run: a run's numbers stay those of the plain network. It tells what a setting would be worth.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dix.bench.run.speed import forward_flops, seconds
from dix.classifier import Classifier
from dix.seeding import generator


@dataclass(frozen=True)
class Way:
    """How to run a network.

    prepare: a copy of the network, on its device, made ready. images: how pixels are laid out for it. around: what the
    passes run within. Any of them raises RuntimeError where the machine or the network does not offer this way.
    """

    prepare: Callable[[nn.Module], nn.Module] = lambda network: network
    images: Callable[[Tensor], Tensor] = lambda images: images
    around: Callable[[torch.device], AbstractContextManager[object]] = field(default=lambda device: nullcontext())


@dataclass(frozen=True)
class Rate:
    """What one way gives on one network.

    forwards, both: images a second forwards, and forwards and back to the pixels. teraflops: of `forwards`. moved: see
    `displacement`, against the plain network. reason: why there is no number.
    """

    network: str
    way: str
    forwards: float = float("nan")
    both: float = float("nan")
    teraflops: float = float("nan")
    moved: float = float("nan")
    reason: str = ""

    def __str__(self) -> str:
        """One line of a table."""
        start = f"{self.network:24}{self.way:16}"
        if self.reason:
            return f"{start}{self.reason}"
        return f"{start}{self.forwards:11.2f}{self.both:11.2f}{self.teraflops:9.3f}{self.moved:10.1e}"


HEADER = f"{'network':24}{'way':16}{'forwards/s':>11}{'+ back/s':>11}{'TFLOP/s':>9}{'moved':>10}"


def rates(classifier: Classifier, batch: int, repeats: int = 3) -> Iterator[Rate]:
    """Every way on one classifier, `batch` seeded images of noise at a time; the fastest of `repeats` counts.

    The plain way is measured first and sets what the others' logits are compared with.
    """
    size, device = classifier.input_size, classifier.device
    drawn = torch.rand(batch, 3, size, size, generator=generator(0, "rates"))
    images = classifier.normalise(drawn.to(classifier.mean))
    work = forward_flops(classifier, drawn[:1].to(classifier.mean)) / 1e12
    plain: Tensor | None = None
    for name, way in WAYS.items():
        try:
            found, answer = _rate(classifier, name, way, images, repeats, device)
        except (RuntimeError, ImportError, NotImplementedError) as error:
            yield Rate(classifier.name, name, reason=(str(error).strip().splitlines() or [type(error).__name__])[0])
            continue
        plain = answer if plain is None else plain
        yield Rate(classifier.name, name, *found, teraflops=found[0] * work, moved=displacement(plain, answer))


def _rate(
    classifier: Classifier, name: str, way: Way, images: Tensor, repeats: int, device: torch.device
) -> tuple[tuple[float, float], Tensor]:
    """Images a second forwards and both ways, and the logits [B, K]."""
    network, pixels = way.prepare(copy.deepcopy(classifier.network)), way.images(images)
    with way.around(device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # compilers warn about what they would rather have
        answer = forward(network, pixels).float()
        ahead = seconds(lambda: forward(network, pixels), device, repeats)
        if name == GRAPH:
            return (len(images) / ahead, float("nan")), answer
        there_and_back(network, pixels)
        return (len(images) / ahead, len(images) / seconds(lambda: there_and_back(network, pixels), device, repeats)), (
            answer
        )


def displacement(logits: Tensor, others: Tensor) -> float:
    """The largest change between two answers [B, K], in standard deviations of an image's logits over its classes.

    Not of probabilities: they hide any change where a network is sure of its answer, as with random weights it may be.
    """
    return float(((others - logits).abs().amax(dim=1) / logits.std(dim=1, correction=0)).max())


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """[B, K] logits, nothing recorded."""
    with torch.inference_mode():
        return network(images)


def there_and_back(network: nn.Module, images: Tensor) -> Tensor:
    """The gradient [B, 3, S, S] of the sum of the largest probabilities."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = network(leaf).float().softmax(dim=1).amax(dim=1).sum()
    return torch.autograd.grad(total, leaf)[0]


def folded(network: nn.Module) -> nn.Module:
    """The network with every batch normalisation that directly follows a convolution folded into it, in place.

    Which follows which is looked up in the modules' order, as their parents hold them. Raises RuntimeError where
    there is nothing to fold. Whether the network is still the same, only its answers can tell (`Rate.moved`).
    """
    pairs = list(_pairs(network))
    for parent, (before, conv), (after, norm) in pairs:
        setattr(parent, before, fuse_conv_bn_eval(conv, norm))
        rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # timm's has both inside
        setattr(parent, after, nn.Sequential(*rest) if rest else nn.Identity())
    if not pairs:
        raise RuntimeError("no batch normalisation follows a convolution")
    return network.requires_grad_(False)


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, nn.Conv2d], tuple[str, nn.BatchNorm2d]]]:
    for parent in list(network.modules()):
        for (before, conv), (after, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _fit(conv, norm):
                yield parent, (before, conv), (after, norm)


def _fit(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return conv.out_channels == norm.num_features


def _channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network)  # type: ignore[return-value]


def _half(device: torch.device) -> AbstractContextManager[object]:
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise RuntimeError("this processor has no bfloat16 instructions")  # emulated, it takes ten times as long
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def _tf32(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        raise RuntimeError("needs a GPU")
    kinds: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "tf32"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


class _Graph(nn.Module):
    """A network whose kernels are recorded once and replayed: nothing is launched one by one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.graph: torch.cuda.CUDAGraph | None = None

    def forward(self, images: Tensor) -> Tensor:
        """[B, K] logits of images in the shape of the first call."""
        if self.graph is None:
            self._record(images)
        assert self.graph is not None
        self._given.copy_(images)
        self.graph.replay()
        return self._answer.clone()

    def _record(self, images: Tensor) -> None:
        self._given = images.clone()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # what libraries set up at a first call must not be recorded
            for _ in range(3):
                self.network(self._given)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._answer = self.network(self._given)


def _graphed(network: nn.Module) -> nn.Module:
    if next(network.parameters()).device.type != "cuda":
        raise RuntimeError("needs a GPU")
    return _Graph(network)


GRAPH = "CUDA graph"
#: Every way by its name; the plain one first.
WAYS: Mapping[str, Way] = {
    "plain": Way(),
    "channels last": Way(_channels_last, _last),
    "folded": Way(folded),
    "folded, last": Way(lambda network: _channels_last(folded(network)), _last),
    "TF32": Way(around=_tf32),
    "bfloat16": Way(around=_half),
    "bfloat16, last": Way(_channels_last, _last, _half),
    "compiled": Way(_compiled),
    GRAPH: Way(_graphed),
}
