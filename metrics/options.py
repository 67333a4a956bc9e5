"""The choices that a protocol makes, by name, and the checks that turn a user's slip into a clear message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

Order = Literal["least", "most"]
Ties = Literal["index", "random"]
Fill = Literal["black", "mean", "imagenet", "model_mean", "blur"]
#: What becomes of masked pixels: another pixel, or their patch is not fed at all.
Removal = Literal["black", "mean", "imagenet", "model_mean", "blur", "drop"]
Hit = Literal["label", "predicted"]
ScoreClass = Literal["explained", "label", "predicted"]
Auc = Literal["trapezoid", "mean", "normalised"]
Schedule = Literal["thesis", "rise"]
Void = Literal["ignore", "foreground", "background"]
Revealed = Literal["quantile", "rank"]
Aggregate = Literal["median", "mean"]
Output = Literal["softmax", "logit"]
Input = Literal["normalised", "raw"]
StartMask = Literal["image", "metric"]
ConstantMaps = Literal["count", "drop", "zero"]
NanMaps = Literal["drop", "zero"]


#: The protocol's choices that metrics have as fields of the same name.
CHOICES: Mapping[str, Any] = {
    "fill": Removal,
    "soft_fill": Fill,
    "ties": Ties,
    "auc": Auc,
    "hit": Hit,
    "schedule": Schedule,
    "score_class": ScoreClass,
    "constant_maps": ConstantMaps,
    "nan_maps": NanMaps,
    "reveal": Revealed,
    "aggregate": Aggregate,
    "sic_output": Output,
    "sic_input": Input,
    "start_mask": StartMask,
    "void": Void,
}


def check_choices(thing: object) -> None:
    """Raise ValueError where a field of `thing` that is a choice of the protocol has no allowed value."""
    for name, allowed in CHOICES.items():
        if hasattr(thing, name):
            choose(f"protocol.{name}", getattr(thing, name), get_args(allowed))


def choose(key: str, got: str, allowed: Sequence[str]) -> str:
    """Return `got`, or raise a ValueError that names the configuration key and the values it may have."""
    if got not in allowed:
        raise ValueError(f"{key}: expected one of {', '.join(allowed)}, got {got!r}")
    return got


def floats(key: str, values: Iterable[float], low: float = 0.0, high: float = 1.0) -> tuple[float, ...]:
    """The values as a tuple of floats, checked to increase strictly within [low, high]."""
    out = tuple(float(v) for v in values)
    rising = all(a < b for a, b in pairwise(out))
    if not out or not rising or out[0] < low or out[-1] > high:
        raise ValueError(f"{key}: expected values rising strictly within [{low:g}, {high:g}], got {list(out)}")
    return out
