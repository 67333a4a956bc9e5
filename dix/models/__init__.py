"""Builders of the networks that the benchmark explains; each returns a plain torch module in evaluation mode.

Only modules of this package import torchvision or timm at their top, so this is where torchvision is repaired.
"""

from dix import torchvision_repair

torchvision_repair.install()
