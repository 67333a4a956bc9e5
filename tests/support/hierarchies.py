"""Small networks whose tokens move: random weights, and their attention and relevance written out by hand.

The replicas know a network's weights and nothing of its code that moves tokens: which tokens share a window, which are
hidden from each other, and which are merged is computed from their coordinates. Attention is a dense matrix between all
tokens of a stage, in which tokens of other windows have zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from dix.classifier import Classifier, Weights
from support.random_weights import seeded

SIDE = 64


def hierarchy(build: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> Classifier:
    """A classifier of random weights around a network without named layers."""
    made = Classifier(
        "small", seeded(build), mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.25), input_size=SIDE, layers={}, kind="cnn",
        weights=Weights("random", trained=False), label_space=None,
    )  # fmt: skip
    return made.to("cpu", dtype)


def swin() -> nn.Module:
    """Two stages of 16 x 16 and 8 x 8 tokens, of two blocks each: windows of 4 x 4, then the same shifted by 2."""
    return SwinTransformer([4, 4], 12, [2, 2], [3, 3], [4, 4], num_classes=5)


def pvt() -> nn.Module:
    """Two stages of 16 x 16 and 8 x 8 tokens, of two blocks each; the first reads keys of 4 x 4 tokens together."""
    return PyramidVisionTransformerV2(
        num_classes=5, depths=(2, 2), embed_dims=(12, 24), num_heads=(2, 3), sr_ratios=(4, 1), mlp_ratios=(2, 2)
    )


class Block(NamedTuple):
    """Attention of a block between all queries and keys [heads, T, S], and how S keys spread over T tokens [S, T]."""

    attention: Tensor
    spread: Tensor


class Run(NamedTuple):
    """logits [K], and by block its attention; what can be differentiated by: the attention."""

    logits: Tensor
    blocks: list[Block]


def _heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(0, 1)  # [T, C] to [heads, T, d]


def _used(attention: Tensor, replaced: Mapping[int, Tensor], number: int) -> Tensor:
    """The attention itself or what replaces it, as a tensor to differentiate by."""
    return replaced[number].clone().requires_grad_() if number in replaced else attention


def _windows(side: int, window: int, shift: int) -> tuple[Tensor, Tensor]:
    """[T] the window of each token of a side x side grid, and its region: tokens of other regions are hidden."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    rows, columns = ((y - shift) % side).flatten(), ((x - shift) % side).flatten()
    at = (rows // window) * (side // window) + columns // window
    wrapped = (rows >= side - shift).long() * 2 + (columns >= side - shift).long() if shift else torch.zeros_like(at)
    return at, wrapped


def swin_run(net: nn.Module, image: Tensor, replaced: Mapping[int, Tensor]) -> Run:
    """torchvision's Swin Transformer of `swin` for one normalised image [3, 64, 64]."""
    x = F.conv2d(image[None], net.features[0][0].weight, net.features[0][0].bias, stride=4)[0].flatten(1).T
    x = net.features[0][2](x)
    blocks: list[Block] = []
    for stage, side in ((1, 16), (3, 8)):
        for number, block in enumerate(net.features[stage]):
            own, shift = block.attn, 2 * (number % 2)
            rows = [(i - shift) % side % 4 for i in range(side)]  # within a window
            bias = torch.zeros(3, side * side, side * side, dtype=x.dtype)
            place = torch.tensor([(rows[i // side], rows[i % side]) for i in range(side * side)])
            delta = place[:, None] - place[None]
            bias += own.relative_position_bias_table[(delta[..., 0] + 3) * 7 + delta[..., 1] + 3].permute(2, 0, 1)
            q, k, v = (_heads(part, 3) for part in own.qkv(block.norm1(x)).chunk(3, dim=-1))
            z = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + bias
            window, region = _windows(side, 4, shift)
            z = z - 100.0 * (region[:, None] != region[None])
            z = z.masked_fill(window[:, None] != window[None], -torch.inf)
            a = _used(z.softmax(dim=-1), replaced, len(blocks))
            blocks.append(Block(a, torch.eye(side * side, dtype=x.dtype)))
            x = x + own.proj((a @ v).transpose(0, 1).flatten(1))
            x = x + block.mlp(block.norm2(x))
        if stage == 1:
            grid = x.view(16, 16, -1)
            merged = [grid[i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = net.features[2].reduction(net.features[2].norm(torch.cat(merged, dim=-1))).flatten(0, 1)
    return Run(net.head(net.norm(x).mean(dim=0)), blocks)


def pvt_run(net: nn.Module, image: Tensor, replaced: Mapping[int, Tensor]) -> Run:
    """timm's Pyramid Vision Transformer of `pvt` for one normalised image [3, 64, 64]."""
    embed, x = net.patch_embed, image[None]
    blocks: list[Block] = []
    for number, stage in enumerate(net.stages):
        embed = stage.downsample or embed
        x = embed.norm(embed.proj(x)[0].flatten(1).T)
        side, count = (16, 2) if number == 0 else (8, 3)
        for block in stage.blocks:
            own, read = block.attn, block.norm1(x)
            keys, spread = read, torch.eye(side * side, dtype=x.dtype)
            if number == 0:  # 4 x 4 tokens become one key
                keys = own.norm(own.sr(read.T.view(1, -1, side, side))[0].flatten(1).T)
                cell = [(i // side // 4) * 4 + i % side // 4 for i in range(side * side)]
                spread = F.one_hot(torch.tensor(cell), 16).T.to(x.dtype) / 16
            q = _heads(own.q(read), count)
            k, v = (_heads(part, count) for part in own.kv(keys).chunk(2, dim=-1))
            a = _used((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1), replaced, len(blocks))
            blocks.append(Block(a, spread))
            x = x + own.proj((a @ v).transpose(0, 1).flatten(1))
            x = x + block.mlp(block.norm2(x)[None], (side, side))[0]
        x = stage.norm(x).T.view(1, -1, side, side)
    return Run(net.head(x.mean(dim=(2, 3))[0]), blocks)


def shares(side: int, out: int, kernel: int, stride: int, padding: int) -> Tensor:
    """[out out, side side] equal shares of what each output of a convolution reads inside the image, by counting."""
    table = torch.zeros(out * out, side * side, dtype=torch.float64)
    for y in range(out):
        for x in range(out):
            for dy in range(kernel):
                for dx in range(kernel):
                    row, column = y * stride + dy - padding, x * stride + dx - padding
                    if 0 <= row < side and 0 <= column < side:
                        table[y * out + x, row * side + column] = 1
    return table / table.sum(dim=1, keepdim=True)


#: By network: what builds it, its replica, and the shares of merging and of the patch embedding.
REPLICAS = {
    "swin": (swin, swin_run, shares(16, 8, 2, 2, 0), shares(SIDE, 16, 4, 4, 0)),
    "pvt": (pvt, pvt_run, shares(16, 8, 3, 2, 1), shares(SIDE, 16, 7, 4, 3)),
}


def by_hand(name: str, run: Run, matrices: list[Tensor]) -> Tensor:
    """[64, 64] R(E) - R(0) for dense E [heads, T, S] of the four blocks: mean over heads, (I + E), merging, pixels."""
    _, _, merging, embedding = REPLICAS[name]
    moved, skips = (torch.full((64,), 1 / 64, dtype=torch.float64) for _ in range(2))
    for number in (3, 2, 1, 0):
        e = matrices[number].mean(dim=0) @ run.blocks[number].spread
        moved = moved + moved @ e
        if number == 2:
            moved, skips = moved @ merging, skips @ merging
    return ((moved - skips) @ embedding).view(SIDE, SIDE)
