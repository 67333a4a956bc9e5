"""Deep Integrated Explanations: the method of the thesis, for CNNs and for Vision Transformers.

The names follow Sec. 4: x is what a layer returns, z its baseline, r(t) = z + t (x - z) the path between them (Eq. 4),
g(t) the gradient of the explained class's score by r(t), h = x - z, phi a function of both, psi what turns a layer's
attribution into a map over the image, S the set of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from dix.attention import BlockAttention, attention_runs, between_all
from dix.capture import gradients
from dix.classifier import Classifier
from dix.integrate import PHI, Baseline, Phi, Rule, baseline, quadrature
from dix.maps import Resize, by_maximum, grid, min_max, resize
from dix.passes import Passes, Rows, Score, halving, rows
from dix.recording import Lean

#: What a method is to a table: a rival that is compared, the proposed method, or a control that is only shown.
#: A class says so by its attribute `role`; without one it is a baseline.
BASELINE, PROPOSED, CONTROL = "baseline", "proposed", "control"
#: Aliases of the layers L, L-1 and L-2 of a CNN.
DEPTHS = ("last", "second", "third")

Normalise = bool | Literal["maximum", "positive"]
#: How a layer's map is brought to one scale with the others'; see `Dix`.
NORMALISE: Mapping[Normalise, Callable[[Tensor], Tensor]] = {
    True: min_max,
    False: lambda maps: maps,
    "maximum": by_maximum,
    "positive": lambda maps: by_maximum(maps.relu()),
}


@runtime_checkable
class Explainer(Protocol):
    """A method that explains. Implementations are frozen dataclasses of hyper-parameters.

    Attributes:
        label: The name that tables print.
        extra: True for methods that the thesis's tables do not have.
    """

    @property
    def label(self) -> str: ...
    @property
    def extra(self) -> bool: ...

    def unsupported(self, classifier: Classifier) -> str:
        """Why a classifier cannot be explained.

        Args:
            classifier: The classifier that somebody wants to explain.

        Returns:
            The reason, which tables show instead of a number; "" where there is none.
        """
        ...

    def explain(self, passes: Passes) -> Tensor:
        """Explain a batch.

        Args:
            passes: The batch, and all evidence about it.

        Returns:
            [B, h, w] explanation maps, at any resolution, larger where more relevant; signed where the method is.
        """
        ...


@dataclass(frozen=True)
class PathIntegral:
    """The curve from the baseline to the activation and how the integral along it is summed (Eq. 4 and 5).

    Attributes:
        steps: N.
        rule: The quadrature: "right" (Eq. 5), "left", "midpoint", "trapezoid" or "gauss".
        baseline: z, for CNNs (attention starts at zero, Sec. 4.1): "channel_min", "zero", "mean" or "noise".
        score: What is differentiated, the target's "logit" or its "probability".
    """

    version: ClassVar[int] = 1
    steps: int = 10
    rule: Rule = "right"
    baseline: Baseline = "channel_min"
    score: Score = "logit"

    def __post_init__(self) -> None:
        quadrature(self.rule, self.steps)


@dataclass(frozen=True)
class LayerSums:
    """Sum over n of phi(r(n/N), g(n/N)) / N at one layer of a CNN, for every phi at once, and h = x - z.

    All DIX variants and ablations ask for this same evidence, so the path is walked once per layer.
    """

    layer: str
    path: PathIntegral

    def compute(self, passes: Passes) -> tuple[Tensor, dict[Phi, Tensor]]:
        """h [B, C, h, w] and, by phi, the sums [B, C, h, w]."""
        x = passes.activation(self.layer)
        noise = passes.noise(x.shape[1:], f"baseline {self.layer}") if self.path.baseline == "noise" else None
        return self.between(passes, baseline(self.path.baseline, x, noise))

    def between(self, passes: Passes, z: Tensor) -> tuple[Tensor, dict[Phi, Tensor]]:
        """The same from a baseline z that is given, broadcastable to [B, C, h, w]."""
        x = passes.activation(self.layer)
        h = x - z
        return h, halving(lambda chunk: self._sums(passes, x, z, h, chunk), passes.chunk)

    def _sums(self, passes: Passes, x: Tensor, z: Tensor, h: Tensor, chunk: int) -> dict[Phi, Tensor]:
        times, weights = (torch.from_numpy(v).to(x) for v in quadrature(self.path.rule, self.path.steps))
        known = (times == 1) & (self.path.score == "logit")
        sums = {phi: torch.zeros_like(x) for phi in PHI}
        for weight in weights[known]:  # r(1) = x, whose gradient the clean pass has
            _add(sums, slice(None), x[None], passes.gradient(self.layer)[None], weight)
        times, weights = times[~known], weights[~known]
        for part in rows(len(times), len(x), chunk, x.device):
            r = z[part.images] + part.spread(times) * h[part.images]
            _add(sums, part.images, r, gradient_at(passes, self.layer, r, part, self.path.score), part.spread(weights))
        return sums


def gradient_at(passes: Passes, layer: str, r: Tensor, part: Rows, score: Score = "logit") -> Tensor:
    """g [p, b, ...] of the score at interpolants r [p, b, ...] of a layer, through the layer's tail alone."""
    leaf = r.flatten(0, 1).requires_grad_()
    with torch.enable_grad(), Lean():
        logits = passes.classifier.tail(layer).logits(leaf, passes.context(layer), part.image_of_row)
        total = passes.score(logits, part.image_of_row, score).sum()
    return gradients(total, [leaf])[0].view_as(r)


