"""Verdicts while running: the confidence sequence, the prefix that decides, and runs that are killed or shared."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support import engine_jobs as parts
from support import sequences

from dix.bench.run.checks import check
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.run.prices import Price, Prices
from dix.bench.run.prospect import prospect
from dix.bench.run.settings import Run
from dix.bench.store.results import ResultStore
from dix.bench.store.status import survey
from dix.bench.tables import betting, forecast, samples
from dix.bench.tables.choices import Roles, comparisons
from dix.bench.tables.decide import held, recorded, replayed
from dix.bench.tables.samples import Block, Key, Sample
from dix.bench.tables.sequential import (
    ANY_TIME,
    AT_LOOKS,
    AT_THE_END,
    DECIDED,
    TOO_FEW,
    WAITING,
    Cell,
    Comparison,
    Family,
    Rule,
    Verdict,
    bounds_of,
)
from dix.bench.tables.statistics import Floats
from dix.cli import main
from dix.datasets.subset import RandomSample, random_order
from dix.metrics.api import Summary, mean_summary
from dix.metrics.confidence import Pic
from dix.metrics.faithfulness import Del, Ins, Neg
from dix.metrics.segmentation import MeanIou, Pointing

AB = Comparison("m", "a", "b")


@dataclass(frozen=True)
class Mean:
    """A mean of values in [0, 100], or of values without ends."""

    bounds: tuple[float, float] | None = (0.0, 100.0)
    label: str = "M"
    higher_is_better: bool | None = True
    extra: bool = False

    def summary(self, value: Floats, parts: Floats, curve: Floats) -> Summary:
        return partial(mean_summary, value)


def family(first: Floats, second: Floats, level: float = 0.05, least: int = 5, metric: Mean | None = None) -> Family:
    made = Family([AB], {"m": metric or Mean()}, Rule(level, least, len(first)))
    for name, values in (("a", first), ("b", second)):
        made.tracks[Cell(name, "m")].put_all(range(len(values)), values, np.zeros((len(values), 0)), [()] * len(values))
    made.follow()
    return made


def verdict(*arguments: Floats, **settings: object) -> Verdict:
    return family(*arguments, **settings).verdicts()[0]  # type: ignore[arg-type]


# The confidence sequence


def capital(shares: list[float], mean: float, side: int) -> float:
    """What a stake of 1 becomes, bet by bet and image by image, in the paper's own terms: x and m in [0, 1]."""
    total = 0.0
    for part in betting.BETS:
        stake = 1.0
        for x in shares:
            bet = part / mean if side > 0 else -part / (1 - mean)
            stake *= 1 + bet * (x - mean)
        total += stake / len(betting.BETS)
    return total


def test_the_capital_is_that_of_a_second_implementation_value_by_value() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 40) * 0.6 + 0.2
    logarithms, wealth = betting.Wealth.initial().after(values)
    shares = ((1 + values) / 2).tolist()
    for n in (1, 7, 40):
        expected = max(capital(shares[:n], 0.5, 1), capital(shares[:n], 0.5, -1))
        assert math.exp(logarithms[n - 1]) == pytest.approx(expected, rel=1e-9)
    assert wealth.up == pytest.approx(np.log1p(np.outer(values, betting.BETS)).sum(axis=0))


@pytest.mark.parametrize("alpha", [0.05, 1e-4])
def test_the_interval_is_the_set_of_means_under_which_no_capital_reaches_the_threshold(alpha: float) -> None:
    values = np.random.default_rng(2).choice([-1.0, 0.0, 0.0, 1.0, 1.0], 60)
    low, high = betting.interval(values, alpha)
    shares = ((1 + values) / 2).tolist()
    for mean in np.linspace(0.01, 0.99, 99):
        possible = max(capital(shares, mean, 1), capital(shares, mean, -1)) < 2 / alpha
        assert possible == (low < 2 * mean - 1 < high), mean


