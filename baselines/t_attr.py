"""Transformer Attribution: layer-wise relevance propagation through a Vision Transformer, weighed by gradients.

The network runs its own code. While `propagating`, each operation that an explained tensor goes through is given the
backward rule of relevance propagation instead of its derivative, so that differentiating a logit yields relevances.
An operation without a rule is refused: a network that does something unforeseen is an error, not a wrong map. So is a
network in which relevance gets lost: every operation must hand on what it receives to what it was computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from dix.attention import between_all
from dix.baselines.attention import lacks_attention
from dix.baselines.operations import MADE, PASSING, SHAPED, explained, forms, no_rule, tensors
from dix.capture import capturing, gradients
from dix.classifier import Classifier
from dix.explainer import Rollout
from dix.look import batch_first, spotted
from dix.passes import Passes, halving
from dix.precision import Precision, check_precision, evaluator, images_together

_EPS = 1e-9  #: keeps R / z finite
LOST = 0.01  #: largest share of the logit's relevance that the operations may lose, their losses added up


@dataclass(frozen=True)
class TransformerAttribution:
    """T-Attr (Chefer et al. 2021a, Eq. 13 and 14): the product of (E_b + I), E_b = mean over heads of ReLU(dA_b Rel_b).

    Rel_b is the relevance of block b's attention matrix, dA_b the gradient of the target's logit by it. Later blocks on
    the left, no scaling of rows, the row of CLS. About 7 F beside the clean pass: a forward pass, and four matrix
    products for each linear layer on the way back; 14 F in double precision on a CPU.

    start_layer: the first block of the product, counted from 0; 1 in the thesis's tables. precision: of relevances; the
    rules divide by sums that may nearly cancel, so "native" single precision can be off by a third in single patches.
    """

    version: ClassVar[int] = 1
    start_layer: int = 1
    precision: Precision = "double"
    label: str = "T-Attr"
    extra: bool = False

    def __post_init__(self) -> None:
        if self.start_layer < 0:
            raise ValueError(f"start_layer: expected the index of a block, from 0, got {self.start_layer}")
        check_precision(self.precision)

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""; runs the network on two images."""
        if reason := lacks_attention(classifier):
            return reason
        if self.start_layer >= len(classifier.attention_layers):
            return f"has {len(classifier.attention_layers)} blocks, none with index start_layer={self.start_layer}"
        images = spotted(classifier.input_size)[:2].sigmoid().to(classifier.mean)
        try:
            found = propagated(Passes(classifier, images), self._layers(classifier))
        except NotImplementedError as error:
            return str(error)
        if bool(found.conserved.all()):
            return ""
        return f"relevance propagation loses {float(found.lost.max()):.0%} of the logit's relevance on its way"

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, one value a patch; NaN where more than 1 % of the relevance is lost.

        Raises NotImplementedError for an operation that has no rule.
        """
        layers = self._layers(passes.classifier)
        found = propagated(passes, layers, self.precision)
        e = [(passes.gradient(name) * found.of[name]).relu().mean(dim=1) for name in layers]
        maps = Rollout(normalise_rows=False).patches(passes, between_all(passes.classifier, e))
        return torch.where(found.conserved.view(-1, 1, 1), maps, torch.nan).to(passes.images.dtype)

    def _layers(self, classifier: Classifier) -> tuple[str, ...]:
        return classifier.attention_layers[self.start_layer :]


class Relevances(NamedTuple):
    """Relevance [B, ...] by layer, and the share [B] of the logit's that was lost behind the first of the layers."""

    of: dict[str, Tensor]
    lost: Tensor

    @property
    def conserved(self) -> Tensor:
        """[B] whether hardly any is lost, or none arrives: a logit that is 0 for every image has nothing to share."""
        nothing = torch.stack([relevance.flatten(1).any(dim=1) for relevance in self.of.values()]).logical_not().all(0)
        return (self.lost <= LOST) | nothing.to(self.lost.device)


def relevances(passes: Passes, layers: Sequence[str], precision: Precision = "double") -> dict[str, Tensor]:
    """Relevance [B, ...] of what each layer returns, when the target's logit has relevance 1.

    Raises NotImplementedError for an operation behind the first of the layers that has no rule.
    """
    return propagated(passes, layers, precision).of


