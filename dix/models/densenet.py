"""torchvision's DenseNet with a name for its last activation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet


class NamedReluDenseNet(nn.Module):
    """The same network and the same parameter names; the ReLU behind `features.norm5` is the module `relu5`.

    torchvision applies that ReLU in place and as a function, so a hook on `features` sees one of two tensors,
    depending on the device. Here `relu5` returns a tensor of its own.
    """

    version: ClassVar[int] = 1

    def __init__(self, network: DenseNet) -> None:
        super().__init__()
        self.features = network.features
        self.relu5 = nn.ReLU()
        self.classifier = network.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, K] of normalised images [M, 3, H, W]."""
        return self.classifier(torch.flatten(self.relu5(self.features(images)).mean(dim=(2, 3)), 1))
