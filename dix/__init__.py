"""DIX: a reproducible benchmark of Deep Integrated Explanations and the methods beside it."""

from dix import torchvision_repair

__version__ = "0.1.0"

torchvision_repair.install()