def propagated(passes: Passes, layers: Sequence[str], precision: Precision = "double") -> Relevances:
    """The same, and how much is lost on its way."""
    return halving(lambda chunk: _propagated(passes, layers, precision, chunk), passes.chunk)


def _propagated(passes: Passes, layers: Sequence[str], precision: Precision, chunk: int) -> Relevances:
    images = torch.arange(len(passes.images), device=passes.images.device)
    parts = [
        _propagated_of(passes, layers, precision, part) for part in images.split(images_together(precision, chunk))
    ]
    whole = {name: torch.cat([part.of[name] for part in parts]) for name in layers}
    return Relevances(whole, torch.cat([part.lost for part in parts]))


def _propagated_of(passes: Passes, layers: Sequence[str], precision: Precision, images: Tensor) -> Relevances:
    classifier = passes.classifier
    network, inputs = evaluator(classifier, precision), classifier.normalise(passes.images[images].double())
    book = Book(len(images))
    with torch.enable_grad(), capturing(classifier.network, layers) as captured, Propagating(book):
        logits = network(_marked(inputs))
    found = gradients(passes.score(logits, images).sum(), [captured[name] for name in layers])
    return Relevances(dict(zip(layers, found, strict=True)), book.lost)


class Book:
    """What the operations receive and hand on, image by image. images: B. lost: [B] the sum of all differences."""

    def __init__(self, images: int = 1) -> None:
        self.images = images
        self.lost = torch.zeros(images)

    def enter(self, came: Tensor, went: Iterable[Tensor]) -> None:
        """One operation: the relevance of its output, and of what it was computed from."""
        self.lost = self.lost.to(came) + (self._totals(came) - sum(map(self._totals, went))).abs()

    def _totals(self, relevance: Tensor) -> Tensor:
        return batch_first(relevance, self.images).reshape(self.images, -1).sum(dim=1)


class Propagating(TorchFunctionMode):
    """While it is entered, what torch computes from tensors that require a gradient has relevance as its derivative.

    book: of the relevance that is lost.
    """

    def __init__(self, book: Book | None = None) -> None:
        super().__init__()
        self.book = book or Book()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation of the network. Raises NotImplementedError where it has no rule."""
        kwargs = kwargs or {}
        result = self._result(func, args, kwargs)
        sources = args[:1] if func in SHAPED else () if func in MADE else [*args, *kwargs.values()]
        return _marked(result) if _of_image(sources) else result

    def _result(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not explained(args):
            return func(*args, **kwargs)
        if rule := RULES.get(func):
            return rule(self.book, func, *args, **kwargs)
        result = func(*args, **kwargs)
        if explained([result]) and func not in PASSING:
            raise no_rule(func)
        return result


def _of_image(values: Iterable[Any]) -> bool:
    """Whether one of the values depends on the image: relevance may go to it, explained or not."""
    return any(value.requires_grad or getattr(value, "of_image", False) for value in tensors(values))


def _marked(result: Any) -> Any:
    """The same, its tensors known to depend on the image."""
    for tensor in tensors([result]):
        tensor.of_image = True  # type: ignore[attr-defined]
    return result


def _ratio(relevance: Tensor, z: Tensor) -> Tensor:
    """R / z, with z moved away from zero, and 0 where z is 0."""
    return torch.where(z == 0, 0, relevance / (z + torch.where(z < 0, -_EPS, _EPS)))


class _Linear(Function):
    """The alpha = 1, beta = 0 rule: R_i = sum over j of (x_i w_ij)+ / z_j R_j, z_j = sum over i of (x_i w_ij)+.

    (x w)+ is x+ w+ + x- w-; biases take no relevance.
    """

    @staticmethod
    def forward(ctx: Any, book: Book, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.book = book
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        w_plus, w_minus = weight.clamp(min=0), weight.clamp(max=0)
        x_plus, x_minus = x.clamp(min=0), x.clamp(max=0)
        s = _ratio(relevance, F.linear(x_plus, w_plus) + F.linear(x_minus, w_minus))
        found = x_plus * (s @ w_plus) + x_minus * (s @ w_minus)
        ctx.book.enter(relevance, [found])
        return None, found, None, None


class _Product(Function):
    """Matrix product: each operand gets half of R, shared as its terms contribute to z = a b.

    An operand that does not depend on the image loses its half.
    """

    @staticmethod
    def forward(ctx: Any, book: Book, counts: tuple[bool, bool], a: Tensor, b: Tensor) -> Tensor:
        ctx.book, ctx.counts = book, counts
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        a, b = ctx.saved_tensors
        s = _ratio(relevance, a @ b) / 2
        parts = (a * (s @ b.mT), b * (a.mT @ s))
        ctx.book.enter(relevance, [part for part, counts in zip(parts, ctx.counts, strict=True) if counts])
        return None, None, *parts


class _Sum(Function):
    """Addition: R a / (a + b) and R b / (a + b), then scaled, image by image, to shares |sum a| : |sum b| of sum R."""

    @staticmethod
    def forward(ctx: Any, book: Book, a: Tensor, b: Tensor) -> Tensor:
        ctx.book = book
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        s = _ratio(relevance, ctx.saved_tensors[0] + ctx.saved_tensors[1])
        parts = [operand * s for operand in ctx.saved_tensors]
        sums = [_total(part, ctx.book.images) for part in parts]
        unit = _ratio(_total(relevance, ctx.book.images), sums[0].abs() + sums[1].abs())
        found = [part * total.sign() * unit for part, total in zip(parts, sums, strict=True)]
        ctx.book.enter(relevance, found)
        return None, *found


def _total(values: Tensor, images: int) -> Tensor:
    """Each image's sum, [B, 1, ...]; [1, B, 1] for tokens [T, B, C]."""
    turned = batch_first(values, images)
    total = turned.flatten(1).sum(dim=1).view(-1, *[1] * (values.ndim - 1))
    return total if turned is values else total.transpose(0, 1)


