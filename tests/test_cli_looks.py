"""How methods are shown: labels, roles and colours from their configurations, to the last table, and in no identity."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from dix.bench.report.styles import COLOURS, DASHES, colour_of, styles
from dix.bench.store.results import ResultStore
from dix.bench.tables.choices import standing
from dix.cli import main

WORDS = ["model=lenet5", "dataset=mnist", "method=[gc,lc,ones]", "metric=[deletion]", "run.limit=30", "run.workers=0"]
OWN = ["+method.lc.role=proposed", "method.lc.label=Mine", "+method.lc.colour='#a01b2c'"]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *WORDS, "run.name=looks"]) == 0
    return tmp_path / "results" / "looks"


def test_looks_reach_tables_charts_and_verdicts_and_never_an_identity(results: Path) -> None:
    before = {cell["method"]: cell for cell in ResultStore(results).cells()}
    assert main(["report", "looks"]) == 0
    assert pd.read_csv(results / "claims.csv").empty
    assert main(["run", *WORDS, *OWN, "run.name=looks"]) == 0
    after = {cell["method"]: cell for cell in ResultStore(results).cells()}
    assert {name: cell["identity"] for name, cell in after.items()} == {n: c["identity"] for n, c in before.items()}
    assert after["lc"]["printed"] | {"label": "Mine", "role": "proposed", "colour": "#a01b2c"} == after["lc"]["printed"]
    assert after["gc"] == before["gc"]
    assert main(["report", "looks"]) == 0
    claims = pd.read_csv(results / "claims.csv")
    assert {*zip(claims["better"], claims["worse"], strict=True)} == {("lc", "gc")}
    assert {*claims["verdict"]} <= {"better", "worse", "undecided at this n"}
    page = (results / "index.html").read_text(encoding="utf-8")
    assert '<tr class="ours"><th scope="row">Mine</th>' in page
    drawn = re.findall(r'class="curve k\d d\d ours" style="--c:#a01b2c"', page)
    assert len(drawn) == 2  # in the legend and in the chart


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+method.gc.role=prposed", "method.gc.role: expected one of baseline, proposed, control, got 'prposed'; did"),
        ("+method.gc.colour=red", "method.gc.colour: expected a colour such as '#0072B2', got 'red'"),
        ("+method.gc.role=3", "method.gc.role: expected a text, got 3"),
    ],
)
def test_looks_that_are_none_are_refused(
    word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *WORDS, word]) == 1
    assert message in capsys.readouterr().err


def test_a_stored_colour_that_is_none_reaches_no_page() -> None:
    evil = {"a": "red;} body{display:none", "b": '"><script>', "c": "#12345G", "d": "#123456"}
    assert {name: style.own for name, style in styles(evil, evil).items()} == {
        "a": "",
        "b": "",
        "c": "",
        "d": "#123456",
    }


def test_a_methods_colour_is_its_own_whatever_else_is_drawn() -> None:
    alone = {name: styles([name])[name].hexadecimal for name in ("dix3", "gc", "gcpp_pgc", "my_method")}
    together = styles(["ig", "gc", "lc", "my_method", "big", "gcpp_pgc", "fg", "dix1", "dix3"])
    assert {name: together[name].hexadecimal for name in alone} == alone
    assert colour_of("gcpp_pgc") == colour_of("gcpp")
    assert {name for name in ("gc", "ig", "gig", "my_method", "xgc") if colour_of(name) == 0} == set()
    assert colour_of("dix3_carried") == 0


def test_as_many_methods_as_there_are_looks_are_told_apart() -> None:
    names = [f"m{number}" for number in range(len(COLOURS) * len(DASHES))]
    assert len({(style.colour, style.dash) for style in styles(names).values()}) == len(names)


def test_own_proposed_methods_are_claimed_and_readings_of_the_thesis_are_not() -> None:
    roles = standing(["mine", "dix3_max", "dix3", "dix2"], ["gc"], ["ones"])
    assert (set(roles.claimed), set(roles.controls)) == ({"dix2", "dix3", "mine"}, {"ones"})
    assert not roles.baseline("dix3_max")
    assert standing(["mine"], ["dix3"], []).baseline("dix3")
