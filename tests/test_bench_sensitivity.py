"""What a protocol decides: verdicts side by side, orders compared with a count of pairs, fields that differ."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from support.table_frames import METRICS, rows_of

from dix.bench.tables.build import build
from dix.bench.tables.sensitivity import changes, differing, tau, verdicts
from dix.bench.tables.statistics import Bootstrap
from dix.bench.tables.table import CONFIRMED, REFUTED, Evidence, Plan, Table
from dix.cli.sensitivity import markdown

RNG = np.random.default_rng(0)
GC = RNG.uniform(40, 60, size=30)
SETTINGS = {
    "thesis": {"name": "thesis", "version": 2, "fill": "black", "hit": "predicted"},
    "mean": {"name": "mean", "version": 2, "fill": "model_mean", "hit": "predicted"},
    "bee": {"name": "bee", "version": 1, "fill": "model_mean", "hit": "label"},
}


def table() -> Table:
    """DIX3 leads Grad-CAM by 4 under `thesis` and `mean` and trails it by 4 under `bee`; IG is always last."""
    frames = []
    for protocol, lead in (("thesis", 4.0), ("mean", 4.0), ("bee", -4.0)):
        scores = {"gc": GC, "ig": GC - 9, "dix3": GC + lead + RNG.normal(0, 0.5, size=30)}
        frames += [rows_of(method, "neg", value, protocol=protocol) for method, value in scores.items()]
    return build(
        Evidence(pd.concat(frames, ignore_index=True), provenance={"protocol": SETTINGS}),
        Plan(metrics=METRICS),
        Bootstrap(resamples=300),
    )


def test_verdicts_stand_side_by_side() -> None:
    found = {(s.better, s.worse): {name: c.verdict for name, c in by.items()} for s, by in verdicts(table()).items()}
    assert found["dix3", "gc"] == {"thesis": CONFIRMED, "mean": CONFIRMED, "bee": REFUTED}
    assert set(found["dix3", "ig"].values()) == {CONFIRMED}


def test_changes_count_verdicts_and_name_fields_single_ones_first() -> None:
    pairs = {frozenset((pair.first, pair.second)): pair for pair in changes(table(), SETTINGS)}
    assert list(pairs)[-1] == {"thesis", "bee"}  # two fields differ: last
    same, other = pairs[frozenset(("thesis", "mean"))], pairs[frozenset(("mean", "bee"))]
    assert (same.fields, same.changed, same.tau) == (("fill",), 0, 1.0)
    # gc above dix3 instead of below: one of the three pairs of methods turns, so tau is (2 - 1) / 3
    assert (other.fields, other.changed, other.shared) == (("hit",), 1, same.shared)
    assert other.tau == pytest.approx(1 / 3)


def test_tau_counts_pairs_in_the_same_order() -> None:
    one, other = RNG.permutation(8).tolist(), RNG.permutation(8).tolist()
    signs = [np.sign(one[i] - one[j]) * np.sign(other[i] - other[j]) for i, j in combinations(range(8), 2)]
    assert tau(one, other) == pytest.approx(sum(signs) / 28)
    assert tau([*one, 3.0], [*other, np.nan]) == pytest.approx(tau(one, other))
    assert np.isnan(tau([1.0], [2.0]))


def test_fields_that_one_side_does_not_know_differ() -> None:
    assert differing({"name": "a", "fill": "black"}, {"name": "b", "fill": "black", "ties": "index"}) == {
        "ties": (None, "index")
    }


def test_the_page_says_what_holds_and_which_field_decides() -> None:
    page = markdown(table())
    assert "Of single fields hit decides most: 1 of 2 verdicts" in page
    assert "1 of 2 claims have the same verdict under all 3 protocols: 1 confirmed." in page


def test_one_protocol_alone_is_refused() -> None:
    rows = rows_of("gc", "neg", GC)
    single = build(Evidence(rows), Plan(metrics=METRICS), Bootstrap(resamples=50))
    with pytest.raises(ValueError, match="at least two protocols, got thesis"):
        markdown(single)