def _add(sums: dict[Phi, Tensor], images: slice | Tensor, r: Tensor, g: Tensor, weight: Tensor) -> None:
    weight = weight.view(-1, *[1] * (r.ndim - 1))
    for phi, function in PHI.items():
        sums[phi][images] += (weight * function(r, g)).sum(dim=0)


@dataclass(frozen=True)
class AttentionSums:
    """Gradient-weighted attention of all blocks while block l's attention runs from zero to itself, for every phi.

    At step n, block l returns r(n/N) = (n/N) A_l instead of its attention A_l; the blocks behind it recompute theirs.
    For every block b: E_b(n) = mean over heads of ReLU(phi(A_b(n), dA_b(n))), with A_b(n) and its gradient of that run.
    r is a variable of its own: no gradient passes through the softmax it stands for, so the last step is not the clean
    pass as far as the blocks before l are concerned.

    block: index of l, 0 for the first block. per_step: roll out at every step and sum the rows (the order in which
    Eq. 5 is printed), instead of once on the mean of E over the steps.
    """

    block: int
    path: PathIntegral
    rollout: Rollout
    per_step: bool = False

    def compute(self, passes: Passes) -> dict[Phi, Tensor]:
        """By phi, the CLS token's relevance of the patches [B, h, w]."""
        sums = halving(lambda chunk: self._sums(passes, chunk), passes.chunk)
        return sums if self.per_step else {phi: self.rollout.patches(passes, e) for phi, e in sums.items()}

    def _sums(self, passes: Passes, chunk: int) -> dict[Phi, Tensor]:
        times, weights = (torch.from_numpy(v).to(passes.images) for v in quadrature(self.path.rule, self.path.steps))
        sums: dict[Phi, Tensor] = {}
        for point, images, run in attention_runs(passes, self.block, times, chunk, self.path.score):
            self._add(passes, sums, weights[point], images, run)
        return sums

    def _add(
        self, passes: Passes, sums: dict[Phi, Tensor], weight: Tensor, images: slice, run: Sequence[BlockAttention]
    ) -> None:
        for phi in PHI:
            e = gradient_weighted(passes.classifier, run, phi)
            value = self.rollout.patches(passes, e) if self.per_step else e
            total = sums.setdefault(phi, value.new_zeros(len(passes.ids), *value.shape[1:]))
            total[images] += weight * value


