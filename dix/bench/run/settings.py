"""The two groups of plain settings: what defines a score, and what must not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ScoreProtocol:
    """Everything of a protocol that defines a score.

    name, version: of the protocol; both are part of every result's identity.
    target: the explained class: "predicted" or "label" (the data set's, where it has one).
    hit: the class that counts as a hit in NEG and POS: "label" (where there is one) or "predicted".
    score_class: the class whose probability is scored: "explained", "label" (where there is one) or "predicted".
    unlabelled: images without a label: "predicted" lets the predicted class stand in, "drop" excludes them.
    fractions: shares of pixels that are masked; 0.0 is the unmasked image.
    auc: "trapezoid" over the fractions times 100, "mean" of the levels, or "normalised" to the width of the fractions.
    fill, soft_fill: what masked pixels become, and what the soft mask of ADP, PIC and ADD fades to, in pixel space:
    "black", "mean" (of the image), "imagenet", "model_mean" (0 after the model's normalisation) or "blur".
    ties: order of equally relevant pixels: "index" (row by row) or "random" (seeded by image).
    schedule: of INS and DEL: "thesis" (that of NEG and POS) or "rise".
    constant_maps: "count" them as they are, "drop" them, or take them for "zero"; nan_maps: "drop" maps that are not
    finite or take them for "zero"; segmentation_maps: both kinds in the segmentation metrics, "drop" or "zero".
    void: mask pixels that belong to nothing: "ignore", "foreground" or "background".
    preprocess: "direct" resizes to the model's size without a crop; "checkpoint" does what the checkpoint recommends.
    antialias: of the image's resize. map_resize: how maps are enlarged to the image.
    thresholds, start_pixels, start_mask, reveal, monotone, aggregate, min_pred_value, sic_output, sic_input: of SIC and
    AIC: shares of revealed pixels; share of pixels known from the start; one set of them for each "image", or for each
    "metric", method and image; "quantile" (ties revealed together) or "rank"; running maximum of the curve; "median" or
    "mean" curve; images whose clean prediction is below the limit are excluded; SIC's "softmax" or "logit"; pixels
    "normalised" as the model expects, or "raw".
    dtype: precision of the network. tf32: allow TF32 on GPUs that have it. seed: of everything random.
    """

    name: str = ""
    version: int = 0
    target: str = "predicted"
    hit: str = "label"
    score_class: str = "explained"
    unlabelled: str = "predicted"
    fractions: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    auc: str = "trapezoid"
    fill: str = "black"
    soft_fill: str = "black"
    ties: str = "index"
    schedule: str = "thesis"
    constant_maps: str = "count"
    nan_maps: str = "drop"
    segmentation_maps: str = "drop"
    void: str = "foreground"
    preprocess: str = "direct"
    antialias: bool = True
    map_resize: str = "bilinear"
    thresholds: list[float] = field(
        default_factory=lambda: [0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.10, 0.13, 0.21, 0.34, 0.5, 0.75]
    )
    start_pixels: float = 0.01
    start_mask: str = "image"
    reveal: str = "quantile"
    monotone: bool = True
    aggregate: str = "median"
    min_pred_value: float = 0.5
    sic_output: str = "softmax"
    sic_input: str = "normalised"
    dtype: str = "float32"
    tf32: bool = False
    seed: int = 0


@dataclass
class Run:
    """Everything of a run that does not define a score.

    name: of the results. results: the folder they are stored in.
    device: "auto", "cpu", "cuda" or "mps". batch_size: images explained together. chunk: most rows in one forward pass
    of a path or a probe, 0 for what is fastest. threads: of the CPU, 0 for torch's choice. workers: that decode images
    and encode for SIC/AIC.
    limit: only the first so many images. shard: [i, n], the i-th of n parts of the images. only: "all", or "failed" to
    run only jobs that failed. on_error: an unreadable image: "stop" or "skip" (and say so).
    deterministic: only algorithms that give equal bits twice. flush_seconds: longest time before rows are on disk.
    gallery: images whose maps are kept as pictures. progress: show a progress bar on a terminal.
    """

    name: str = "run"
    results: str = "results/${.name}"
    device: str = "auto"
    batch_size: int = 8
    chunk: int = 0
    threads: int = 0
    workers: int = 2
    limit: int | None = None
    shard: list[int] = field(default_factory=lambda: [0, 1])
    only: str = "all"
    on_error: str = "stop"
    deterministic: bool = False
    flush_seconds: float = 10.0
    gallery: int = 6
    progress: bool = True
