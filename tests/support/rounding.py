"""How far rounding may carry a result, so that tolerances follow from an argument and hold on every processor.

Two processors, batch sizes or thread counts sum in different orders. Where a result depends on its inputs smoothly,
that moves it by the unit roundoff times the number of roundings times the condition of the problem. Where it does not,
a value within rounding of a threshold takes the other side: a ReLU's gradient at zero, the place of a maximum, the
order of equal values. In double precision practically no value of these networks lies that close (2.5 million inputs
of ReLUs an image, each within 1e-14 of its range of zero with a chance of about 1e-13); in single precision one image
in six has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Roundings of a network's activations and gradients, relative to the largest: some 20 sums forward and backward, of
#: up to 600 terms each, whose errors add up like a random walk (110), with a factor of two to spare.
ROUNDINGS = 256
#: Largest relative error of a single rounding.
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def tolerance(dtype: torch.dtype, condition: float = 1.0) -> float:
    """Error of a map in [0, 1] computed in `dtype`; twice, for the value itself and for the ends of the scale.

    condition: error of the map for an error of 1 in the terms that it sums (see `cancellation`).
    """
    return 2 * ROUNDINGS * UNIT[dtype] * condition


def cancellation(terms: Tensor) -> float:
    """Condition of the min-max scaled mean over channels of terms [1, C, h, w]: their mean size over its range."""
    made = terms.mean(dim=1)
    return float(terms.abs().mean(dim=1).max() / (made.max() - made.min()))


@contextmanager
def choices(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects, call by call, which inputs a ReLU let pass and which places a max pooling took.

    Gradients jump where a choice changes: runs with different choices may differ by more than rounding. Calls that no
    gradient passes do not count.
    """
    made: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            made.append(_KINKS[type(module)](module, inputs[0].detach()))

    handles = [m.register_forward_pre_hook(note) for m in network.modules() if type(m) in _KINKS]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def _places(pool: nn.Module, values: Tensor) -> Tensor:
    assert isinstance(pool, nn.MaxPool2d)
    window = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    return F.max_pool2d(values, *window, return_indices=True)[1]


_KINKS: Mapping[type, Callable[[nn.Module, Tensor], Tensor]] = {
    nn.ReLU: lambda _, values: values > 0,
    nn.MaxPool2d: _places,
}


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether two runs made the same choices."""
    assert len(first) == len(second)
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def swaps(pairs: int, values: int) -> float:
    """Most by which a rank correlation of so many values moves when so many pairs of equal values change places.

    A pair that changes places moves the sum of squared differences of ranks by 2 |r - s| < 2 N, and 1 - rho is
    6 / (N^3 - N) times that sum.
    """
    return pairs * 12 / (values**2 - 1)
