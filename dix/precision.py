"""Run a network in double precision, for methods whose result rounding errors would steer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

from torch import Tensor, nn
from torch.func import functional_call

from dix.classifier import Classifier

#: "double" computes in float64 whatever the weights are stored in; "native" in the classifier's own precision; "alone"
#: does so one image at a time: numbers then depend on no other image, and on one machine repeat to the bit.
Precision = Literal["double", "native", "alone"]


def evaluator(classifier: Classifier, precision: Precision) -> Callable[[Tensor], Tensor]:
    """The network as a function from normalised images [M, 3, S, S] to logits [M, K]; its weights stay as they are."""
    network = classifier.network
    if precision != "double":
        return lambda inputs: network(inputs.to(classifier.dtype))
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in _tensors(network)}
    # Tied weights have a name each here; torch's own way of tying leaves a module that is shared by two others as it
    # was while it ran.
    return lambda inputs: functional_call(network, state, (inputs.double(),), tie_weights=False)


def images_together(precision: Precision, chunk: int) -> int:
    """How many images may go through the network at once, where `chunk` fit."""
    return 1 if precision == "alone" else max(1, chunk)


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer of every module, once for each module that holds it."""
    for name, module in network.named_modules():
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield f"{name}.{key}" if name else key, tensor


def check_precision(precision: str) -> None:
    """Raise ValueError for anything but a Precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected one of {', '.join(get_args(Precision))}, got {precision!r}")
