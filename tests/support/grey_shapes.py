"""A stranger's network and pictures, as in the documents: one channel, three classes, shapes with masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: A module as a user would write it, with a head that no one has trained.
MODULE = """
import torch
from torch import nn


class GreyNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        stages = [self.stage(1, 8), self.stage(8, 16), self.stage(16, 24)]
        self.features = nn.Sequential(*stages)
        self.head = nn.Linear(24, 3)

    def stage(self, before, after):
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    def forward(self, x):
        return self.head(self.features(x).mean(dim=(2, 3)))
"""


def write(folder: Path) -> None:
    """my_networks.py, and shapes/ with two images of 80 x 60 and their masks."""
    (folder / "my_networks.py").write_text(MODULE, encoding="utf-8")
    (folder / "shapes").mkdir(exist_ok=True)
    rows, columns = np.mgrid[:60, :80]
    for name, (y, x) in {"one": (20, 25), "two": (40, 50)}.items():
        inside = (rows - y) ** 2 + (columns - x) ** 2 < 15**2
        grey = np.random.default_rng(y).integers(0, 60, inside.shape) + 180 * inside
        Image.fromarray(grey.astype(np.uint8)).save(folder / "shapes" / f"{name}.png")
        Image.fromarray((255 * inside).astype(np.uint8)).save(folder / "shapes" / f"{name}_mask.png")
