"""A method that takes its time, for sweeps that are to be interrupted."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from torch import Tensor

from dix.classifier import Classifier
from dix.passes import Passes


@dataclass(frozen=True)
class Slow:
    """Explains with the pixels' brightness, and waits before it does; how long is no part of its identity."""

    label: str = "Slow"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Every classifier will do."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] mean over channels."""
        time.sleep(float(os.environ.get("SLOW_SECONDS", 0)))
        return passes.images.mean(dim=1)


@dataclass(frozen=True)
class Deadly(Slow):
    """Kills the process that asks it."""

    def explain(self, passes: Passes) -> Tensor:
        """Nothing comes back."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
