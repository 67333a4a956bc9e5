"""Tables of the sanity tests: means with intervals over images, and what could not be compared."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dix.bench.sanity.chance import COUNT
from dix.bench.sanity.compare import FAULTS, Likeness
from dix.bench.store.results import ResultStore
from dix.bench.tables.statistics import FEW, Bootstrap, Column, Floats, Interval, intervals
from dix.metrics.api import mean_summary

_KIND = Likeness.__name__
_HEAD = ("model", "dataset", "protocol", "test", "measure", "method")
#: Packages whose version a reader needs; the store's provenance has all.
_VERSIONS = ("python", "torch", "torchvision", "timm", "numpy", "scipy")


@dataclass(frozen=True)
class Curves:
    """One method's curves in one test.

    x, names: positions, and the layer or weights that differ there ("" for the original). images: the n that count.
    values: [n, R, X] likeness by image, repeat and position, NaN where there is none.
    faults: [n, R, X] indices into FAULTS. excluded: images whose original map is faulty, by reason.
    chance: [n] likeness of the original's map to its maps of other images, NaN where there is none. graded: whether the
    positions are steps of one change, so that their mean says something; networks of other labels are not.
    """

    model: str
    dataset: str
    protocol: str
    test: str
    measure: str
    method: str
    x: tuple[int, ...]
    names: tuple[str, ...]
    images: tuple[str, ...]
    values: Floats
    faults: NDArray[np.int64]
    excluded: Mapping[str, int]
    chance: Floats
    graded: bool

    @property
    def block(self) -> tuple[str, ...]:
        """What all methods of a table share."""
        return self.model, self.dataset, self.protocol, self.test, self.measure

    def of_image(self) -> Floats:
        """[n, X] mean over the sound repeats; NaN where no repeat is sound."""
        sound = ~np.isnan(self.values)
        with np.errstate(invalid="ignore"):
            return np.where(sound, self.values, 0).sum(axis=1) / sound.sum(axis=1)

    def altered(self) -> Floats:
        """[n] mean over the altered networks; NaN for an image that lacks one."""
        return self.of_image()[:, 1:].mean(axis=1)

    def points(self) -> list[Interval]:
        """Mean over images and interval at each position, of the images that have a value there."""
        return [mean_of(column) for column in self.of_image().T]

    def repeat_deviation(self) -> Floats:
        """[X] standard deviation between repeats of the mean over images that all repeats have; NaN for one repeat."""
        means = np.full(self.values.shape[1:], np.nan)
        for i in range(len(self.x)):
            kept = self.values[~np.isnan(self.values[:, :, i]).any(axis=1), :, i]
            if len(kept):
                means[:, i] = kept.mean(axis=0)
        return means.std(axis=0, ddof=1) if len(means) > 1 else np.full(len(self.x), np.nan)

    def counts(self) -> dict[str, list[int]]:
        """How many of all images and repeats have no value at each position, by fault."""
        return {fault: (self.faults == code).sum(axis=(0, 1)).tolist() for code, fault in enumerate(FAULTS) if fault}


def mean_of(values: Floats) -> Interval:
    """The mean of the values that exist, with its bootstrap interval (BCa, 95 %); below FEW values without one."""
    kept = values[~np.isnan(values)]
    found = intervals([Column(kept, lambda weights: mean_summary(kept, weights))], Bootstrap())[0]
    return found if found.n >= FEW else replace(found, low=np.nan, high=np.nan)


def curves_of(store: ResultStore) -> list[Curves]:
    """Everything that sanity tests have stored, in a fixed order."""
    cells = [cell for cell in store.cells() if cell["identity"]["metric"].get("class") == _KIND]
    rows = dict(tuple(store.rows().groupby("cell")))
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        if cell["cell"] in rows:
            about = cell["identity"]["metric"]
            key = (
                *(cell[k] for k in ("model", "dataset", "protocol")),
                about["test"],
                about["measure"],
                cell["method"],
            )
            grouped.setdefault(key, []).append(cell)
    return [_curves(key, found, rows) for key, found in sorted(grouped.items())]


def _curves(key: Sequence[str], cells: Sequence[Mapping[str, Any]], rows: Mapping[str, pd.DataFrame]) -> Curves:
    frames = [
        rows[c["cell"]].set_index("image") for c in sorted(cells, key=lambda c: c["identity"]["metric"]["repeat"])
    ]
    about = cells[0]["identity"]["metric"]
    sound = frames[0][frames[0]["curve"].map(len) > 0]
    images = [str(i) for i in sound.index if all(i in frame.index for frame in frames)]
    shape = (len(images), len(frames), -1)
    values, parts = (
        np.array([[frame.at[i, name] for frame in frames] for i in images], dtype=float).reshape(shape)
        if images
        else np.zeros((0, len(frames), len(about["x"]) + extra))
        for name, extra in (("curve", 0), ("parts", 1))
    )
    excluded = frames[0][frames[0]["curve"].map(len) == 0]["reason"].value_counts()
    model, dataset, protocol, test, measure, method = key
    return Curves(
        model,
        dataset,
        protocol,
        test,
        measure,
        method,
        x=tuple(about["x"]),
        names=tuple(str(name) for name in about["names"]),
        images=tuple(images),
        values=values,
        faults=parts[:, :, :-1].astype(int),
        excluded={str(reason): int(count) for reason, count in excluded.items()},
        chance=parts[:, 0, -1],
        graded=bool(about["init"]),
    )


def documents(store: ResultStore) -> dict[str, str]:
    """The files of a report by name. Raises ValueError where the folder holds no sanity test."""
    curves = curves_of(store)
    if not curves:
        raise ValueError(f"{store.folder.parent} holds no sanity test; `dix sanity parameters` makes one")
    return {
        "curves.csv": _csv(row for each in curves for row in _points(each)),
        "boxes.csv": _csv(row for each in curves for row in _boxes(each)),
        "sanity.md": "\n".join(_markdown(curves, store)) + "\n",
    }


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    pd.DataFrame(list(rows)).to_csv(text, index=False, float_format="%.6g", lineterminator="\n")
    return text.getvalue()


def _points(curves: Curves) -> Iterator[dict[str, Any]]:
    deviation, counts = curves.repeat_deviation(), curves.counts()
    chance = mean_of(curves.chance).value
    head = {key: getattr(curves, key) for key in _HEAD} | {"repeats": curves.values.shape[1]}
    for i, point in enumerate(curves.points()):
        where = {"x": curves.x[i], "differs": curves.names[i], "images": point.n}
        value = {"mean": point.value, "low": point.low, "high": point.high, "sd_of_repeats": deviation[i]}
        value |= {"chance": chance}
        wrong = {fault.replace(" ", "_"): counts[fault][i] for fault in counts}
        yield head | where | value | wrong | {"original_faulty": sum(curves.excluded.values())}


def _boxes(curves: Curves) -> Iterator[dict[str, Any]]:
    """The five numbers of each position's box, the whiskers' ends (Tukey) and the share below zero."""
    head = {key: getattr(curves, key) for key in _HEAD}
    for i, column in enumerate(curves.of_image().T):
        if i:
            yield head | {"x": curves.x[i], "differs": curves.names[i]} | box(column)


def box(values: Floats) -> dict[str, float]:
    """Minimum, quartiles, maximum and Tukey's whiskers (the last values within 1.5 interquartile ranges)."""
    kept = values[~np.isnan(values)]
    names = ("min", "q1", "median", "q3", "max")
    if not len(kept):
        return {"images": 0} | dict.fromkeys((*names, "whisker_low", "whisker_high"), float("nan"))
    found = dict(zip(names, np.quantile(kept, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True))
    reach = 1.5 * (found["q3"] - found["q1"])
    within = kept[(kept >= found["q1"] - reach) & (kept <= found["q3"] + reach)]
    return {"images": len(kept)} | found | {"whisker_low": float(within.min()), "whisker_high": float(within.max())}


def _markdown(curves: Sequence[Curves], store: ResultStore) -> Iterator[str]:
    yield "# Sanity tests"
    yield ""
    yield "Likeness between a method's map of the original network and its map of an altered one, for the class that"
    yield "the original predicts: mean over images, 95 % bootstrap interval in brackets. Position 0 is the original"
    yield "network computed anew. Maps that are constant, not finite or could not be computed are counted, never"
    yield "averaged. Chance is the likeness of the original network's maps of different images (the data set's first"
    yield f"{COUNT}): a likeness at that level says nothing. Intervals are over images alone, whatever the number of"
    yield f"draws of weights; with fewer than {FEW} images there are none."
    for block in dict.fromkeys(each.block for each in curves):
        yield from _block([each for each in curves if each.block == block])
    yield from _provenance(store)


def _block(methods: Sequence[Curves]) -> Iterator[str]:
    first = methods[0]
    yield ""
    yield f"## {first.model}, {first.dataset}: {first.test}, {first.measure}"
    yield ""
    yield f"{len(first.images)} images, {_repeats(first)}, protocol {first.protocol}.{_few(first)}"
    yield ""
    yield "| x | differs | " + " | ".join(each.method for each in methods) + " |"
    yield "|---|---|" + "---|" * len(methods)
    columns = [list(zip(each.points(), _remarks(each), strict=True)) for each in methods]
    for i, x in enumerate(first.x):
        cells = " | ".join(_cell(point, remark) for point, remark in (column[i] for column in columns))
        yield f"| {x} | {first.names[i]} | {cells} |"
    if first.graded:
        yield f"| | mean of x > 0 | {' | '.join(map(_mean_cell, methods))} |"
    if first.measure != "entropy":
        yield f"| | chance | {' | '.join(_cell(mean_of(each.chance), '') for each in methods)} |"
    if first.measure == "entropy":
        rises = " | ".join(_cell(mean_of(rise(each)), "") for each in methods)
        yield f"| | relative rise | {rises} |"
    for each in methods:
        for reason, count in each.excluded.items():
            yield ""
            yield f"{each.method}: {count} images left out: {reason}."


def _repeats(curves: Curves) -> str:
    """How often weights were drawn."""
    count = curves.values.shape[1]
    if not curves.graded:
        return "the networks that are named"
    return f"{count} draws of the weights" if count > 1 else "one draw of the weights, which may be an odd one"


def _few(curves: Curves) -> str:
    return f" Fewer than {FEW} images: no intervals." if len(curves.images) < FEW else ""


def _mean_cell(curves: Curves) -> str:
    """The mean over the altered networks, of the images that have all of them; how many, where some have not."""
    mean = mean_of(curves.altered())
    return _cell(mean, f"{mean.n} images" if mean.n < len(curves.images) else "")


def rise(curves: Curves) -> Floats:
    """[n] relative rise of the maps' entropy from the original to the last network (Hedström et al. 2023, Eq. 6)."""
    own = curves.of_image()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(own[:, 0] > 0, own[:, -1] / own[:, 0] - 1, np.nan)


def _remarks(curves: Curves) -> list[str]:
    counts = curves.counts()
    at = range(len(curves.x))
    return [", ".join(f"{counts[fault][i]} {fault}" for fault in counts if counts[fault][i]) for i in at]


def _cell(point: Interval, remark: str) -> str:
    told = "none" if np.isnan(point.value) else f"{point.value:.3f}"
    if np.isfinite(point.low) and point.low < point.high:
        told += f" [{point.low:.3f}, {point.high:.3f}]"
    return f"{told} ({remark})" if remark else told


def _provenance(store: ResultStore) -> Iterator[str]:
    records = [r for r in store.read_json("provenance") if "sanity" in r["config"]]
    yield ""
    yield "## Provenance"
    yield ""
    for model, weights in dict.fromkeys((r["model"], _weights(r)) for r in records):
        yield f"- {model}: {weights}"
    for machine in dict.fromkeys(r["device"] for r in records):
        yield f"- machine: {machine}"
    for versions in dict.fromkeys(", ".join(f"{k} {r['versions'][k]}" for k in _VERSIONS) for r in records):
        yield f"- versions: {versions}"
    yield f"- code: {', '.join(dict.fromkeys(str(r['commit']) for r in records))}"
    for record in records:
        yield f"- {record['job']}: {record['cost']['wall_seconds']:.0f} s, {_settings(record['config'])}"


def _weights(record: Mapping[str, Any]) -> str:
    note = f" ({record['weights']['note']})" if record["weights"]["note"] else ""
    return f"{record['weights']['source']}{note}, fingerprint {record['fingerprint']}"


def _settings(config: Mapping[str, Any]) -> str:
    sanity, protocol = config["sanity"], config["protocol"]
    told = {key: sanity[key] for key in ("init", "layers", "size", "samples", "noise")}
    told |= {"seed": protocol["seed"], "version": protocol["version"], "map_resize": protocol["map_resize"]}
    return ", ".join(f"{key} {value}" for key, value in told.items())
