"""Settings that have no effect or make no sense are said by name, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dix.bench.run.settings import Run, ScoreProtocol
from dix.classifier import Classifier
from dix.metrics.api import Metric
from dix.patches import cannot_leave_out

#: The values that a setting of the protocol may have.
PROTOCOL: Mapping[str, Sequence[str]] = {
    "target": ("predicted", "label"),
    "hit": ("label", "predicted"),
    "score_class": ("explained", "label", "predicted"),
    "unlabelled": ("predicted", "drop"),
    "auc": ("trapezoid", "mean", "normalised"),
    "fill": ("black", "mean", "imagenet", "model_mean", "blur", "drop"),
    "soft_fill": ("black", "mean", "imagenet", "model_mean", "blur"),
    "ties": ("index", "random"),
    "schedule": ("thesis", "rise"),
    "constant_maps": ("count", "drop", "zero"),
    "nan_maps": ("drop", "zero"),
    "segmentation_maps": ("drop", "zero"),
    "start_mask": ("image", "metric"),
    "sic_output": ("softmax", "logit"),
    "sic_input": ("normalised", "raw"),
    "void": ("ignore", "foreground", "background"),
    "preprocess": ("direct", "checkpoint"),
    "map_resize": ("bilinear", "bicubic", "nearest"),
    "reveal": ("quantile", "rank"),
    "aggregate": ("median", "mean"),
    "dtype": ("float32", "float64", "bfloat16", "float16"),
}
#: The values that a setting of the run may have.
RUN: Mapping[str, Sequence[str]] = {
    "only": ("all", "failed"),
    "on_error": ("stop", "skip"),
    "until": ("all", "decided"),
    "compare": ("pairs", "baselines", "claims"),
}
#: The least value of each number of the run.
LEAST: Mapping[str, float] = {
    "batch_size": 1,
    "chunk": 0,
    "threads": 0,
    "workers": 0,
    "limit": 1,
    "least": 2,
    "order": 0,
    "gallery": 0,
    "maps": 0,
    "flush_seconds": 0,
}


def check(protocol: ScoreProtocol, run: Run) -> None:
    """Raise ValueError that names the key, what was expected and what was got, where a setting is out of range."""
    for group, settings, choices in (("protocol", protocol, PROTOCOL), ("run", run, RUN)):
        for key, allowed in choices.items():
            got = getattr(settings, key)
            if got not in allowed:
                raise ValueError(f"{group}.{key}: expected one of {', '.join(allowed)}, got {got!r}")
    for key, least in LEAST.items():
        got = getattr(run, key)
        if got is not None and not got >= least:
            number = "a number" if key == "flush_seconds" else "an integer"
            raise ValueError(f"run.{key}: expected {number} of at least {least}, got {got}")
    if not 0 < run.alpha < 1:
        raise ValueError(f"run.alpha: expected a probability between 0 and 1, got {run.alpha}")
    if len(run.shard) != 2 or not 0 <= run.shard[0] < run.shard[1]:
        raise ValueError(f"run.shard: expected [i, n] with 0 <= i < n, got {list(run.shard)}")


def check_purpose(methods: Mapping[str, Any], metrics: Mapping[str, Any], run: Run) -> None:
    """Raise ValueError where a run would compute nothing."""
    if not methods:
        raise ValueError("method: expected at least one, got none; `dix list method` shows all")
    if not metrics and run.gallery == 0 and run.maps == 0 and not run.maps_of:
        raise ValueError("metric: expected at least one, or run.gallery above 0 for pictures alone, got neither")


def check_removal(classifier: Classifier, metrics: Mapping[str, Metric], protocol: ScoreProtocol) -> None:
    """Raise ValueError where patches are to be left out and a metric knows no such rule, or the model cannot.

    A metric that alters pixels would be another protocol's; one that asks the model nothing is every protocol's.
    """
    probes = {name: probe for name, metric in metrics.items() if (probe := getattr(metric, "probe", None)) is not None}
    leaving = {name for name, probe in probes.items() if getattr(probe, "needs_patches", False)}
    others = sorted(set(probes) - leaving)
    if protocol.fill == "drop" and others:
        raise ValueError(
            f"metric: {', '.join(others)} cannot be computed under protocol.fill=drop, which leaves whole patches out: "
            "they alter pixels in a way of their own (a soft mask, a blur, an imputation); choose among "
            "metric=[neg,pos,ins,deletion] with protocol.schedule=thesis, or another protocol for these"
        )
    why = cannot_leave_out(classifier) if leaving else ""
    if why:
        raise ValueError(
            f"protocol.fill: drop leaves patches out of what a Vision Transformer is fed, and model {classifier.name} "
            f"cannot do so, since {why}; choose a ViT or another fill"
        )
