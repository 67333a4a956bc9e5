"""ViT-CX: masks made of patch embeddings, weighed by what the network answers behind them (Xie et al., IJCAI 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from dix.baselines.cam import grid, missing_layer
from dix.classifier import Classifier
from dix.maps import min_max, resize
from dix.passes import Passes, halving


@dataclass(frozen=True)
class VitCx:
    """ViT-CX (Xie et al., IJCAI 2023): m = sum over masks k of s_k M_k / sum over masks of M_k, pixel by pixel.

    A mask is a channel of the patches' embeddings, enlarged to the image and scaled to [0, 1]. Masks that are alike are
    put together (complete linkage: no two in a cluster are as far apart as `distance`, which is 1 less their cosine);
    the sum of a cluster's masks, scaled to [0, 1], is one of the K masks M. What a mask hides becomes noise, not grey.
    With e_k normal noise, p the class's probability, x the normalised image:

        s_k = p(x M_k + e_k (1 - M_k)) - p(x + e_k (1 - M_k)) + p(x)

    so that what the noise alone does to the answer does not count. Dividing by the sum of the masks makes up for pixels
    that lie in more masks than others. Costs 2 K F beside the clean pass: K depends on the image and the network.

    The definition is that of the authors' code, which also divides by K (one number for all pixels of a map) and draws
    its noise anew each time; here it comes from the image's id. Clusters are found by comparing distances, so that two
    that are equal up to rounding may change places in another batch.

    layer: whose tokens are the embeddings; the code takes the last block's first layer norm, as here. distance: below
    which masks are put together. noise: the standard deviation of e, in units of the normalised image.
    """

    version: ClassVar[int] = 1
    layer: str = "last"
    distance: float = 0.1
    noise: float = 0.1
    label: str = "ViT-CX"
    extra: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.distance <= 1:
            raise ValueError(f"distance: expected a number above 0, at most 1, got {self.distance}")
        if self.noise < 0:
            raise ValueError(f"noise: expected 0 or more, got {self.noise}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if classifier.kind != "vit":
            return "its masks are made of a Vision Transformer's patch embeddings"
        return missing_layer(classifier, self.layer)

    def explain(self, passes: Passes) -> Tensor:
        """[B, S, S] maps at the images' resolution, never negative up to rounding and noise."""
        features = grid(passes, passes.activation(self.layer))
        return torch.stack([self._map(passes, image, channels) for image, channels in enumerate(features)])

    def _map(self, passes: Passes, image: int, channels: Tensor) -> Tensor:
        masks = together(min_max(resize(channels, passes.size)), self.distance)
        impact = halving(lambda chunk: self._impacts(passes, image, masks, chunk), passes.chunk)
        covered = masks.sum(dim=0)
        return (impact.view(-1, 1, 1) * masks).sum(dim=0) / covered.where(covered > 0, 1)

    @torch.no_grad()
    def _impacts(self, passes: Passes, image: int, masks: Tensor, chunk: int) -> Tensor:
        """s [K] of the masks [K, S, S] of one image."""
        x = passes.classifier.normalise(passes.images[image : image + 1])
        whole = passes.score(passes.logits, kind="probability")[image]
        found = []
        for part in torch.arange(len(masks)).split(max(1, chunk // 2)):
            shown = masks[part.to(masks.device)][:, None]
            noise = self._noise(passes, image, part, x) * (1 - shown)
            logits = passes.classifier.network(torch.cat([x * shown + noise, x + noise]))
            rows = torch.full((len(logits),), image, device=logits.device)
            seen, disturbed = passes.score(logits, rows, "probability").chunk(2)
            found.append(seen - disturbed + whole)
        return torch.cat(found)

    def _noise(self, passes: Passes, image: int, masks: Tensor, like: Tensor) -> Tensor:
        """[k, 3, S, S] normal numbers, a stream for each image and mask."""
        drawn = [
            torch.randn(like.shape[1:], generator=passes.generator(image, f"vit_cx {mask}")) for mask in masks.tolist()
        ]
        return self.noise * torch.stack(drawn).to(like)


def together(masks: Tensor, distance: float) -> Tensor:
    """Masks [C, S, S] in [0, 1] put together to masks [K, S, S]; clusters in the order of their first mask."""
    flat = masks.flatten(1).double()
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    member = torch.from_numpy(_clusters((1 - unit @ unit.T).cpu().numpy(), distance)).to(masks.device)
    sums = torch.zeros(int(member.max()) + 1, flat.shape[1], dtype=flat.dtype, device=flat.device)
    return min_max(sums.index_add(0, member, flat)).to(masks.dtype).view(-1, *masks.shape[1:])


def _clusters(distances: np.ndarray, most: float) -> np.ndarray:
    """[C] the cluster of each, counted from 0 in the order of their first members, given distances [C, C]."""
    if len(distances) == 1:
        return np.zeros(1, dtype=np.int64)
    pairs = squareform(distances, checks=False).clip(min=0)  # rounding may make a distance to itself negative
    found = fcluster(linkage(pairs, "complete"), np.nextafter(most, 0), "distance")
    _, first, member = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[member]
