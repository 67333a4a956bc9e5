"""Which reading bears the name DIX, by the criterion of docs/reading.md, from what its experiments have stored.

`python scripts/choose_reading.py results/readings` prints the tables and the decision; `--write` puts them between the
marks of docs/reading.md as well.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dix.bench.store.results import ResultStore
from dix.bench.tables import agreement, paper, samples
from dix.bench.tables.agreement import Agreement, Measurement, Reading, Standing
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.statistics import Bootstrap
from dix.cli.config import composed
from dix.cli.construct import many
from dix.files import write_atomic

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reading.md"
METRICS = ("neg", "pos", "ins", "deletion", "adp", "pic", "pa", "map", "miou", "mf1_rows")
#: What the thesis prints as mF1 is stored under this name.
RENAMED = {"mf1": "mf1_rows"}


def family(suffix: str, names: Sequence[str] = paper.PROPOSED) -> dict[str, str]:
    """Stored methods by printed name."""
    return {name: name + suffix for name in names}


#: On a ViT rectified is signed and positive is maximum: attention and rollouts are never negative.
READINGS = (
    Reading("signed", 0, {"cnn": family("_signed"), "vit": family("_signed")}),
    Reading("maximum", 0, {"cnn": family("_max"), "vit": family("_max")}),
    Reading("positive", 1, {"cnn": family(""), "vit": family("_max")}, holder=True),
    Reading("rectified", 2, {"cnn": family("_rect"), "vit": family("_signed")}),
    Reading(
        "released", 3, {"cnn": family("_released", ("dix1", "dix2", "dix3")), "vit": family("_released", ("dix2",))}
    ),
)


def measurement_of(folder: Path) -> Measurement:
    """Everything that the folder holds. A network for which T-Attr is stored is a ViT."""
    stored = samples.stored(ResultStore(folder))
    metrics = many(composed([f"metric=[{','.join(METRICS)}]"]).metric, "metric")
    transformers = {key.block.model for key in stored if key.method == "t_attr"}
    kinds = {key.block.model: "vit" if key.block.model in transformers else "cnn" for key in stored}
    return Measurement(stored, metrics, kinds, RENAMED, Bootstrap())


def document(measurement: Measurement) -> str:
    """The tables and the decision."""
    found = agreement.standings(READINGS, measurement)
    won = agreement.outcomes([each.reading for each in found], measurement)
    return "\n".join(
        [*_overall(found), "", *_by_place(found, won), "", *_by_metric(found, won), "", *_scores(measurement)]
    )


def _overall(found: Sequence[Standing]) -> Iterator[str]:
    yield "| reading | agreement, percent | behind the best | tied with it | pairs |"
    yield "|---|---|---|---|---|"
    for each in found:
        behind, tied = "" if each is found[0] else _told(each.behind), "yes" if each.tied else "no"
        yield f"| {each.reading.name} | {_told(each.agreement)} | {behind} | {tied} | {each.pairs} |"
    yield ""
    yield f"On what is stored the criterion gives the name to **{agreement.chosen(found).name}**."


def _by_place(found: Sequence[Standing], won: agreement.Outcomes) -> Iterator[str]:
    names = [each.reading.name for each in found]
    places = {name: agreement.places(won[name]) for name in names}
    yield "By network and data set:"
    yield ""
    yield f"| network, data set | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for place in sorted({place for each in places.values() for place in each}):
        cells = [_told(Agreement.of(places[name][place])) if place in places[name] else "" for name in names]
        yield f"| {', '.join(place)} | {' | '.join(cells)} |"


def _by_metric(found: Sequence[Standing], won: agreement.Outcomes) -> Iterator[str]:
    names = [each.reading.name for each in found]
    yield "By metric, over all networks and data sets:"
    yield ""
    yield f"| metric | {' | '.join(names)} |"
    yield "|---|" + "---|" * len(names)
    for metric in dict.fromkeys(pair.metric for _, pair in won[names[0]]):
        own = {name: {key: each for key, each in won[name].items() if key[1].metric == metric} for name in names}
        cells = [f"{100 * agreement.overall(own[name])[0]:.0f}" if own[name] else "" for name in names]
        yield f"| {metric} | {' | '.join(cells)} |"


def _scores(measurement: Measurement) -> Iterator[str]:
    """What was measured, block by block: references first, then each printed method in every reading."""
    for block in measurement.blocks():
        kind = measurement.kinds[block.model]
        metrics = [m for m in METRICS if any(key.block == block and key.metric == m for key in measurement.stored)]
        names = [*agreement.REFERENCES[kind], *_variants(kind)]
        yield ""
        count = _images(measurement.stored, block)
        yield f"{block.model} on {block.dataset}, protocol `{block.protocol}`, n = {count}:"
        yield ""
        yield f"| method | {' | '.join(metrics)} |"
        yield "|---|" + "---|" * len(metrics)
        draws = {metric: measurement.draws(block, metric) for metric in metrics}
        for name in dict.fromkeys(names):
            if any(name in draws[metric] for metric in metrics):
                scores = [f"{draws[m][name][0]:.1f}" if name in draws[m] else "" for m in metrics]
                yield f"| {name} | {' | '.join(scores)} |"


def _variants(kind: str) -> list[str]:
    return [reading.stored(kind, name) for name in paper.PROPOSED for reading in READINGS if reading.stored(kind, name)]


def _images(stored: Mapping[Key, Sample], block: Block) -> int:
    return max(len(sample.images) for key, sample in stored.items() if key.block == block)


def _told(share: Agreement) -> str:
    low, value, high = (100 * np.array([share.low, share.value, share.high])).tolist()
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    """Print, and rewrite the page where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="results folder of the readings")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reading.md")
    options = parser.parse_args()
    text = document(measurement_of(options.folder))
    print(text)
    if options.write:
        marks = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)
        page = PAGE.read_text(encoding="utf-8")
        write_atomic(PAGE, marks.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page))


if __name__ == "__main__":
    main()
