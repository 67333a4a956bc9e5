"""What a job costs: counted exactly, timed by a clock that only the parts themselves move."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from support.engine_jobs import FRACTIONS, Brightness, Impossible, Made, TwoHalves, classifier, job
from torch import Tensor

from dix.bench.run.calibrate import calibrate
from dix.bench.run.estimate import forecast, remaining
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.store.results import ResultStore
from dix.cli.estimate import _work as work_of
from dix.cli.estimate import duration, lines, size
from dix.metrics.api import Case, Predict, Scores, Trace, mean_summary
from dix.metrics.faithfulness import Ins, Neg, Pos
from dix.passes import Passes

ROW, LOOK, SLOW, BESIDE, ONCE = 0.125, 0.25, 2.0, 0.5, 4.0


class Clock:
    """Seconds that pass only when somebody lets them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


class Timed(TwoHalves):
    """A network that takes ROW seconds a row."""

    def forward(self, images: Tensor) -> Tensor:
        CLOCK.pass_(ROW * len(images))
        return super().forward(images)


@dataclass(frozen=True)
class Slow(Brightness):
    """Takes SLOW seconds an image and sends every image through the network once more.

    Its maps order pixels the other way: of two equal orders the network would be asked about one.
    """

    def explain(self, passes: Passes) -> Tensor:
        CLOCK.pass_(SLOW * len(passes.ids))
        passes.classifier.logits(passes.images)
        return -super().explain(passes)


@dataclass(frozen=True)
class Shared:
    """A probe with work that all maps of an image share: one row and ONCE seconds; two rows and BESIDE for each map."""

    def trace(self, case: Case, predict: Predict) -> Trace:
        def once() -> bool:
            CLOCK.pass_(ONCE * len(case.batch.ids))
            predict(case.batch.images, case.batch.targets)
            return True

        case.batch.once("shared", once)
        CLOCK.pass_(BESIDE * len(case.batch.ids))
        said = predict(case.batch.images.repeat(2, 1, 1, 1), case.batch.targets.repeat(2))
        return Trace(said.probability.view(2, -1).T, said.predicted.view(2, -1).T)


@dataclass(frozen=True)
class Probing:
    """A metric of that probe; scoring takes LOOK seconds an image."""

    label: str = "PROBING"
    higher_is_better: bool = True
    extra: bool = False
    needs_mask: bool = False

    @property
    def probe(self) -> Shared:
        return Shared()

    def score(self, case: Case, trace: Trace | None) -> Scores:
        CLOCK.pass_(LOOK * len(case.batch.ids))
        return Scores.of(torch.zeros(len(case.batch.ids)))

    def summary(self, value, parts, curve):
        return partial(mean_summary, value)


def timed_job(**run: object) -> Job:
    """Eight images in batches of three; two able methods, one that is not; three metrics with two probes."""
    model = classifier()
    model.network.__class__ = Timed
    made = job({"slow": Slow(), "quick": Brightness(), "never": Impossible()}, Made(8), model, **run)
    metrics = {"neg": Neg(FRACTIONS), "ins": Ins(FRACTIONS), "probing": Probing()}
    return dataclasses.replace(made, metrics=metrics)


def test_times_are_the_parts_own_times_the_counts(tmp_path: Path) -> None:
    made = timed_job()
    found = forecast(made, calibrate(made, images=2, clock=CLOCK, start=3.0), remaining(made, ResultStore(tmp_path)))
    levels = len(FRACTIONS) - 1
    assert found.images == 8
    assert found.rows == 8 * 2 * 3
    assert found.explain_forwards == 8
    assert found.forwards == 8 * 2 * levels + 8 * (1 + 2 * 2)
    assert found.seconds == {
        "start": 3.0,
        "read": 0.0,
        "clean": pytest.approx(8 * ROW),
        "explain slow": pytest.approx(8 * (SLOW + ROW)),
        "explain quick": 0.0,
        "probe Blackout": pytest.approx(8 * 2 * levels * ROW),
        "probe Shared": pytest.approx(8 * (ONCE + 2 * BESIDE + 5 * ROW)),
        "score": pytest.approx(8 * 2 * LOOK),
    }
    assert found.total_seconds == pytest.approx(sum(found.seconds.values()))


