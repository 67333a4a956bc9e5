"""FullGrad: the input's gradient and the gradients of all biases, gathered in one map (Srinivas & Fleuret 2019).

A network that is linear around its input x is f(x) = x . df/dx + sum over biases b of b . df/db. A bias belongs to a
parameter, to batch norm (beta - gamma mean / spread), or to a nonlinearity y = n(z), whose linearisation has the
intercept n(z) - J z (the paper's implicit bias; nil for ReLU and pooling). Gaussian error units, layer norm and gates
have such intercepts, and only with them do the terms of ConvNeXt or EfficientNet add up to the logit. Layer norm does
not react to its input's scale, so J z is nearly nil and its intercept is nearly all it returns.

Everything is read off one forward and one backward pass through the functions that the network calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dix.baselines.complete import incomplete, kept
from dix.baselines.nonlinear import HOMOGENEOUS, POINTWISE, PRODUCTS, Function, pointwise
from dix.capture import gradients
from dix.classifier import Classifier
from dix.maps import resize
from dix.passes import Passes, halving
from dix.recording import Lean

Biases = Literal["all", "explicit", "convolutions"]
Rescale = Literal["layer", "channel"]


@dataclass(frozen=True)
class Bias:
    """What a function adds to its linear part.

    value: broadcasts against the output. channel: the output's channel axis.
    """

    value: Tensor
    channel: int = 1


Rule = Callable[..., Bias | None]


def _convolution(
    _: Function, z: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kw: Any
) -> Bias | None:
    return None if bias is None else Bias(bias.view(-1, *[1] * (weight.ndim - 2)))


def _linear(_: Function, z: Tensor, weight: Tensor, bias: Tensor | None = None) -> Bias | None:
    return None if bias is None else Bias(bias, channel=-1)


def _batch_norm(
    _: Function,
    z: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Bias | None:
    if mean is None or variance is None:
        return None
    shift = -mean * (variance + eps).rsqrt()
    shift = shift if weight is None else shift * weight
    shift = shift if bias is None else shift + bias
    return Bias(shift.view(-1, *[1] * (z.ndim - 2)))


def _norm_parameter(
    _: Function, z: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, **kw: Any
) -> Bias | None:
    return None if bias is None else Bias(bias, channel=-1)


def _norm_intercept(
    function: Function,
    z: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Bias:
    """LN(z) - J z; J z is the output without beta times eps / (variance + eps)."""
    variance = z.var(dim=tuple(range(-len(shape), 0)), unbiased=False, keepdim=True)
    scaled = function(z, shape, weight, None, eps) * (variance / (variance + eps))
    return Bias(scaled if bias is None else scaled + bias, channel=-1)


def _pointwise_intercept(function: Function, z: Tensor, *args: Any, **kwargs: Any) -> Bias:
    values, slope = pointwise(function, z, *args, **kwargs)
    return Bias(values - slope * z, channel=_channel_axis(z))


def _product_intercept(_: Function, a: Tensor, b: Tensor | float) -> Bias | None:
    """A b - (a b + a b) where both factors depend on the input; a constant factor makes it linear."""
    if not (isinstance(b, Tensor) and b.requires_grad and a.requires_grad):
        return None
    return Bias(-a * b, channel=_channel_axis(a))


_CONVOLUTIONS: Mapping[Function, Rule] = {F.conv2d: _convolution, F.batch_norm: _batch_norm}
#: The biases that parameters and batch norm hold.
EXPLICIT: Mapping[Function, Rule] = {**_CONVOLUTIONS, F.linear: _linear, F.layer_norm: _norm_parameter}
_ALL: Mapping[Function, Rule] = {
    **EXPLICIT,
    F.layer_norm: _norm_intercept,
    **dict.fromkeys(POINTWISE - HOMOGENEOUS, _pointwise_intercept),
    **dict.fromkeys(PRODUCTS, _product_intercept),
}
_RULES: Mapping[Biases, Mapping[Function, Rule]] = {"all": _ALL, "explicit": EXPLICIT, "convolutions": _CONVOLUTIONS}


def _channel_axis(z: Tensor) -> int:
    """Where functions before put the channels: linear layers and layer norm last, the others first."""
    return getattr(z, "channel_axis", 1)


class BiasTap(TorchFunctionMode):
    """While active, hands over b * df/dy [B, ...] and its channel axis for each function call with a bias.

    rules: what the bias of a function is. receive: called during the backward pass.
    """

    def __init__(self, rules: Mapping[Function, Rule], receive: Callable[[Tensor, int], None]) -> None:
        super().__init__()
        self.rules = rules
        self.receive = receive

    def __torch_function__(
        self, func: Function, types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self.rules or not args[0].requires_grad:
            return func(*args, **kwargs)
        with torch.no_grad():
            bias = self.rules[func](func, *args, **kwargs)
        output = func(*args, **kwargs)
        if bias is not None:
            output.channel_axis = bias.channel
            output.register_hook(lambda g, b=bias: self.receive(b.value * g, b.channel))
        return output


class Gathered:
    """The running sum of psi over all terms, and of the terms themselves.

    maps: [B, H, W]. sums: [B], the logit once all terms are in.
    """

    def __init__(self, images: Tensor, rescale: Rescale, eps: float) -> None:
        self.maps = torch.zeros_like(images[:, 0])
        self.sums = images.new_zeros(len(images))
        self.rescale = rescale
        self.eps = eps

    def add(self, term: Tensor, channel: int) -> None:
        """Take in one term [B, ...], or [B windows, ...] image by image; those without pixels count in the sum only."""
        self.sums += term.reshape(len(self.sums), -1).sum(dim=1)
        if term.ndim == 4 and len(term) == len(self.sums):
            self.maps += resize(self._scaled(term.movedim(channel, 1).abs()), self._size)

    @property
    def _size(self) -> tuple[int, int]:
        return self.maps.shape[-2], self.maps.shape[-1]

    def _scaled(self, term: Tensor) -> Tensor:
        """[B, h, w] sum over channels of the term [B, C, h, w] scaled to [0, 1]."""
        space = (1, 2, 3) if self.rescale == "layer" else (2, 3)
        low, high = term.amin(dim=space, keepdim=True), term.amax(dim=space, keepdim=True)
        span = high - low + self.eps
        return ((term - low) / span.where(span > 0, 1)).sum(dim=1)


@dataclass(frozen=True)
class FullGradient:
    """The full-gradient decomposition of the target's logit, with psi taken of each of its terms."""

    biases: Biases
    rescale: Rescale
    eps: float

    def compute(self, passes: Passes) -> tuple[Tensor, Tensor]:
        """Maps [B, H, W] and the sums of all terms [B]."""
        return halving(lambda chunk: self._run(passes, chunk), passes.chunk)

    def _run(self, passes: Passes, chunk: int) -> tuple[Tensor, Tensor]:
        parts = torch.arange(len(passes.images), device=passes.images.device).split(max(1, chunk))
        gathered = [self._gather(passes, images) for images in parts]
        return torch.cat([g.maps for g in gathered]), torch.cat([g.sums for g in gathered])

    def _gather(self, passes: Passes, images: Tensor) -> Gathered:
        x = passes.classifier.normalise(passes.images[images]).detach()
        gathered = Gathered(x, self.rescale, self.eps)
        with torch.enable_grad():
            leaf = x.requires_grad_()
            with Lean(), BiasTap(_RULES[self.biases], gathered.add):
                logits = passes.classifier.network(leaf)
            score = passes.score(logits, images).sum()
        gathered.add(x.detach() * gradients(score, [leaf])[0], 1)
        return gathered


