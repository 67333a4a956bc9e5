"""Any method of the field in one line: adapters around the libraries that people explain networks with.

A library is imported when one of its methods is first made.
"""

from __future__ import annotations

from dix.baselines.wrap.captum import Captum
from dix.baselines.wrap.function import Function
from dix.baselines.wrap.grad_cam import PytorchGradCam
from dix.baselines.wrap.lxt import Lxt
from dix.baselines.wrap.saliency import Saliency
from dix.baselines.wrap.zennit import Zennit

__all__ = ["Captum", "Function", "Lxt", "PytorchGradCam", "Saliency", "Zennit"]