@dataclass(frozen=True)
class Twice(Probing):
    """A metric that explains two altered images for each map."""

    label: str = "TWICE"

    def score(self, case: Case, trace: Trace | None) -> Scores:
        assert case.explain is not None
        for _ in range(2):
            case.explain(case.batch.images)
        return Scores.of(torch.zeros(len(case.batch.ids)))


def test_what_a_metric_explains_again_is_counted_at_its_methods_price(tmp_path: Path) -> None:
    made = dataclasses.replace(timed_job(), metrics={"twice": Twice()})
    found = forecast(made, calibrate(made, images=2, clock=CLOCK), remaining(made, ResultStore(tmp_path)))
    assert found.seconds["explain again"] == pytest.approx(8 * 2 * (ROW + SLOW + ROW) + 8 * 2 * ROW)
    assert found.explain_forwards == 8 + 8 * 2 * 2 + 8 * 2


def test_the_forwards_are_those_of_the_run(tmp_path: Path) -> None:
    made = timed_job()
    found = forecast(made, calibrate(made, images=1), remaining(made, ResultStore(tmp_path)))
    assert evaluate(made, ResultStore(tmp_path)).forwards == found.forwards


def test_what_is_stored_costs_nothing(tmp_path: Path) -> None:
    made, store = timed_job(), ResultStore(tmp_path)
    evaluate(timed_job(limit=3), store)
    part = remaining(made, store)
    assert part.images == 5
    assert part.methods == {"slow": 5, "quick": 5}
    evaluate(made, store)
    done = forecast(made, calibrate(made, images=1), remaining(made, store))
    assert (done.images, done.forwards, done.rows) == (0, 0, 0)
    assert lines(done, 0.0) == ["halves--made--tested: everything is stored already"]


def test_a_new_metric_costs_its_own_probe_alone(tmp_path: Path) -> None:
    made, store = timed_job(), ResultStore(tmp_path)
    evaluate(made, store)
    more = dataclasses.replace(made, metrics={**made.metrics, "pos": Pos(FRACTIONS)})
    work = remaining(more, store)
    assert dict(work.cells) == {("slow", "pos"): 8, ("quick", "pos"): 8}
    found = forecast(more, calibrate(more, images=1), work)
    assert found.forwards == 8 * 2 * (len(FRACTIONS) - 1)


def test_a_pretended_number_of_images(tmp_path: Path) -> None:
    made = timed_job()
    found = forecast(made, calibrate(made, images=2, clock=CLOCK), work_of([made], str(tmp_path), 50_000))
    small = forecast(made, calibrate(made, images=2, clock=CLOCK), work_of([made], str(tmp_path), None))
    assert found.forwards == small.forwards // 8 * 50_000
    assert found.seconds["explain slow"] == pytest.approx(50_000 * (SLOW + ROW))


def test_disk_is_of_the_stores_order(tmp_path: Path) -> None:
    made = dataclasses.replace(timed_job(), dataset=Made(60))
    found = forecast(made, calibrate(made, images=2), remaining(made, ResultStore(tmp_path)))
    evaluate(made, ResultStore(tmp_path))
    stored = sum(path.stat().st_size for path in (tmp_path / "store" / "rows").rglob("*.parquet"))
    assert stored / 3 < found.disk < stored * 3


def test_where_the_first_images_cannot_be_read_it_says_so() -> None:
    made = dataclasses.replace(timed_job(), dataset=Made(8, broken=(0, 1)))
    with pytest.raises(ValueError, match="none of the data set's first images can be read"):
        calibrate(made, images=2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.26, "0.3 s"), (42, "42 s"), (450, "450 s"), (600, "10 min"), (9000, "2.5 h"), (400_000, "5 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(12, "12 B"), (1_500, "2 kB"), (2.4e9, "2 GB"), (3.2e12, "3.2 TB")])
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