@dataclass(frozen=True)
class FullGrad:
    """FullGrad (Srinivas & Fleuret 2019): psi(x df/dx) + sum over layers and channels of psi(b df/db).

    psi takes the absolute value, scales it linearly to [0, 1] and enlarges it to the image. x is the normalised image.
    Biases behind the last pooling have no pixels and stay out of the map.

    biases: "all", implicit ones included; "explicit", those of parameters and batch norm; "convolutions", those of
    convolutions and batch norm only (pytorch-grad-cam). rescale: scale a "layer" as a whole as the authors'
    implementation does, or each "channel" (pytorch-grad-cam), which makes weak channels as loud as strong ones.
    eps: added to the span that is divided by.
    """

    version: ClassVar[int] = 1
    biases: Biases = "all"
    rescale: Rescale = "layer"
    eps: float = 0.0
    label: str = "FG"
    extra: bool = False

    def __post_init__(self) -> None:
        if self.biases not in _RULES:
            raise ValueError(f"biases: expected all, explicit or convolutions, got {self.biases!r}")
        if self.rescale not in ("layer", "channel"):
            raise ValueError(f"rescale: expected layer or channel, got {self.rescale!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if classifier.kind == "vit":
            return "FullGrad's map is made of convolutional layers"
        return incomplete(self, classifier) if self.biases == "all" else ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps at the images' resolution; NaN where the terms miss more than 1 % of the logit."""
        maps = passes.get(self._evidence)[0]
        return kept(maps, self.residual(passes), passes) if self.biases == "all" else maps

    def residual(self, passes: Passes) -> Tensor:
        """[B] sum of all terms less the target's logit: zero, up to rounding, where every bias is known."""
        return passes.get(self._evidence)[1] - passes.score(passes.logits)

    @property
    def _evidence(self) -> FullGradient:
        return FullGradient(self.biases, self.rescale, self.eps)