def test_values_at_the_end_are_decided_when_the_formula_says() -> None:
    """All x = 1: the capital is the mean of (1 + c)^n over the bets c."""
    n = next(n for n in range(1, 99) if np.mean((1 + betting.BETS) ** n) >= 2 / 0.001)
    found = verdict(np.full(60, 100.0), np.zeros(60), level=0.001)
    assert (found.n, found.winner, found.reason) == (n, "a", DECIDED)
    assert found.low > 0


def test_portions_of_any_size_give_the_same_bits() -> None:
    values = np.random.default_rng(3).uniform(-1, 1, 500)
    whole, _ = betting.Wealth.initial().after(values)
    wealth, pieces = betting.Wealth.initial(), []
    for part in np.split(values, [1, 3, 4, 100, 377]):
        piece, wealth = wealth.after(part)
        pieces.append(piece)
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_a_null_is_hardly_ever_decided_with_a_look_after_every_image() -> None:
    """2,000 runs of one comparison at level .05: at most 5 % plus three standard errors; the script has many more."""
    wrong = 0
    generator = np.random.default_rng(4)
    for _ in range(2000):
        logarithms, _ = betting.Wealth.initial().after(generator.choice([-1.0, 0.0, 1.0], 300, p=[0.2, 0.6, 0.2]))
        wrong += bool((logarithms >= betting.threshold(0.05)).any())
    assert wrong / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_equal_scores_are_never_decided() -> None:
    same = np.random.default_rng(5).uniform(0, 100, 5000)
    for metric in (Mean(), Mean(bounds=None)):
        found = verdict(same, same, metric=metric)
        assert (found.winner, found.reason, found.read) == ("", AT_THE_END, 5000)


# Bounds


def test_a_value_outside_the_declared_bounds_is_refused() -> None:
    first = np.full(20, 50.0)
    first[7] = 100.2
    with pytest.raises(ValueError, match=r"metric m of a: 100\.2 lies outside the bounds \[0, 100\]"):
        verdict(first, np.zeros(20))
    with pytest.raises(ValueError, match="exceeds the declared range of 2"):
        betting.scaled(np.array([0.0, 2.1]), 2.0)


def test_rounding_at_an_end_is_no_violation() -> None:
    assert verdict(np.full(60, 100 + 1e-9), np.full(60, -1e-9)).winner == "a"


def test_the_metrics_declare_the_ends_that_their_formulas_have() -> None:
    tenths = tuple(k / 10 for k in range(10))
    assert Neg(tenths).bounds == pytest.approx((0, 90))
    assert Neg(tenths, auc="normalised").bounds == pytest.approx((0, 100))
    assert Del(tenths, auc="mean").bounds == pytest.approx((0, 100))
    assert Ins(tenths, schedule="rise").bounds == pytest.approx((0, 100))
    assert bounds_of(Pic()) == bounds_of(Pointing()) == (0, 100)
    assert bounds_of(MeanIou()) is None  # a ratio of sums


# The prefix


def two(seed: int, n: int = 400, lead: float = 12.0) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    return generator.uniform(20, 80, n) + lead, generator.uniform(20, 80, n)


def test_rows_beyond_the_decision_change_nothing() -> None:
    first, second = two(6)
    found = verdict(first, second)
    assert found.winner == "a"
    assert found.read < 400
    later = first.copy()
    later[found.read :] = 0.0
    assert verdict(later, second) == found
    cut = family(first[: found.read], second[: found.read]).verdicts()[0]
    assert (cut.n, cut.winner, cut.low) == (found.n, "a", found.low)


def test_rows_in_any_order_and_portion_give_the_same_verdict() -> None:
    first, second = two(7)
    whole = verdict(first, second)
    made = Family([AB], {"m": Mean()}, Rule(0.05, 5, 400))
    for place in np.random.default_rng(8).permutation(400).tolist():
        made.tracks[Cell("a", "m")].put(place, first[place])
        made.tracks[Cell("b", "m")].put(399 - place, second[399 - place])
        made.follow()
    assert made.verdicts()[0] == whole


