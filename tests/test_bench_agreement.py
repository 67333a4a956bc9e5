"""The criterion by which a reading bears the name DIX, on rows that are made by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from support.table_frames import Mean

from dix.bench.tables import agreement, paper
from dix.bench.tables.agreement import Measurement, Pair, Reading, chosen, printed_shares, standings
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.statistics import Bootstrap
from dix.cli.config import options

METRICS = {"neg": Mean("NEG"), "pos": Mean("POS", higher_is_better=False)}
DIRECTIONS = {"neg": True, "pos": False}


def sample(values: list[float]) -> Sample:
    count = len(values)
    ids = tuple(f"image{i:04d}" for i in range(count))
    return Sample(ids, np.array(values), np.zeros((count, 0)), np.zeros((count, 0)), ("",) * count, ("",) * count)


def measurement(scores: Mapping[tuple[str, str, str], list[float]], resamples: int = 200) -> Measurement:
    """scores: images' values by (data set, method, metric), all of one CNN."""
    stored = {Key(Block("p", d, "net"), method, metric): sample(v) for (d, method, metric), v in scores.items()}
    return Measurement(stored, METRICS, {"net": "cnn"}, {}, Bootstrap(resamples=resamples))


def reading(name: str, change: int = 0, holder: bool = False, suffix: str = "") -> Reading:
    return Reading(name, change, {"cnn": {n: n + suffix for n in ("dix2", "dix3")}}, holder)


def test_printed_shares_are_those_of_the_printed_tables() -> None:
    """Counted by hand in Table 1: GC leads DIX2 on NEG for RN and DN, never on POS; DIX3 leads GC on NEG everywhere."""
    shares = printed_shares("cnn", DIRECTIONS)
    assert shares[Pair("neg", "gc", "dix2")] == pytest.approx(2 / 3)
    assert shares[Pair("pos", "gc", "dix2")] == 0
    assert shares[Pair("neg", "gc", "dix3")] == 0
    assert shares[Pair("pos", "dix2", "dix3")] == pytest.approx(2 / 3)  # not for CN
    assert shares[Pair("neg", "dix1", "dix2")] == 0  # Table 5: 55.47 and 56.28
    assert len(shares) == 2 * 15  # GC and five variants, of which every two stand on a line of RN
    assert Pair("neg", "t_attr", "gae") not in printed_shares("vit", DIRECTIONS)


def test_equal_printed_values_count_half() -> None:
    printed = {(model, "d", name, "neg"): value for model, name, value in [
        ("resnet101", "gc", 5.0), ("resnet101", "dix2", 5.0), ("densenet201", "gc", 6.0), ("densenet201", "dix2", 5.0),
    ]}  # fmt: skip
    assert printed_shares("cnn", DIRECTIONS, printed) == {Pair("neg", "gc", "dix2"): 0.75}


def test_agreement_weighs_metrics_then_places_alike() -> None:
    """One place: NEG has all three printed orders, POS one of three pairs; another place: NEG alone, gc equal to dix3.

    Printed shares of the first better: NEG (gc, dix2) 2/3, (gc, dix3) 0, (dix2, dix3) 0; POS 0, 0, 2/3.
    """
    found = measurement({
        ("a", "gc", "neg"): [5.0, 5.0], ("a", "dix2", "neg"): [4.0, 4.0], ("a", "dix3", "neg"): [6.0, 6.0],
        ("a", "gc", "pos"): [1.0, 1.0], ("a", "dix2", "pos"): [2.0, 2.0], ("a", "dix3", "pos"): [3.0, 3.0],
        ("b", "gc", "neg"): [5.0, 5.0], ("b", "dix2", "neg"): [4.0, 4.0], ("b", "dix3", "neg"): [5.0, 5.0],
    })  # fmt: skip
    neg = (2 / 3 + 1 + 1) / 3
    pos = (0 + 0 + 2 / 3) / 3
    other = (2 / 3 + 1 / 2 + 1) / 3
    [standing] = standings([reading("only")], found)
    assert standing.agreement.value == pytest.approx(((neg + pos) / 2 + other) / 2)
    assert standing.agreement.low == standing.agreement.high == standing.agreement.value  # images that do not differ
    assert standing.pairs == 9


def test_resamples_are_shared_by_readings_and_their_interval_is_of_the_difference() -> None:
    """Two readings whose every score differs by one constant agree resample by resample: they are tied exactly."""
    draw = np.random.default_rng(0)
    base = {name: draw.normal(50, 10, 40) for name in ("gc", "dix2", "dix3")}
    scores = {("a", name, "neg"): list(values) for name, values in base.items()}
    twin = {("a", f"{name}_twin", "neg"): list(base[name]) for name in ("dix2", "dix3")}
    first, second = standings([reading("one"), reading("twin", suffix="_twin")], measurement(scores | twin))
    assert first.agreement.low < first.agreement.high
    assert second.behind == (0.0, 0.0, 0.0)


def test_ties_go_to_the_least_change_and_then_to_the_holder() -> None:
    even = [50.0, 60.0, 40.0, 55.0] * 10
    ahead = [value + 5 for value in even]
    scores = {("a", name, "neg"): even for name in ("gc", "dix2", "dix3", "dix2_far", "dix2_near")}
    scores |= {("a", name, "neg"): ahead for name in ("dix3_far", "dix3_near")}
    far, near, holder = reading("far", 2, suffix="_far"), reading("near", 1, suffix="_near"), reading("plain", 0, True)
    found = standings([holder, far, near], measurement(scores))
    assert [standing.reading.name for standing in found if standing.tied] == ["far", "near"]
    assert chosen(found).name == "near"  # the holder agrees less: DIX3 does not lead
    other = Reading("other", 1, near.methods)
    assert chosen(standings([far, other, near], measurement(scores))).name == "other"
    held = Reading("held", 1, near.methods, holder=True)
    assert chosen(standings([far, other, held], measurement(scores))).name == "held"


def test_a_reading_without_some_methods_is_compared_over_the_pairs_that_both_have() -> None:
    """The partial reading has DIX3 alone, rightly ahead of GC; the whole one has that too and a wrong DIX2."""
    up, down = [6.0, 6.5, 6.2], [4.0, 4.5, 4.2]
    scores = {("a", "gc", "neg"): [5.0, 5.5, 5.2], ("a", "dix2", "neg"): up, ("a", "dix3", "neg"): up}
    partial = Reading("partial", 3, {"cnn": {"dix3": "dix3"}})
    found = {each.reading.name: each for each in standings([reading("whole"), partial], measurement(scores))}
    assert found["partial"].agreement.value == 1
    assert found["whole"].agreement.value == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert found["partial"].behind.value == 0
    assert found["partial"].pairs == 1
    wrong = scores | {("a", "dix3", "neg"): down}
    assert standings([partial], measurement(wrong))[0].agreement.value == 0


def test_every_method_of_the_readings_has_a_configuration() -> None:
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parent.parent / "scripts" / "choose_reading.py"
    spec = importlib.util.spec_from_file_location("choose_reading", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    named = {name for one in script.READINGS for kind in one.methods.values() for name in kind.values()}
    assert named <= set(options("method"))
    assert [one.name for one in script.READINGS if one.holder] != []
    assert {name for kind in agreement.REFERENCES.values() for name in kind} <= set(options("method"))
    assert set(paper.PROPOSED) <= named