def gradient_weighted(classifier: Classifier, run: Sequence[BlockAttention], phi: Phi = "product") -> Tensor:
    """E [b, blocks, T, T]: by block, the mean over heads of ReLU(phi(attention, gradient))."""
    return between_all(classifier, [PHI[phi](a, g).relu().mean(dim=1) for a, g in run])


@dataclass(frozen=True)
class Rollout:
    """Gradient Rollout (thesis Sec. 4.1; Abnar & Zuidema 2020 on gradient-weighted attention).

    R = (E_B + I) ... (E_2 + I)(E_1 + I), later blocks on the left; the row of CLS (the mean of the rows that the head
    reads, where it reads others) without the entries of the prefix tokens, shaped as the grid of patches. Where the
    head reads patches, each has its share by skips alone, whatever the image: that is left out, as CLS's own entry is.

    Attributes:
        residual: Add the identity, for the skip connection.
        normalise_rows: Scale the rows of E + I to sum to 1.
        product: Multiply the blocks' matrices; False: sum the rows of CLS instead (the thesis's footnote 1).
    """

    version: ClassVar[int] = 1
    residual: bool = True
    normalise_rows: bool = True
    product: bool = True

    def patches(self, passes: Passes, e: Tensor) -> Tensor:
        """[M, h, w] relevance of the patches for E [M, blocks, T, T]."""
        readout, before = passes.classifier.readout, passes.classifier.prefix_tokens
        row = self.read_row(e, readout) if max(readout) < before else self.attended_row(e, readout)
        return grid(row[:, before:], passes.size)

    def read_row(self, e: Tensor, readout: Sequence[int] = (0,)) -> Tensor:
        """[M, T] the mean of the rows of R with the indices `readout`; CLS alone: the first row."""
        row = _start(e, readout)
        if not self.product:
            return torch.stack([self._step(row, e[:, block]) for block in range(e.shape[1])]).sum(dim=0)
        for block in reversed(range(e.shape[1])):
            row = self._step(row, e[:, block])
        return row

    def attended_row(self, e: Tensor, readout: Sequence[int]) -> Tensor:
        """[M, T] of that row what some attention has handed on: without what skips alone carry.

        It is summed by itself: where attention adds little (fresh layer scales: 1e-12), nothing of it is left in a sum
        with the skips' 1 / |readout|.
        """
        skips, attended = _start(e, readout), torch.zeros_like(e[:, 0, 0])
        if not self.product:
            parts = [_handed_on(self._scaled(skips, e[:, block]), e[:, block]) for block in range(e.shape[1])]
            return torch.stack(parts).sum(dim=0)
        for block in reversed(range(e.shape[1])):
            skips, attended = (self._scaled(row, e[:, block]) for row in (skips, attended))
            handed = _handed_on(skips + attended, e[:, block])
            skips, attended = skips * float(self.residual), attended * float(self.residual) + handed
        return attended

    def _scaled(self, row: Tensor, e: Tensor) -> Tensor:
        """The row's entries over the sums of the rows of E + I, if asked for (rows of zeros stay so)."""
        mixed = e.sum(dim=-1) + float(self.residual)
        return row / mixed.where(mixed > 0, torch.ones_like(mixed)) if self.normalise_rows else row

    def _step(self, row: Tensor, e: Tensor) -> Tensor:
        """row (E + I), with rows scaled first if asked for."""
        scaled = self._scaled(row, e)
        return _handed_on(scaled, e) + (scaled if self.residual else 0)


def _handed_on(row: Tensor, e: Tensor) -> Tensor:
    """[M, T] of a row [M, T] times E [M, T, T], which is never copied."""
    return torch.einsum("mt,mts->ms", row, e)


def _start(e: Tensor, readout: Sequence[int]) -> Tensor:
    """[M, T] what the head reads of tokens of E [M, blocks, T, T], all of them alike."""
    row = torch.zeros_like(e[:, 0, 0])
    row[:, list(readout)] = 1 / len(readout)
    return row


