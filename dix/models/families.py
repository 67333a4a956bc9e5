"""Classes of torchvision's networks, for code outside this package that has to tell them apart."""

from torchvision.models import VGG, ConvNeXt

__all__ = ["VGG", "ConvNeXt"]
