"""Where a metric's curves are drawn; without the network libraries, since reports start without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axis:
    """The x axis of a metric's curves.

    Attributes:
        x: [C] its positions, rising.
        label: What they are.
        onto: Turns curves as they are stored [n, P] into values at those positions [n, C]; None: the stored curves are
            those values.
    """

    x: tuple[float, ...]
    label: str
    onto: Callable[[np.ndarray], np.ndarray] | None = None
