"""A method that takes its time, for sweeps that are to be interrupted."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from torch import Tensor

from dix.passes import Passes
from support.engine_jobs import Brightness


@dataclass(frozen=True)
class Slow(Brightness):
    """Waits before it explains; how long is no part of its identity."""

    label: str = "Slow"

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] mean over channels."""
        time.sleep(float(os.environ.get("SLOW_SECONDS", 0)))
        return super().explain(passes)


@dataclass(frozen=True)
class Deadly(Slow):
    """Kills the process that asks it."""

    def explain(self, passes: Passes) -> Tensor:
        """Nothing comes back."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
