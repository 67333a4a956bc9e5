"""Small networks of many architectures, as their libraries build them: few channels and blocks, small images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt

import timm
import torch
import torchvision
from timm import models
from timm.layers.norm import GroupNorm1
from timm.layers.norm_act import GroupNormAct
from timm.models.mlp_mixer import Affine, ResBlock
from torch import nn
from torchvision.models.convnext import CNBlockConfig

from dix.classifier import Classifier, Weights
from dix.models.fresh import awake, settled
from dix.models.looked import looked
from dix.models.sources import seeded_initialisation

CLASSES = 10


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


def _vit(name: str, **options: object) -> Callable[[], nn.Module]:
    return _timm(name, **{"img_size": 64, "patch_size": 8, "depth": 3, "embed_dim": 48, "num_heads": 3} | options)


def _mixer(**options: object) -> Callable[[], nn.Module]:
    return lambda: models.MlpMixer(CLASSES, 64, patch_size=8, num_blocks=3, embed_dim=48, **options)


_SWIN = {"img_size": 64, "patch_size": 2, "window_size": 4, "embed_dim": 12}
#: By architecture, the side of its images in pixels and what builds it. Where a network reduces its images 32 times,
#: they are large enough for 4 x 4 places: the spots that are followed have no places of their own on 3 x 3.
SMALL: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "torchvision mobilenet_v3_small": (160, _torchvision("mobilenet_v3_small")),
    "torchvision squeezenet1_1": (96, _torchvision("squeezenet1_1")),
    "torchvision shufflenet_v2_x0_5": (160, _torchvision("shufflenet_v2_x0_5")),
    "torchvision convnext_tiny": (
        96,
        lambda: torchvision.models.ConvNeXt(
            [CNBlockConfig(16, 32, 1), CNBlockConfig(32, 64, 1), CNBlockConfig(64, None, 1)], num_classes=CLASSES
        ),
    ),
    "torchvision swin_t": (
        64,
        lambda: torchvision.models.SwinTransformer([2, 2], 12, [2, 2, 2], [3, 3, 3], [4, 4], num_classes=CLASSES),
    ),
    "torchvision maxvit_t": (
        64,
        lambda: torchvision.models.MaxVit((64, 64), 16, 4, [16, 32, 64], [1, 1, 1], 8, 0.0, num_classes=CLASSES),
    ),
    "torchvision vit_b_16": (
        64, lambda: torchvision.models.VisionTransformer(64, 8, 3, 3, 48, 96, num_classes=CLASSES)
    ),
    "timm resnet10t": (128, _timm("resnet10t", channels=(16, 32, 48, 64))),
    "timm resnetv2_50x1_bit": (
        64,
        lambda: models.ResNetV2(
            [1, 1, 1], (32, 64, 64), CLASSES, stem_type="fixed",
            norm_layer=partial(GroupNormAct, num_groups=4),
        ),
    ),
    "timm regnetx_002": (160, _timm("regnetx_002")),
    "timm mobilevit_xxs": (160, _timm("mobilevit_xxs")),
    "timm mixer_b16_224": (64, _mixer()),
    "timm resmlp_12_224": (64, _mixer(mlp_ratio=4, block_layer=ResBlock, norm_layer=Affine)),
    "timm poolformer_s12": (
        128,
        lambda: models.MetaFormer(
            num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(16, 32, 48, 64), norm_layers=GroupNorm1, use_mlp_head=False
        ),
    ),
    "timm focalnet_tiny_srf": (
        128, lambda: models.FocalNet(num_classes=CLASSES, embed_dim=16, depths=(1, 1, 1, 1))
    ),
    "timm convmixer_768_32": (96, lambda: models.ConvMixer(48, 4, 5, num_classes=CLASSES)),
    "timm sequencer2d_s": (
        96, _timm("sequencer2d_s", layers=(1, 1, 1, 1), embed_dims=(24, 48, 48, 48), hidden_sizes=(8, 16, 16, 16))
    ),
    "timm vit_tiny_patch16_224": (64, _vit("vit_tiny_patch16_224")),
    "timm deit_tiny_distilled_patch16_224": (64, _vit("deit_tiny_distilled_patch16_224")),
    "timm beit_base_patch16_224": (64, _vit("beit_base_patch16_224")),
    "timm vit_medium_patch16_reg4_gap_256": (64, _vit("vit_medium_patch16_reg4_gap_256")),
    "timm eva02_tiny_patch14_336": (64, _vit("eva02_tiny_patch14_336")),
    "timm vit_base_patch16_siglip_224": (64, _vit("vit_base_patch16_siglip_224")),
    "timm cait_xxs24_224": (64, _vit("cait_xxs24_224")),
    "timm xcit_nano_12_p16_224": (64, _vit("xcit_nano_12_p16_224")),
    "timm convit_tiny": (64, _vit("convit_tiny", depth=4, embed_dim=16, local_up_to_layer=2)),
    "timm hiera_tiny_224": (
        128, lambda: models.Hiera(img_size=(128, 128), num_classes=CLASSES, embed_dim=24, stages=(1, 1, 2, 1))
    ),
    "timm mvitv2_tiny": (
        64,
        lambda: models.MultiScaleVit(
            models.mvitv2.MultiScaleVitCfg(depths=(1, 1, 1), embed_dim=24, stride_q=((1, 1), (2, 2), (2, 2))),
            (64, 64), num_classes=CLASSES,
        ),
    ),
    "timm coat_tiny": (
        128,
        lambda: models.CoaT(
            128, 4, num_classes=CLASSES, embed_dims=(48,) * 4, serial_depths=(1,) * 4, parallel_depth=2
        ),
    ),
    "timm swin_tiny_patch4_window7_224": (64, lambda: models.SwinTransformer(
        **_SWIN, depths=(2, 2, 2), num_heads=(3, 3, 3), num_classes=CLASSES
    )),
    "timm davit_tiny": (
        64,
        lambda: models.DaVit(
            depths=(1, 1, 1), embed_dims=(12, 24, 48), num_heads=(3, 3, 3), window_size=4, num_classes=CLASSES
        ),
    ),
    "timm pit_ti_224": (
        64,
        lambda: models.pit.PoolingVisionTransformer(
            64, 8, 4, depth=(1, 1, 1), heads=(2, 2, 4), base_dims=(16, 16, 16), num_classes=CLASSES
        ),
    ),
    "timm volo_d1_224": (
        64,
        lambda: models.VOLO(
            [1, 1, 1, 1], 64, num_classes=CLASSES, embed_dims=(24, 48, 48, 48), num_heads=(2, 3, 3, 3)
        ),
    ),
    "timm pvt_v2_b0": (
        128, _timm("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4))
    ),
    "timm twins_svt_small": (
        64,
        lambda: models.Twins(
            64, 2, num_classes=CLASSES, depths=(1, 1, 2, 1), embed_dims=(16, 32, 48, 64), num_heads=(1, 2, 3, 4),
            wss=(4, 4, 4, 4),
        ),
    ),
    "timm gcvit_xxtiny": (
        64,
        lambda: models.GlobalContextVit(
            img_size=64, num_classes=CLASSES, window_ratio=(16, 16, 16), embed_dim=16, depths=(1, 1, 2),
            num_heads=(2, 2, 2),
        ),
    ),
    "timm crossvit_tiny_240": (
        96,
        lambda: models.CrossVit(
            96, patch_size=(8, 12), embed_dim=(24, 48), depth=((1, 3, 0), (1, 3, 0)), num_heads=(3, 3),
            num_classes=CLASSES,
        ),
    ),
    "timm visformer_tiny": (
        128, _timm("visformer_tiny", img_size=128, init_channels=8, embed_dim=48, depth=(2, 2, 2), num_heads=3)
    ),
    "timm efficientformer_l1": (
        224, _timm("efficientformer_l1", depths=(1, 1, 1, 2), embed_dims=(16, 24, 32, 48))
    ),
}  # fmt: skip


def small(name: str) -> Classifier:
    """One of them, of seeded random weights, looked at."""
    return _looked(name, *SMALL[name])


def local_levit() -> Classifier:
    """LeViT (16, 8 and 4 places to a side) whose position biases let each query read what is near, as trained ones may.

    They start at nil. Its attention that reduces the places has no skip: with fresh weights it mixes all alike.
    """

    def build() -> nn.Module:
        network = models.Levit(
            128, num_classes=CLASSES, embed_dim=(24, 32, 40), key_dim=8, depth=(1, 1, 1), num_heads=(2, 2, 2),
            stem_type="s8",
        )  # fmt: skip
        for module in network.modules():
            if isinstance(module, models.levit.Attention | models.levit.AttentionDownsample):
                index = torch.arange(module.attention_biases.shape[1])  # of a distance, down and to the right
                side = isqrt(len(index))
                module.attention_biases.data -= 3.0 * ((index // side) ** 2 + (index % side) ** 2)
        return network

    return _looked("timm levit_128s", 128, build)


def _looked(name: str, size: int, build: Callable[[], nn.Module]) -> Classifier:
    with seeded_initialisation(0):
        network = build()
    made = Classifier(
        name, network, mean=(0.5,) * 3, std=(0.25,) * 3, input_size=size, layers={}, kind="cnn",
        weights=Weights("random", trained=False), label_space=None,
    )  # fmt: skip
    made = awake(looked(made))
    settled(made.network, size)  # as it was looked at
    made.forget_tails()
    return made