@dataclass(frozen=True)
class Dix:
    """DIX over the last `depth` layers (Eq. 6): m = 1/|S| sum of m^l, m^l = psi(h / N sum of phi(r, g)) (Eq. 5).

    CNN: x is the activation of layers L, L-1, L-2; psi is the mean over channels, the resize to the image, and what
    `normalise` says. ViT: x is the attention of the last blocks, z = 0, and phi with psi is Gradient
    Rollout, whose result has no factor h since it is a map over patches already.

    Attributes:
        depth: |S|, 1 to 3.
        phi: "product" (r g, the thesis) or "gradient" (g, DIX-GRADS); "rectified" (ReLU(r) ReLU(g)) or
            "positive_gradient" (ReLU(g)).
        path: The curve from the baseline to the activation, and how the integral along it is summed.
        combine: "mean" (Eq. 6), "sum" or "product" (DIX-MUL) of the layers' maps.
        normalise: What is done to each layer's map before they are combined. "positive": cut off what is negative and
            divide by the maximum; "maximum": divide by the maximum alone, which leaves 0 where it is; True: scale to
            [0, 1] by minimum and maximum; False: nothing, and the layer with the largest magnitudes decides alone.
            docs/reading.md says why the first bears the name.
        resize: How a layer's map is enlarged to the image: "bilinear", "bicubic" or "nearest".
        rollout: How attention matrices become a map, for Vision Transformers.
        per_step: Roll out at every step and sum the rows (the order in which Eq. 5 is printed), instead of once on the
            mean over the steps; for Vision Transformers.
        label: The name that tables print.
        extra: True for readings that the thesis's tables do not have.
    """

    version: ClassVar[int] = 1
    role: ClassVar[str] = PROPOSED
    depth: int = 3
    phi: Phi = "product"
    path: PathIntegral = field(default_factory=PathIntegral)
    combine: Literal["mean", "sum", "product"] = "mean"
    normalise: Normalise = "positive"
    resize: Resize = "bilinear"
    rollout: Rollout = field(default_factory=Rollout)
    per_step: bool = False
    label: str = "DIX3"
    extra: bool = False

    def __post_init__(self) -> None:
        if self.depth not in (1, 2, 3):
            raise ValueError(f"depth: expected 1, 2 or 3 layers, got {self.depth}")
        if self.phi not in PHI:
            raise ValueError(f"phi: expected one of {', '.join(PHI)}, got {self.phi!r}")
        if self.combine not in _COMBINE:
            raise ValueError(f"combine: expected one of {', '.join(_COMBINE)}, got {self.combine!r}")
        if self.normalise not in NORMALISE:
            raise ValueError(f"normalise: expected true, false, maximum or positive, got {self.normalise!r}")

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        if classifier.kind == "vit":
            return (
                "" if len(classifier.attention_layers) >= self.depth else "fewer attention blocks than layers asked for"
            )
        missing = [alias for alias in DEPTHS[: self.depth] if alias not in classifier.layers]
        return f"the model names no layer {', '.join(missing)}" if missing else ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] maps at the images' resolution."""
        layer_maps = self._vit_maps(passes) if passes.classifier.kind == "vit" else self._cnn_maps(passes)
        resized = [resize(m, passes.size, self.resize) for m in layer_maps]
        return _COMBINE[self.combine](torch.stack([NORMALISE[self.normalise](m) for m in resized]))

    def _cnn_maps(self, passes: Passes) -> list[Tensor]:
        maps = []
        for layer in DEPTHS[: self.depth]:
            h, sums = passes.get(LayerSums(layer, self.path))
            maps.append((h * sums[self.phi]).mean(dim=1))
        return maps

    def _vit_maps(self, passes: Passes) -> list[Tensor]:
        last = len(passes.classifier.attention_layers) - 1
        evidence = [AttentionSums(last - i, self.path, self.rollout, self.per_step) for i in range(self.depth)]
        return [passes.get(each)[self.phi] for each in evidence]


_COMBINE = {
    "mean": lambda maps: maps.mean(dim=0),
    "sum": lambda maps: maps.sum(dim=0),
    "product": lambda maps: maps.prod(dim=0),
}
