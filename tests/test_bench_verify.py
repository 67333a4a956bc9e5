"""Recomputed rows: the same where nothing changed, named where anything did."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from omegaconf import DictConfig
from support.engine_jobs import Brightness, Failing, Made, NotFinite, job

from dix.baselines.controls import Random
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.run.verify import Checked, sample, verify
from dix.bench.share.collection import examined
from dix.bench.store.cells import Group
from dix.bench.store.columns import SCHEMA
from dix.bench.store.results import ResultStore
from dix.cli import main
from dix.cli import verify as verify_command
from dix.cli.report import result_set
from dix.cli.session import open_job
from dix.cli.verify import completed

DIX = [sys.executable, "-m", "dix.cli"]
METHODS = {"brightness": Brightness(), "random": Random(), "broken": NotFinite()}


def whole(**changes: object) -> Job:
    return dataclasses.replace(job(METHODS), **changes)  # type: ignore[arg-type]


def checked(store: ResultStore, made: Job, count: int = 1000, seed: int = 0) -> list[Checked]:
    def part(group: Group, methods: Sequence[str], metrics: Sequence[str]) -> Job:
        assert group == made.group
        some = {name: made.methods[name] for name in methods}
        return dataclasses.replace(made, methods=some, metrics={name: made.metrics[name] for name in metrics})

    return list(verify(store, sample(store.rows(), count, seed), part))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    store = ResultStore(tmp_path)
    evaluate(whole(), store)
    return store


def changed(store: ResultStore, change: dict[str, object], image: str, metric: str, method: str = "random") -> None:
    """Write other values into the stored row of one image, metric and method."""
    digests = {cell["cell"] for cell in store.cells() if (cell["metric"], cell["method"]) == (metric, method)}
    for group in store.groups():
        records = store.parts.read(group, SCHEMA.names).to_pylist()
        for record in records:
            if record["image"] == image and record["cell"] in digests:
                record.update(change)
        for path in store.parts.paths(group):
            path.unlink()
        store.append_table(group, pa.Table.from_pylist(records, schema=SCHEMA))


def test_an_untouched_store_is_the_same_to_the_last_row(store: ResultStore) -> None:
    found = checked(store, whole())
    assert len(found) == 8 * 3 * 4
    assert [one.fault for one in found] == [""] * len(found)
    assert all(one.stored == one.again for one in found if one.name.method != "broken")


def test_rows_are_recomputed_in_their_own_batch(store: ResultStore) -> None:
    seen: list[tuple[str, ...]] = []

    @dataclasses.dataclass(frozen=True)
    class Watching(Brightness):
        def explain(self, passes):
            seen.append(tuple(passes.ids))
            return super().explain(passes)

    names = [name for name in sample(store.rows(), 1000) if (name.image, name.method) == ("image4", "brightness")]
    made = whole(methods={"brightness": Watching()})
    list(verify(store, names, lambda *_: made))
    assert seen == [("image3", "image4", "image5")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"value": 55.5}, "value: stored 55.5, now "),
        ({"curve": [0.0, 0.25, 0.5]}, "curve: stored 3 numbers, now 4"),
        ({"reason": "made up"}, "reason: stored 'made up', now ''"),
        ({"value": float("nan")}, "reason: stored 'the stored value is not a number', now ''"),
    ],
)
def test_a_changed_row_is_named(store: ResultStore, change: dict[str, object], fault: str) -> None:
    changed(store, change, "image1", "neg")
    faulty = [one for one in checked(store, whole()) if one.fault]
    assert [(one.name.image, one.name.metric, one.name.method) for one in faulty] == [("image1", "neg", "random")]
    assert faulty[0].fault.startswith(fault)


@pytest.mark.parametrize(("shift", "same"), [(0.5, True), (2.5, False)])
def test_the_tolerance_is_what_it_says(store: ResultStore, shift: float, same: bool) -> None:
    def first() -> Checked:
        chosen = [one for one in checked(store, whole()) if one.name[2:] == ("random", "neg", "tested", "image0")]
        return chosen[0]

    changed(store, {"value": first().stored + shift * 0.001}, "image0", "neg")
    assert (first().fault == "") is same


def test_another_identity_is_named(store: ResultStore) -> None:
    other = whole(protocol=dataclasses.replace(whole().protocol, seed=7))
    faults = {one.fault for one in checked(store, other)}
    assert faults == {"protocol.seed: stored 0, wanted 7"}


def test_a_method_that_raises_and_an_image_that_is_gone(store: ResultStore) -> None:
    failing = whole(methods={"brightness": dataclasses.replace(Failing(), image="image5")})
    rows = [name for name in sample(store.rows(), 1000) if name.method == "brightness" and name.metric == "neg"]
    found = {one.name.image: one.fault for one in verify(store, rows, lambda *_: failing)}
    assert "Failing" in found["image0"]  # another class is another identity
    gone = whole(methods={"brightness": Brightness()}, dataset=Made(7))
    found = {one.name.image: one.fault for one in verify(store, rows, lambda *_: gone)}
    assert "fingerprint" in found["image7"]


def test_samples_are_seeded_distinct_and_ordered(store: ResultStore) -> None:
    rows = store.rows()
    first = sample(rows, 10, seed=3)
    assert first == sample(rows.sample(frac=1.0, random_state=1), 10, seed=3)
    assert len(set(first)) == 10
    assert first != sample(rows, 10, seed=4)
    assert len(sample(rows, 10_000)) == len(rows)
    assert sample(pd.DataFrame(columns=rows.columns), 5) == []


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real results of two photos, made through the command line by two runs with different methods."""
    folder = tmp_path_factory.mktemp("work") / "small"
    common = ["metric=[neg]", "run.limit=2", "run.workers=0", f"run.results={folder}", "run.name=small"]
    for method in ("gc", "random"):
        words = ["run", "model=efficientnet_lite0", f"method=[{method}]", *common]
        assert subprocess.run([*DIX, *words], capture_output=True, text=True, check=False).returncode == 0
    return folder


