"""What every test needs: the torchvision repair before anything imports torchvision, and equal random numbers."""

import pytest
import torch

import dix  # noqa: F401


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Networks that a test makes itself do not depend on the tests before it."""
    torch.manual_seed(0)
