"""The values that the thesis's Tables 1-5 print, and the layout in which it prints them.

The values are facts copied from the tables (percent, two decimals); names are the suite's own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

VALUES = Path(__file__).with_name("tables.csv")

#: The methods that the thesis proposes and claims to be better than every baseline.
CLAIMED = ("dix2", "dix3")

#: All variants of the proposed method, none of which is a baseline.
PROPOSED = ("dix1", "dix2", "dix2_mul", "dix3_grads", "dix3")


def is_variant(method: str) -> bool:
    """Whether a name is that of the proposed method or of a reading of it, such as `dix3_max`."""
    return method.split("_")[0] in PROPOSED


#: Names as the thesis's tables print them.
METHOD_LABELS = {
    "gc": "GC",
    "gcpp": "GC++",
    "lift": "LIFT",
    "ac": "AC",
    "ig": "IG",
    "gig": "GIG",
    "big": "BIG",
    "fg": "FG",
    "lc": "LC",
    "xgc": "XGC",
    "t_attr": "T-Attr",
    "gae": "GAE",
    "dix1": "DIX1",
    "dix2": "DIX2",
    "dix2_mul": "DIX2-MUL",
    "dix3_grads": "DIX3-GRADS",
    "dix3": "DIX3",
}
MODEL_LABELS = {
    "resnet101": "RN",
    "convnext_base": "CN",
    "densenet201": "DN",
    "vit_base": "ViT-B",
    "vit_small": "ViT-S",
}
DATASET_LABELS = {"imagenet": "IN", "imagenet_seg": "IN-Seg", "coco": "COCO", "voc": "VOC"}


class Printed(NamedTuple):
    """One printed value: `table` is the table's number, `value` is in percent."""

    table: int
    dataset: str
    model: str
    method: str
    metric: str
    value: float


class PrintedLayout(NamedTuple):
    """What a printed table covers, in its order of blocks (data set, model), columns and rows."""

    blocks: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]


@cache
def printed_values() -> tuple[Printed, ...]:
    """All values of Tables 1-5 in the order of the file."""
    with VALUES.open(newline="", encoding="utf-8") as lines:
        return tuple(
            Printed(int(row["table"]), row["dataset"], row["model"], row["method"], row["metric"], float(row["value"]))
            for row in csv.DictReader(lines)
        )


def printed_table(number: int) -> tuple[Printed, ...]:
    """The values of one table; raises ValueError for a table that the thesis does not have."""
    values = tuple(value for value in printed_values() if value.table == number)
    if not values:
        numbers = sorted({value.table for value in printed_values()})
        raise ValueError(f"expected the number of a table among {numbers}, got {number}")
    return values


def layout(number: int) -> PrintedLayout:
    """The blocks, columns and rows of one table."""
    values = printed_table(number)
    return PrintedLayout(
        tuple(dict.fromkeys((value.dataset, value.model) for value in values)),
        tuple(dict.fromkeys(value.method for value in values)),
        tuple(dict.fromkeys(value.metric for value in values)),
    )


def lookup(numbers: Iterable[int] | None = None) -> dict[tuple[str, str, str, str], float]:
    """Printed values by (model, data set, method, metric), of some tables or of all.

    Table 5 repeats values of Tables 1 and 2; the repeated values agree.
    """
    chosen = None if numbers is None else set(numbers)
    return {
        (value.model, value.dataset, value.method, value.metric): value.value
        for value in printed_values()
        if chosen is None or value.table in chosen
    }
