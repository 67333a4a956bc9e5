"""What every test needs: the torchvision repair before anything imports torchvision, and equal random numbers."""

import pytest
import torch

from dix import torchvision_repair

torchvision_repair.install()  # tests import torchvision and timm at their top


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Networks that a test makes itself do not depend on the tests before it."""
    torch.manual_seed(0)
