"""Run a network in double precision, for methods whose result rounding errors would steer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor
from torch.func import functional_call

from dix.classifier import Classifier

#: "double" computes in float64 whatever the weights are stored in; "native" in the classifier's own precision.
Precision = Literal["double", "native"]


def evaluator(classifier: Classifier, precision: Precision) -> Callable[[Tensor], Tensor]:
    """The network as a function from normalised images [M, 3, S, S] to logits [M, K]; its weights stay as they are."""
    network = classifier.network
    if precision == "native":
        return lambda inputs: network(inputs.to(classifier.dtype))
    tensors = (*network.named_parameters(), *network.named_buffers())
    state = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in tensors}
    return lambda inputs: functional_call(network, state, (inputs.double(),))


def check_precision(precision: str) -> None:
    """Raise ValueError for anything but a Precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected one of {', '.join(get_args(Precision))}, got {precision!r}")