def test_the_command_verifies_what_several_runs_stored(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(results), "--sample", "9"]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 rows are the same (within 0.001 + 1e-05 of the value)" in out
    assert out.count("same    efficientnet_lite0 · photos · thesis") == 4


def test_rows_are_recomputed_in_passes_as_large_as_those_that_made_them(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs were left to choose, and what is fastest may be another number today. A record may say anything."""
    shutil.copytree(results, tmp_path / "copy")
    store, taken = ResultStore(tmp_path / "copy"), list[int]()

    def noted(config: DictConfig) -> Job:
        taken.append(config.run.chunk)
        return open_job(config)

    [group] = store.groups()
    monkeypatch.setattr(verify_command, "open_job", noted)
    for chunk in (5, [5]):
        for name in {origin for counts in store.origins(group).values() for origin in counts}:
            store.write_json("origins", name, {**(store.json("origins", name) or {}), "chunk": chunk})
        assert main(["verify", str(tmp_path / "copy"), "--sample", "9"]) == 0
    assert taken == [5, 0]


def test_settings_left_to_a_default_are_those_that_the_rows_were_made_with() -> None:
    """A default may have changed since; what the run named itself, and what another class meant by a name, stays."""
    made = {"class": "Dix", "version": 1, "depth": 2, "normalise": True, "path": {"class": "PathIntegral", "steps": 10}}
    node = {"_target_": "dix.explainer.Dix", "depth": 3, "label": "mine"}
    assert completed({"mine": node}, {"mine": made}) == {"mine": {**node, "normalise": True}}
    other = {"_target_": "my_package.build", "depth": 3}
    assert completed({"mine": other, "new": node}, {"mine": made}) == {"mine": other, "new": node}


def test_the_command_fails_where_a_row_was_changed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = results.parent / "changed"
    shutil.copytree(results, copy)
    store = ResultStore(copy)
    changed(store, {"value": -1.0}, store.rows()["image"][0], "neg", "gc")
    assert main(["verify", str(copy), "--sample", "9"]) == 1
    out = capsys.readouterr().out
    assert "3 of 4 rows are the same" in out
    assert "1 differ" in out
    assert "value: stored -1, now" in out


def test_the_command_runs_no_foreign_class_unasked(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = results.parent / "foreign"
    shutil.copytree(results, copy)
    store = ResultStore(copy)
    for name, record in store.records.all("provenance").items():
        text = json.dumps(record).replace("dix.baselines.cam.GradCam", "somebody.Else")
        store.write_json("provenance", name, json.loads(text))
    assert len(store.rows()) == 4
    assert main(["verify", str(copy), "--sample", "9"]) == 1
    assert "somebody.Else is no method of this suite's" in capsys.readouterr().err


def test_a_pack_is_verified_and_says_so(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "small.pack"
    assert main(["pack", str(results), "--output", str(pack)]) == 0
    assert main(["verify", str(pack), "--sample", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 rows are the same" in out
    assert "were 77.7 % of the 4 rows altered, 95 % of such samples would show it" in out  # 1 - 0.05^(1/2)
    entry = examined(pack, result_set)
    assert (entry.badge, entry.verifications[0].rows, entry.verifications[0].of) == ("verified", 2, 4)
    [record] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert record["missed"] == pytest.approx(1 - 0.05**0.5)
    assert record["versions"]["torch"]
    assert [len(row["sum"]) for row in record["rows"]] == [16, 16]  # equal where two rows found the same


def test_a_pack_whose_rows_of_a_method_were_all_altered_fails(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checksums and its scores are right: the forger packed it with the same program."""
    shutil.copytree(results, tmp_path / "forged")
    store = ResultStore(tmp_path / "forged")
    for image in store.rows()["image"].unique():
        changed(store, {"value": 90.0}, image, "neg", "gc")
    assert main(["pack", str(tmp_path / "forged"), "--output", str(tmp_path / "forged.pack")]) == 0
    assert examined(tmp_path / "forged.pack", result_set).badge == "consistent"
    assert main(["verify", str(tmp_path / "forged.pack"), "--sample", "3", "--seed", "1"]) == 1
    assert "value: stored 90, now" in capsys.readouterr().out
    entry = examined(tmp_path / "forged.pack", result_set)
    assert entry.badge == "consistent"
    assert "rows came out differently" in entry.disputed[0]