def test_a_gap_ends_what_is_read_and_an_image_that_cannot_be_read_does_not() -> None:
    first, second = two(9, lead=0.0)
    made = Family([AB], {"m": Mean()}, Rule(0.05, 5, 400))
    for place in range(400):
        if place != 30:
            made.tracks[Cell("a", "m")].put(place, first[place])
        made.tracks[Cell("b", "m")].put(place, second[place])
    made.follow()
    assert (made.verdicts()[0].read, made.verdicts()[0].reason) == (30, WAITING)
    made.leave_out([30])
    made.follow()
    assert (made.verdicts()[0].read, made.verdicts()[0].n, made.verdicts()[0].reason) == (400, 399, AT_THE_END)


def test_a_cell_is_needed_up_to_its_last_decision() -> None:
    made = Family(
        [Comparison("m", "a", "b"), Comparison("m", "a", "c")],
        {"m": Mean()},
        Rule(0.05, 5, 400),
        [Cell("d", "m")],
    )
    scores = {"a": np.full(400, 90.0), "b": np.full(400, 10.0), "c": np.full(400, 60.0)}
    for name, values in scores.items():
        made.tracks[Cell(name, "m")].put_all(range(400), values, np.zeros((400, 0)), np.zeros((400, 0)))
    made.follow()
    early, late = (found.read for found in made.verdicts())
    assert early < late < 400
    assert [made.stop(Cell(name, "m")) for name in "abcd"] == [late, early, late, 5]


# Scores that are no bounded means


def test_looks_double_and_end_with_the_last_image() -> None:
    assert Rule(0.05, 25, 1000).looks == (200, 400, 800, 1000)
    assert Rule(0.05, 300, 1000).looks == (300, 600, 1000)
    assert Rule(0.05, 25, 200).looks == (200,)
    assert Rule(0.05, 25, 199).looks == ()
    short = verdict(np.full(199, 9.0), np.zeros(199), metric=Mean(bounds=None))
    assert (short.winner, short.reason) == ("", TOO_FEW)


def test_a_look_gives_students_interval_at_its_share_of_the_level() -> None:
    first, second = two(10, n=300, lead=0.5)
    found = verdict(first, second, metric=Mean(bounds=None))
    assert (found.kind, found.winner, found.n) == (AT_LOOKS, "", 300)
    difference = first - second
    half = stats.t.ppf(1 - 0.05 / 2 / 2, 299) * difference.std(ddof=1) / math.sqrt(300)  # two looks: 200 and 300
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)  # 500 resamples: 3 % each, thrice over
    assert found.lead == pytest.approx(difference.mean())
    early = verdict(first + 30, second, metric=Mean(bounds=None))
    assert (early.winner, early.read) == ("a", 200)


def test_lower_is_better_turns_the_winner_round() -> None:
    first, second = two(11)
    found = verdict(first, second, metric=Mean(higher_is_better=False))
    assert (found.winner, found.kind) == ("b", ANY_TIME)


# What is compared, the order, and the settings


def test_pairs_baselines_and_claims() -> None:
    roles = Roles(proposed=("dix1", "dix2"), claimed=("dix2",), controls=("ones",))
    metrics = {"m": Mean(), "more": Mean(extra=True), "about": Mean(higher_is_better=None)}
    methods = ["dix1", "dix2", "gc", "ig", "ones"]

    def pairs(compare: str) -> list[tuple[str, str, str]]:
        return [(found[0], found[1], found[2]) for found in comparisons(compare, methods, metrics, roles)]

    assert len(pairs("pairs")) == 2 * 6
    assert set(pairs("pairs")) - set(pairs("baselines")) == {("m", "dix1", "dix2"), ("more", "dix1", "dix2")}
    assert pairs("claims") == [("m", "dix2", "gc"), ("m", "dix2", "ig")]


def test_a_random_sample_is_the_beginning_of_the_random_order() -> None:
    data = parts.Made(50)
    order = random_order(data.name, data.ids, 3)
    assert sorted(order) == list(range(50))
    assert order != list(range(50))
    assert sorted(order[:20]) == list(RandomSample(20, 3).indices(data))
    some = [data.ids[index] for index in range(0, 50, 2)]
    assert [some[i] for i in random_order(data.name, some, 3)] == [data.ids[i] for i in order if i % 2 == 0]


