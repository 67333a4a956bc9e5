"""The two groups of plain settings: what defines a score, and what must not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ScoreProtocol:
    """Everything of a protocol that defines a score.

    name: the protocol's name, part of every result's identity.
    version: the protocol's version, likewise.
    target: the class that is explained: "predicted", or "label" (the data set's, where it has one).
    hit: the class that counts as a hit in NEG and POS: "label" (where there is one) or "predicted".
    score_class: the class whose probability is scored: "explained", "label" (where there is one) or "predicted".
    unlabelled: images without a label: "predicted" lets the predicted class stand in, "drop" excludes them.
    fractions: shares of the pixels that are masked; 0.0 is the unmasked image.
    auc: "trapezoid" over the fractions times 100, "mean" of the levels, or "normalised" to the width of the fractions.
    fill: what masked pixels become: "black", "mean" (of the image), "imagenet", "model_mean", "blur", or "drop" (ViTs).
    soft_fill: what the soft mask of ADP, PIC and ADD fades to; "model_mean" is 0 after the model's normalisation.
    ties: the order of equally relevant pixels: "index" (row by row) or "random" (seeded by the image).
    schedule: the schedule of INS and DEL: "thesis" (that of NEG and POS) or "rise".
    constant_maps: "count" them as they are, "drop" them, or take them for "zero".
    nan_maps: "drop" maps that are not finite, or take them for "zero".
    segmentation_maps: both kinds in the segmentation metrics: "drop" or "zero".
    void: mask pixels that belong to nothing: "ignore", "foreground" or "background".
    preprocess: "direct" resizes to the model's size without a crop; "checkpoint" does what the checkpoint recommends.
    antialias: whether images are smoothed when they are made smaller.
    map_resize: how maps are enlarged to the image.
    thresholds: SIC and AIC: shares of the pixels that are revealed.
    start_pixels: SIC and AIC: share of the pixels that are known from the start.
    start_mask: SIC and AIC: one set of them for each "image", or for each "metric", method and image.
    reveal: SIC and AIC: "quantile" (equally relevant pixels are revealed together) or "rank".
    monotone: SIC and AIC: whether a curve never falls (its running maximum is taken).
    aggregate: SIC and AIC: the "median" or the "mean" curve of all images.
    min_pred_value: SIC and AIC: images whose unaltered prediction is lower are left out.
    sic_output: what SIC scores: the "softmax" or the "logit".
    sic_input: SIC and AIC: pixels "normalised" as the model expects, or "raw".
    dtype: the network's precision: "float32", "float64", "bfloat16" or "float16".
    tf32: whether GPUs that have TF32 may use it.
    seed: the seed of everything random.
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

    name: the name of the results.
    results: the folder in which the results are stored.
    device: "auto" (the best there is), "cpu", "cuda", "cuda:N" or "mps".
    batch_size: how many images are explained together.
    chunk: most rows in one forward pass of a path or a probe; 0: what is fastest.
    threads: of the CPU; 0: those of the SLURM task, or PyTorch's own choice.
    workers: processes that decode images and encode them for SIC and AIC.
    limit: only the first so many images; null: all.
    until: "all" images are computed, or each method and metric until all its comparisons are "decided".
    compare: what is to be decided: all "pairs" of methods, those with one of the "baselines", or the thesis's "claims".
    alpha: the probability that any of these verdicts is ever wrong, for one model, data set and protocol.
    least: images before which nothing is decided.
    order: the seed of the random order in which images are computed until all is decided.
    shard: [i, n] is the i-th of n parts of the images.
    only: "all" jobs, or only those that "failed".
    on_error: what an unreadable image does: "stop" the run, or be left out and named ("skip").
    deterministic: whether only algorithms are used that give equal bits twice.
    flush_seconds: the longest time before computed rows are on disk.
    gallery: how many images have their maps kept as pictures.
    maps: how many images have their maps kept as numbers of 16 bits, for `dix view`.
    maps_of: names of further images whose maps are kept so, as in run.maps_of=[coffee,rocket].
    progress: whether progress is shown.
    """

    name: str = "run"
    results: str = "results/${.name}"
    device: str = "auto"
    batch_size: int = 8
    chunk: int = 0
    threads: int = 0
    workers: int = 2
    limit: int | None = None
    until: str = "all"
    compare: str = "pairs"
    alpha: float = 0.05
    least: int = 25
    order: int = 0
    shard: list[int] = field(default_factory=lambda: [0, 1])
    only: str = "all"
    on_error: str = "stop"
    deterministic: bool = False
    flush_seconds: float = 10.0
    gallery: int = 6
    maps: int = 0
    maps_of: list[str] = field(default_factory=list)
    progress: bool = True
