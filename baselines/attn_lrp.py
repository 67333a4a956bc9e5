"""AttnLRP: layer-wise relevance propagation through attention, as a changed gradient (Achtibat et al., ICML 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function

from dix.baselines.attention import lacks_attention
from dix.baselines.backward import COMMON, Changed, Rule, constant
from dix.baselines.operations import Operation, forms
from dix.classifier import Classifier
from dix.look import spotted
from dix.passes import Passes, halving
from dix.split import module_named

_Layer = Callable[..., Any]
_PRODUCTS = forms("linear")


@dataclass(frozen=True)
class AttnLrp:
    """AttnLRP (Achtibat et al. 2024): the relevance of pixels, summed over channels, signed.

    Rules, each given as what it makes of a gradient, so that relevance is input times gradient: linear layers and
    convolutions the epsilon rule with epsilon 0 (the plain gradient; biases take their share) or the gamma rule;
    layer norm with its divisor held fixed (Prop. 3.4, with the mean by the epsilon rule as in LXT); activations the
    identity rule, f(x) / x (Eq. 9); a product of two branches halves to each (Prop. 3.2 and 3.3); softmax, whose
    relevance x_i (R_i - s_i sum of R_j) (Prop. 3.1) is its plain gradient times its input.

    The gamma rule: with z > 0 the output, contributions x w that are positive count (1 + gamma) times, with z < 0 those
    that are negative (zennit's generalised rule). linear_gamma, conv_gamma: LXT's example for Vision Transformers;
    as there, linear layers inside attention have their own, attention_gamma, 0 by default. softmax: False lets no
    relevance pass to queries and keys (CP-LRP, Ali et al. 2022), which LXT's authors recommend for vision, where the
    gradient of softmax is noisy. About 5 F beside the clean pass: with gamma, six products in each linear layer.
    """

    version: ClassVar[int] = 1
    softmax: bool = True
    linear_gamma: float = 0.05
    conv_gamma: float = 0.25
    attention_gamma: float = 0.0
    label: str = "AttnLRP"
    extra: bool = True

    def __post_init__(self) -> None:
        for name in ("linear_gamma", "conv_gamma", "attention_gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""; runs the network on an image."""
        if reason := lacks_attention(classifier):
            return reason
        image = spotted(classifier.input_size)[:1].sigmoid().to(classifier.mean)
        try:
            replace(self, linear_gamma=0, conv_gamma=0).explain(Passes(classifier, image))
        except NotImplementedError as error:
            return str(error)
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps at the images' resolution. Raises NotImplementedError for an operation without a rule."""
        return halving(lambda chunk: self._explained(passes, chunk), passes.chunk)

    def _explained(self, passes: Passes, chunk: int) -> Tensor:
        images = torch.arange(len(passes.images), device=passes.images.device)
        return torch.cat([self._maps(passes, part) for part in images.split(max(1, chunk))])

    def _maps(self, passes: Passes, images: Tensor) -> Tensor:
        x = passes.classifier.normalise(passes.images[images]).detach().requires_grad_()
        place = _Place()
        with torch.enable_grad(), place.watching(passes.classifier), Changed(self._rules(place)):
            logits = passes.classifier.network(x)
        [gradient] = torch.autograd.grad(passes.score(logits, images).sum(), [x])
        return (x * gradient).sum(dim=1).detach()

    def _rules(self, place: _Place) -> Mapping[Operation, Rule]:
        def linear(func: Operation, *args: Any, **kwargs: Any) -> Any:
            gamma = self.attention_gamma if place.in_attention else self.linear_gamma
            return with_gamma(gamma, func, *args, **kwargs)

        def convolution(func: Operation, *args: Any, **kwargs: Any) -> Any:
            return with_gamma(self.conv_gamma, func, *args, **kwargs)

        attention = _plain if self.softmax else constant
        return {
            **COMMON,
            **dict.fromkeys(forms("linear"), linear),
            **dict.fromkeys(forms("conv2d"), convolution),
            **dict.fromkeys(forms("softmax"), attention),
        }


def _plain(func: Operation, *args: Any, **kwargs: Any) -> Any:
    """The operation with its own gradient."""
    return func(*args, **kwargs)


@dataclass
class _Place:
    """Whether a module that computes attention is running."""

    depth: int = field(default=0)

    @property
    def in_attention(self) -> bool:
        return self.depth > 0

    @contextmanager
    def watching(self, classifier: Classifier) -> Iterator[None]:
        """While entered, follow the modules that hold the attention layers."""
        with ExitStack() as stack:
            for name in {layer.rpartition(".")[0] for layer in classifier.attention_layers}:
                module = module_named(classifier.network, name)
                stack.enter_context(module.register_forward_pre_hook(lambda *_: self._step(1)))
                stack.enter_context(module.register_forward_hook(lambda *_: self._step(-1)))
            yield

    def _step(self, by: int) -> None:
        self.depth += by


def with_gamma(
    gamma: float, func: Operation, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Any:
    """A linear layer or convolution with the gamma rule; gamma 0: with its own gradient."""
    if gamma == 0:
        return func(x, weight, bias, *args, **kwargs)

    def layer(inputs: Tensor, w: Tensor, b: Tensor | None = None) -> Any:
        return func(inputs, w, b, *args, **kwargs)

    def pulled(gradient: Tensor, w: Tensor) -> Tensor:
        if func in _PRODUCTS:
            return gradient @ w
        with torch.enable_grad():
            inputs = torch.zeros_like(x).requires_grad_()
            return torch.autograd.grad(layer(inputs, w), inputs, gradient)[0]

    return _Gamma.apply(x, weight, bias, gamma, layer, pulled)


class _Gamma(Function):
    """The gamma rule as a gradient.

    With P and N the sums of an output's positive and negative contributions, biases among them, z = P + N. Where z > 0,
    R z / (z + gamma P) goes to contributions with weight w + gamma w+ for x > 0 and w + gamma w- for x < 0; where z < 0
    N takes the place of P, and the two weights change places.

    layer: outputs of inputs, weight and bias. pulled: the gradient by the inputs, of the outputs' and the weight.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gamma: float, layer: _Layer, pulled: _Layer
    ) -> Tensor:
        z = layer(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, z)
        ctx.gamma, ctx.layer, ctx.pulled = gamma, layer, pulled
        return z

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight, bias, z = ctx.saved_tensors
        plus = weight.clamp(min=0)
        positive = ctx.layer(x.clamp(min=0), plus, None if bias is None else bias.clamp(min=0))
        positive = positive + ctx.layer(x.clamp(max=0), weight - plus)
        stronger = torch.where(z > 0, positive, z - positive)
        share = torch.where(z == 0, 0, z / (z + ctx.gamma * stronger).where(z != 0, 1)) * gradient
        above, below = share.where(z > 0, 0), share.where(z < 0, 0)
        whole = ctx.pulled(above, weight), ctx.pulled(below, weight)
        part = ctx.pulled(above - below, plus)
        extra = torch.where(x > 0, whole[1] + part, whole[0] - part)
        return whole[0] + whole[1] + ctx.gamma * extra, None, None, None, None, None
