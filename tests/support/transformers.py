"""Small Vision Transformers of several libraries, all weights random and large enough for tokens to differ."""

from __future__ import annotations

from collections.abc import Callable

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from dix.baselines.attention import AttentionRollout, Gae
from dix.baselines.attn_lrp import AttnLrp
from dix.baselines.cam import GradCam
from dix.baselines.grad_eclip import GradEclip
from dix.baselines.legrad import LeGrad
from dix.baselines.libra import LibraGrad
from dix.baselines.t_attr import TransformerAttribution
from dix.baselines.token_tm import TokenTm
from dix.classifier import Classifier, Weights
from dix.explainer import Dix, Explainer, PathIntegral
from dix.models.looked import looked
from support.random_weights import seeded

SIDE, PATCH, DIM, HEADS, CLASSES = 32, 4, 24, 3, 5
SHAPE = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": DIM, "num_heads": HEADS, "num_classes": CLASSES}

#: One method of each kind, with few steps.
METHODS: dict[str, Explainer] = {
    "gc": GradCam(),
    "dix3": Dix(path=PathIntegral(steps=3)),
    "gae": Gae(),
    "rollout": AttentionRollout(),
    "t_attr": TransformerAttribution(),
}

#: Methods of 2022 to 2025, which go through a network's own operations.
RECENT: dict[str, Explainer] = {
    "legrad": LeGrad(),
    "token_tm": TokenTm(),
    "grad_eclip": GradEclip(),
    "libra_grad": LibraGrad(),
    "attn_lrp": AttnLrp(),
    "cp_lrp": AttnLrp(softmax=False),
}


def seen(build: Callable[[], nn.Module], side: int = SIDE) -> Classifier:
    """What `build` makes, as a classifier that was looked at."""
    return looked(
        Classifier(
            "small", seeded(build), mean=(0.5,) * 3, std=(0.25,) * 3, input_size=side, layers={}, kind="cnn",
            weights=Weights("random", trained=False), label_space=None,
        )
    )  # fmt: skip


def torchvision_vit(depth: int = 3) -> nn.Module:
    """torchvision's, whose blocks attend inside nn.MultiheadAttention."""
    return TorchvisionViT(SIDE, PATCH, depth, HEADS, DIM, 4 * DIM, num_classes=CLASSES)


class _TokensFirst(nn.Module):
    """An encoder of torchvision's whose blocks are given tokens [T, B, C], as in CLIP's first code."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.pos_embedding, self.dropout, self.layers, self.ln = (
            getattr(encoder, name) for name in ("pos_embedding", "dropout", "layers", "ln")
        )
        for block in self.layers:
            block.self_attention.batch_first = False

    def forward(self, tokens: Tensor) -> Tensor:
        inside = self.dropout(tokens + self.pos_embedding).transpose(0, 1)
        return self.ln(self.layers(inside).transpose(0, 1))


def tokens_first() -> nn.Module:
    """torchvision's, with the same names of weights, and tokens before the batch inside its encoder."""
    network = torchvision_vit()
    network.encoder = _TokensFirst(network.encoder)
    return network


def timm_vit(**options: object) -> nn.Module:
    """timm's, with a class token."""
    return VisionTransformer(**SHAPE | {"depth": 3} | options)


def cait() -> nn.Module:
    """Talking heads between patches, then two blocks in which the class token alone attends."""
    return timm.models.cait.Cait(**SHAPE, depth=3)


def convit() -> nn.Module:
    """Gated positional attention between patches, then attention with a class token."""
    return timm.models.convit.ConVit(**SHAPE | {"embed_dim": DIM // HEADS}, depth=4, local_up_to_layer=2)


def xcit() -> nn.Module:
    """Attention between channels, then two blocks in which the class token alone attends."""
    return timm.models.xcit.Xcit(**SHAPE | {"patch_size": 8, "num_heads": 3}, depth=3)


def siglip() -> nn.Module:
    """A query that is no token pools the patches."""
    return timm_vit(class_token=False, global_pool="map")


def siglip_with_registers() -> nn.Module:
    """The same behind a trunk with tokens of its own."""
    return timm_vit(class_token=False, reg_tokens=2, global_pool="map")