class _Unchanged(Function):
    """Elementwise and normalising operations: each output's relevance goes to the same place of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operation: Callable[[Tensor], Tensor]) -> Tensor:
        return operation(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        return relevance, None


def _linear(book: Book, func: Callable[..., Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    return _Linear.apply(book, x, weight, bias)


def _product(book: Book, func: Callable[..., Any], a: Tensor, b: Tensor) -> Any:
    return _Product.apply(book, (_of_image([a]), _of_image([b])), a, b)


def _sum(book: Book, func: Callable[..., Any], a: Any, b: Any) -> Any:
    """A sum with something fixed: it takes no relevance, as the biases of linear layers take none."""
    if not _of_image([a]) or not _of_image([b]):
        return _scaling(book, func, a, b)
    if a.shape != b.shape:
        raise no_rule(func)
    return _Sum.apply(book, a, b)


def _scaling(book: Book, func: Callable[..., Any], a: Any, b: Any) -> Any:
    """Product with something fixed, as in LayerScale: a diagonal linear map, whose outputs have one input each."""
    if explained([a]) and explained([b]):
        raise no_rule(func)
    if explained([a]):
        return _Unchanged.apply(a, lambda x: func(x, b))
    return _Unchanged.apply(b, lambda x: func(a, x))


def _quotient(book: Book, func: Callable[..., Any], a: Tensor, b: Any) -> Any:
    if explained([b]):
        raise no_rule(func)
    return _scaling(book, func, a, b)


def _unchanged(book: Book, func: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return _Unchanged.apply(x, lambda value: func(value, *args, **kwargs))


_Rule = Callable[..., Any]

#: The rule of each operation that shares relevance out.
RULES: Mapping[Callable[..., Any], _Rule] = {
    **dict.fromkeys(forms("linear"), _linear),
    **dict.fromkeys(forms("matmul", "__matmul__", "bmm"), _product),
    **dict.fromkeys(forms("add", "__add__"), _sum),
    **dict.fromkeys(forms("mul", "__mul__", "__rmul__"), _scaling),
    **dict.fromkeys(forms("div", "__truediv__"), _quotient),
    **dict.fromkeys(forms("layer_norm", "softmax", "gelu", "relu", "silu", "dropout"), _unchanged),
}
