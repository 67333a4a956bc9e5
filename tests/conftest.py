"""What every test needs: the torchvision repair before anything imports torchvision."""

import dix  # noqa: F401