@pytest.mark.parametrize(
    ("key", "value"), [("until", "bored"), ("compare", "all"), ("alpha", 0.0), ("alpha", 1.0), ("least", 1)]
)
def test_settings_outside_their_range_are_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"run.{key}: expected"):
        check(parts.protocol(), Run(**{key: value}))  # type: ignore[arg-type]


# Forecasts


def test_the_fixed_size_is_the_textbooks() -> None:
    assert forecast.fixed_size(0.5, 1.0, 0.05) == math.ceil(((1.959964 + 0.841621) / 0.5) ** 2) == 32
    assert forecast.fixed_size(0.0, 1.0, 0.05) == math.inf


def test_images_needed_without_spread_follow_by_hand() -> None:
    n = next(n for n in range(1, 999) if np.mean((1 + 0.1 * betting.BETS) ** n) >= 2 / 0.01)
    assert forecast.images_needed(forecast.growth(np.full(9, 0.1)), 0.01) == pytest.approx(n, abs=1)
    assert forecast.images_needed(forecast.growth(np.zeros(9)), 0.01) == math.inf


def test_images_needed_are_somewhat_above_the_middle_of_what_runs_take() -> None:
    generator, level = np.random.default_rng(12), 0.01
    takes = []
    for _ in range(200):
        values = generator.choice([-1.0, 0.0, 1.0], 3000, p=[0.1, 0.7, 0.2])
        logarithms, _ = betting.Wealth.initial().after(values)
        takes.append(int(np.argmax(logarithms >= betting.threshold(level))) + 1)
    gains = forecast.growth(np.repeat([-1.0, 0.0, 1.0], [1, 7, 2]))
    assert 1 < forecast.images_needed(gains, level) / np.median(takes) < 1.3
    rough = forecast.growth_of(0.1, math.sqrt(0.3 - 0.01))
    assert forecast.images_needed(rough, level) == pytest.approx(forecast.images_needed(gains, level), rel=0.05)


# Runs


def rows(folder: Path) -> dict[tuple[str, str, str], float]:
    frame = ResultStore(folder).rows()
    names = zip(frame["method"], frame["metric"], frame["image"], strict=True)
    return dict(zip(names, frame["value"], strict=True))


def verdicts(folder: Path) -> list[Verdict]:
    store = ResultStore(folder)
    [course] = recorded(store, samples.stored(store), {"tested": sequences.job().metrics})
    return list(course.verdicts)


