"""Settings of the sanity tests and of the training they need."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Sanity:
    """How weights are randomised and maps compared.

    modes: "cascading" (the last k weight layers), "independent" (only the k-th from the output), or both.
    layers: "all" weight layers, or "conv" for convolutions alone.
    depths: the k to test, k = 0 being the untouched network; empty: all. every: of all, every so many and the last.
    repeats: draws of the random weights, each with its own seed. init: "torch" (each module's default) or "he".
    measures: of likeness: spearman, spearman_absolute, ssim, hog; entropy of the map itself for the efficient test.
    size: side in pixels to which maps are averaged before they are compared; 0: that of the images.
    samples: noisy copies of each image whose maps are averaged (the smoothed test); 0: the image itself.
    noise: standard deviation of that noise, in units of the pixels' range.
    against: weights to compare with in the data test: paths, or "random"; a variant is called by its file's name.
    strips: of how many images all maps are kept as pictures.
    """

    modes: list[str] = field(default_factory=lambda: ["cascading"])
    layers: str = "all"
    depths: list[int] = field(default_factory=list)
    every: int = 1
    repeats: int = 1
    init: str = "torch"
    measures: list[str] = field(default_factory=lambda: ["spearman"])
    size: int = 0
    samples: int = 0
    noise: float = 0.1
    against: list[str] = field(default_factory=list)
    strips: int = 1


@dataclass
class Train:
    """How a classifier is trained for the data-randomisation test.

    out: the weights to write (.safetensors); its provenance is written beside it.
    labels: "true", or "permuted": the images keep their order and the labels are dealt anew, seeded.
    seed: of the permutation, the order of images and dropout. The initial weights are the model's own (model.seed).
    held_out: settings of the data set for the test images, say [part:test] or [root:/data/imagenet/val].
    stop_accuracy: stop after the epoch in which this share of the training images is right; 1.1: never.
    lr, weight_decay: of the optimiser ("adam", or "sgd" with momentum 0.9); the rate falls as a cosine.
    cache: keep all decoded images in memory (small data sets).
    deletions: most cells of a 4 x 4 grid that are black in a training image, drawn anew each time; 0: none are.
    """

    out: str = "${run.results}/weights/${model.name}_${.labels}.safetensors"
    labels: str = "true"
    seed: int = 0
    epochs: int = 30
    batch_size: int = 64
    optimiser: str = "adam"
    lr: float = 0.002
    weight_decay: float = 0.0
    stop_accuracy: float = 1.1
    held_out: list[str] = field(default_factory=list)
    cache: bool = False
    deletions: int = 0
