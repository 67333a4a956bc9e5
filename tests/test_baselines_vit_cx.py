"""ViT-CX against a literal float64 replica, its clusters against a second implementation, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.baseline_networks import resnet
from support.plain_vit import CLASSES, DEPTH, PATCH, SIDE, images, passes_of, run, small
from torch import Tensor

from dix.baselines.vit_cx import VitCx, together
from dix.classifier import Classifier
from dix.passes import Passes
from dix.seeding import generator

METHOD = VitCx(layer=f"blocks.{DEPTH - 1}.norm1", distance=0.2)


def enlarged(cells: np.ndarray) -> np.ndarray:
    """A square of cells at the image's resolution: linear between the cells' centres, flat beyond the outermost."""
    pixels, centres = np.arange(SIDE) + 0.5, (np.arange(len(cells)) + 0.5) * PATCH
    rows = np.stack([np.interp(pixels, centres, column) for column in cells.T], axis=1)
    return np.stack([np.interp(pixels, centres, row) for row in rows])


def scaled(mask: np.ndarray) -> np.ndarray:
    return (mask - mask.min()) / (mask.max() - mask.min())


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(1 - (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def clusters(masks: list[np.ndarray], most: float) -> list[list[int]]:
    """The two clusters whose farthest members are nearest become one, as long as these are nearer than `most`."""
    found = [[i] for i in range(len(masks))]
    while len(found) > 1:
        pairs = [(i, j) for j in range(len(found)) for i in range(j)]
        gaps = [max(apart(masks[a], masks[b]) for a in found[i] for b in found[j]) for i, j in pairs]
        if min(gaps) >= most:
            break
        i, j = pairs[int(np.argmin(gaps))]
        found[i] += found.pop(j)
    return sorted(found, key=min)


def replica(made: Classifier, image: Tensor, target: int, name: str) -> np.ndarray:
    """The map [SIDE, SIDE], mask by mask."""

    def answer(normal: Tensor) -> float:
        return float(run(made, normal * 0.5 + 0.5).logits.detach().softmax(dim=0)[target])

    features = run(made, image).blocks[-1].normed[1:].detach().numpy()
    channels = [scaled(enlarged(channel.reshape(SIDE // PATCH, -1))) for channel in features.T]
    masks = [scaled(sum(channels[i] for i in members)) for members in clusters(channels, METHOD.distance)]
    assert 1 < len(masks) < len(channels)
    x = (image - 0.5) / 0.5
    above, below = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for k, mask in enumerate(masks):
        m = torch.from_numpy(mask)
        noise = 0.1 * torch.randn(x.shape, generator=generator(0, name, f"vit_cx {k}")).double() * (1 - m)
        above += (answer(x * m + noise) - answer(x + noise) + answer(x)) * mask
        below += mask
    return above / below


def test_vit_cx_weighs_its_masks_literally() -> None:
    made = small()
    passes = passes_of(made, 2, chunk=5)
    expected = [replica(made, x, t, str(t)) for t, x in enumerate(passes.images)]
    torch.testing.assert_close(METHOD.explain(passes), torch.from_numpy(np.stack(expected)))


def test_clusters_are_those_of_scikit_learn() -> None:
    """Which the authors' code asks for them."""
    cluster = pytest.importorskip("sklearn.cluster")
    masks = torch.rand(40, 3, 3, generator=generator("masks"), dtype=torch.float64)
    flat = masks.flatten(1)
    distances = 1 - torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
    made = cluster.AgglomerativeClustering(
        n_clusters=None, distance_threshold=0.1, metric="precomputed", linkage="complete"
    )
    labels = made.fit_predict(distances.numpy())
    first = sorted({int(label): int((labels == label).argmax()) for label in labels}.items(), key=lambda each: each[1])
    want = torch.stack([flat[torch.from_numpy(labels == label)].sum(dim=0) for label, _ in first])
    low, high = want.amin(dim=1, keepdim=True), want.amax(dim=1, keepdim=True)
    torch.testing.assert_close(together(masks, 0.1).flatten(1), (want - low) / (high - low))


def test_an_answer_that_never_changes_is_the_maps_only_value() -> None:
    """Each mask counts by the probability itself, and their mean does not depend on how many cover a pixel."""
    made = small()
    made.network.head.weight.zero_()
    maps = METHOD.explain(passes_of(made, 1))
    p = made.network.head.bias.softmax(dim=0)[0]
    torch.testing.assert_close(maps, p.expand_as(maps))


def test_maps_do_not_depend_on_batch_order_or_chunk() -> None:
    made, pictures, targets = small(), images(3), torch.tensor([3, 1, 4])
    whole = METHOD.explain(Passes(made, pictures, targets, ids="abc"))
    order = [2, 0, 1]
    turned = METHOD.explain(Passes(made, pictures[order], targets[order], ids="cab", chunk=1))
    torch.testing.assert_close(turned, whole[order], rtol=1e-6, atol=1e-10)
    other = METHOD.explain(Passes(made, pictures[:1], targets[1:2], ids="a"))
    assert not torch.allclose(other, whole[:1]), "another class, another map"


def test_a_mask_costs_two_forward_passes() -> None:
    made = small()
    passes = passes_of(made, 1)
    rows: list[int] = []
    features = passes.activation(METHOD.layer)[:, 1:].transpose(1, 2).reshape(-1, SIDE // PATCH, SIDE // PATCH)
    assert passes.logits.shape == (1, CLASSES)
    made.network.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    METHOD.explain(passes)
    large = torch.nn.functional.interpolate(features[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
    low, high = (edge(large.flatten(1), 1)[:, None, None] for edge in (torch.amin, torch.amax))
    assert sum(rows) == 2 * len(together((large - low) / (high - low), METHOD.distance))


def test_impossible_pairs_and_settings_have_a_reason() -> None:
    assert METHOD.unsupported(small()) == ""
    assert VitCx().unsupported(resnet()) == "its masks are made of a Vision Transformer's patch embeddings"
    assert VitCx().unsupported(small()) == "the model names no layer last"
    with pytest.raises(ValueError, match="distance: expected a number above 0, at most 1, got 0"):
        VitCx(distance=0)
    with pytest.raises(ValueError, match="noise: expected 0 or more, got -1"):
        VitCx(noise=-1)
