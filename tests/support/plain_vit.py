"""A small Vision Transformer of timm, and its forward pass written out with everything that it computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from dix.classifier import Classifier, Kind, Weights
from dix.passes import Passes
from dix.seeding import generator

SIDE, PATCH, DIM, HEADS, DEPTH, CLASSES = 24, 8, 16, 2, 3, 5


def classifier_of(
    network: nn.Module, side: int = SIDE, dtype: torch.dtype = torch.float64, kind: Kind = "vit"
) -> Classifier:
    made = Classifier(
        "small",
        network,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        input_size=side,
        layers={},
        kind=kind,
        weights=Weights("random, seed 0", trained=False),
    )
    return made.to("cpu", dtype)


def small(**options: object) -> Classifier:
    """A ViT of 9 patches whose parameters are all random and large enough for attention to be uneven."""
    shape = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
    network = timm.models.VisionTransformer(**{**shape, "num_classes": CLASSES, **options})
    made = classifier_of(network)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator("weights", name), dtype=torch.float64)
        parameter.data = 0.4 * noise + (1 if "norm" in name and name.endswith("weight") else 0)
    return made


def images(count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=generator("pictures"), dtype=torch.float64)


def passes_of(made: Classifier, count: int = 2, chunk: int = 32) -> Passes:
    return Passes(made, images(count), torch.arange(count) % CLASSES, chunk=chunk)


@dataclass
class Record:
    """Everything that one image's forward pass computes in one block; tokens x channels."""

    x: Tensor
    normed: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    a: Tensor
    heads_out: Tensor
    branch: Tensor
    y: Tensor
    normed_again: Tensor
    hidden: Tensor
    active: Tensor
    branch_again: Tensor


@dataclass
class Run:
    logits: Tensor
    final: Tensor
    blocks: list[Record] = field(default_factory=list)


def layer_norm(x: Tensor, module: nn.Module) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.pow(2).mean(dim=-1, keepdim=True) + module.eps).sqrt() * module.weight + module.bias


def run(made: Classifier, image: Tensor) -> Run:
    """The forward pass written out from the paper on Vision Transformers."""
    net = made.network
    x = (image - 0.5) / 0.5
    side = SIDE // PATCH
    patches = x.view(3, side, PATCH, side, PATCH).permute(1, 3, 0, 2, 4).reshape(side * side, -1)
    tokens = patches @ net.patch_embed.proj.weight.view(DIM, -1).T + net.patch_embed.proj.bias
    x = torch.cat([net.cls_token[0], tokens]) + net.pos_embed[0]
    records: list[Any] = []
    for block in net.blocks:
        normed = layer_norm(x, block.norm1)
        qkv = normed @ block.attn.qkv.weight.T + block.attn.qkv.bias
        q, k, v = (part.view(-1, HEADS, DIM // HEADS).transpose(0, 1) for part in qkv.split(DIM, dim=1))
        a = (q @ k.transpose(1, 2) / (DIM // HEADS) ** 0.5).softmax(dim=-1).detach().requires_grad_()
        if records:  # the gradient of earlier attention must reach through
            a = (q @ k.transpose(1, 2) / (DIM // HEADS) ** 0.5).softmax(dim=-1)
            a.retain_grad()
        heads_out = (a @ v).transpose(0, 1).reshape(-1, DIM)
        gamma1, gamma2 = (getattr(ls, "gamma", 1.0) for ls in (block.ls1, block.ls2))
        branch = (heads_out @ block.attn.proj.weight.T + block.attn.proj.bias) * gamma1
        y = x + branch
        normed_again = layer_norm(y, block.norm2)
        hidden = normed_again @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        active = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        again = (active @ block.mlp.fc2.weight.T + block.mlp.fc2.bias) * gamma2
        records.append(Record(x, normed, q, k, v, a, heads_out, branch, y, normed_again, hidden, active, again))
        x = y + again
    final = layer_norm(x, net.norm)
    return Run(final[0] @ net.head.weight.T + net.head.bias, final, records)