def test_a_run_stops_where_its_comparisons_are_decided(tmp_path: Path) -> None:
    sequences.compute(tmp_path)
    found = {one.comparison: one for one in verdicts(tmp_path)}
    decided = found[Comparison("deletion", "good", "poor")]
    assert (decided.winner, decided.reason) == ("good", DECIDED)
    assert found[Comparison("deletion", "good", "alike")].reason == AT_THE_END
    counts = ResultStore(tmp_path).rows().groupby(["method", "metric"]).size()
    last = max(one.read for one in found.values() if one.winner and one.comparison.metric == "deletion")
    assert counts["poor", "deletion"] == -(-last // 3) * 3 < counts["good", "deletion"] == sequences.IMAGES
    status = survey(ResultStore(tmp_path))
    assert status.sound
    assert not status.incomplete


def test_all_decided_ends_the_run_and_nothing_is_read_beyond(tmp_path: Path) -> None:
    whole = sequences.job()
    methods = {name: whole.methods[name] for name in ("good", "poor")}
    job = replace(whole, methods=methods, metrics={"deletion": whole.metrics["deletion"]})
    seen: list[int] = []
    outcome = evaluate(job, ResultStore(tmp_path), lambda done, total: seen.append(done))
    assert outcome.images < 40
    assert max(seen) == outcome.images / 3
    assert evaluate(job, ResultStore(tmp_path)).images == 0


def test_the_same_settings_give_the_same_verdict_at_the_same_image(tmp_path: Path) -> None:
    sequences.compute(tmp_path / "one")
    sequences.compute(tmp_path / "two", batch_size=7)
    assert verdicts(tmp_path / "one") == verdicts(tmp_path / "two")


def test_a_killed_and_resumed_run_has_the_rows_of_one_that_was_left_alone(tmp_path: Path) -> None:
    sequences.compute(tmp_path / "whole")
    for _ in range(2):
        process = _start(tmp_path / "killed", 0, 1)
        before = len(rows(tmp_path / "killed"))
        while len(rows(tmp_path / "killed")) < before + 20 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < len(rows(tmp_path / "killed")) < len(rows(tmp_path / "whole"))
    sequences.compute(tmp_path / "killed")
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert verdicts(tmp_path / "killed") == verdicts(tmp_path / "whole")


def test_three_shards_have_the_rows_of_one_run_and_those_that_ran_ahead(tmp_path: Path) -> None:
    """A shard cannot know what the others have not stored yet: rows beyond the decision are kept and not read."""
    sequences.compute(tmp_path / "whole")
    for part in (2, 0, 1):
        sequences.compute(tmp_path / "shards", shard=[part, 3])
    whole, shared = rows(tmp_path / "whole"), rows(tmp_path / "shards")
    assert whole.items() <= shared.items()
    order = [f"image{index}" for index in random_order("made", sequences.job().dataset.ids, 0)]
    ends = {one.comparison: one.read for one in verdicts(tmp_path / "shards") if one.winner}
    for method, metric, image in shared.keys() - whole.keys():
        own = [end for comparison, end in ends.items() if Cell(method, metric) in comparison.cells]
        assert order.index(image) >= max(own)
    assert verdicts(tmp_path / "shards") == verdicts(tmp_path / "whole")
    status = survey(ResultStore(tmp_path / "shards"))
    assert status.sound
    assert not status.incomplete


def test_three_shards_at_the_same_time(tmp_path: Path) -> None:
    sequences.compute(tmp_path / "whole")
    processes = [_start(tmp_path / "shards", part, 3) for part in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert rows(tmp_path / "whole").items() <= rows(tmp_path / "shards").items()
    assert verdicts(tmp_path / "shards") == verdicts(tmp_path / "whole")


def _start(folder: Path, part: int, shards: int) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-m", "support.sequences", str(folder), str(part), str(shards)]
    return subprocess.Popen(words, env=environment)


# Held against all rows


def test_verdicts_of_stored_rows_beside_those_of_all_of_them() -> None:
    generator, block = np.random.default_rng(13), Block("p", "d", "m")
    base = generator.uniform(20, 60, 600)
    images = tuple(f"i{k:03d}" for k in range(600))
    levels = {"a": base + 20, "b": base, "c": base + generator.choice([-1.0, 1.0], 600)}
    stored = {
        Key(block, name, "m"): Sample(images, v, np.zeros((600, 0)), np.zeros((600, 0)), ("",) * 600, ("",) * 600)
        for name, v in levels.items()
    }
    pairs = [Comparison("m", *names) for names in (("a", "b"), ("a", "c"), ("b", "c"))]
    places = {images[index]: place for place, index in enumerate(random_order("d", images, 0))}
    made = replayed(block, stored, {"m": Mean()}, pairs, Rule(0.05 / 3, 5, 600), places)
    made.follow()
    found = {one.verdict.comparison[1:]: one for one in held(made, block, stored, 0.05)}
    assert found["a", "b"].winner == found["a", "b"].verdict.winner == "a"
    assert found["b", "c"].winner == found["b", "c"].verdict.winner == ""
    assert not any(one.contradicts for one in found.values())
    spread = np.std(levels["a"] - levels["c"], ddof=1)
    reach = stats.norm.ppf(1 - 0.05 / 3 / 2) + stats.norm.ppf(0.8)
    assert found["a", "c"].fixed == math.ceil((reach * spread / np.mean(levels["a"] - levels["c"])) ** 2)


def test_the_order_and_the_rule_are_on_record(tmp_path: Path) -> None:
    sequences.compute(tmp_path, order=4, alpha=0.01)
    store = ResultStore(tmp_path)
    [record], [order] = store.read_json("sequences"), store.read_json("orders")
    assert (record["alpha"], record["least"], record["compare"], order["seed"]) == (0.01, 6, "pairs", 4)
    ids = sequences.job().dataset.ids
    assert order["images"] == [ids[index] for index in random_order("made", ids, 4)]
    assert json.dumps(record["bounds"]) == '{"deletion": [0.0, 75.0], "neg": [0.0, 75.0]}'


def test_dix_decide_refuses_an_alpha_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decide", str(tmp_path), "--alpha", "2"]) == 1
    assert "--alpha between 0 and 1" in capsys.readouterr().err


# What a decision will cost


def prices(job: Job) -> Prices:
    """A second for a map, nothing else."""
    probes = {metric.probe: Price(0.0, 0.0) for metric in job.metrics.values() if metric.probe is not None}
    names = dict.fromkeys(job.metrics, 0.0)
    return Prices(
        start=0.0, forward=0.0, read=0.0, clean=0.0, explain=dict.fromkeys(job.methods, Price(1.0, 0.0)), first=probes,
        more=probes, score=names, again=names, file_bytes=0.0, row_bytes=0.0, picture_bytes=0.0, memory=0.0,
    )  # fmt: skip


def test_the_cost_to_a_decision_is_foreseen_from_a_pilot(tmp_path: Path) -> None:
    job = sequences.job()
    found = prospect(job, ResultStore(tmp_path / "nothing"), prices(job), 40)
    assert (found.images, found.own, found.comparisons) == (40, True, 6)
    assert not (tmp_path / "nothing").exists()
    low, middle, high = (cost.total_seconds for cost in found.forecasts)
    sequences.compute(tmp_path / "run")
    store = ResultStore(tmp_path / "run")
    spent = store.rows().groupby("method")["image"].nunique().sum()
    assert low <= middle <= high <= 3 * sequences.IMAGES
    assert middle == pytest.approx(spent, rel=0.3)
    again = prospect(job, store, prices(job), 15)
    assert (again.own, again.images) == (False, 21)  # the prefix of which every cell has its row


def test_a_pilot_of_scores_at_looks_foresees_the_look(tmp_path: Path) -> None:
    """Means without bounds: n images decide a lead of 5 and a spread of 20 where 5 > z 20 / sqrt(n)."""
    generator = np.random.default_rng(15)
    difference = generator.normal(0, 20, 4000)
    difference = 5 + 20 * (difference - difference.mean()) / difference.std()
    second = generator.uniform(20, 80, 4000)
    made = family(second + difference, second, metric=Mean(bounds=None))
    counts = generator.multinomial(4000, np.full(4000, 1 / 4000), size=100).astype(float)
    [pursuit] = made.pursuits
    needed = (stats.norm.ppf(1 - 0.05 / 6 / 2) * 20 / 5) ** 2
    assert np.median(pursuit.outlook(counts, np.arange(4000))) == next(k for k in made.rule.looks if k >= needed)
    assert len(made.rule.looks) == 6


# Commands


def test_dix_decide_and_dix_report_print_the_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequences.compute(tmp_path)
    assert main(["decide", str(tmp_path), "--least", "6", "--images", "1000"]) == 0
    said = capsys.readouterr().out
    assert "90 images in the random order of seed 0; 6 comparisons (pairs)" in said
    assert "| all | any time | 6 |" in said
    assert (tmp_path / "decisions.md").read_text(encoding="utf-8") in said
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "## Verdicts while running" in page
    assert "6 comparisons: 4 all images read, 2 decided" in page
    assert '<section id="decided">' in (tmp_path / "index.html").read_text(encoding="utf-8")
    lines = (tmp_path / "verdicts.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 6
    assert lines[2].startswith("tested,made,halves,deletion,good,poor,good,any time,decided,")
