"""Shards, kills, full disks and clocks that differ: no row is lost, none counts twice."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import engine_jobs as parts
from support import store_writers as made
from torch import Tensor

from dix.baselines.controls import Random
from dix.bench.run.evaluate import evaluate
from dix.bench.store import ledger
from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.errors import StaleResults
from dix.bench.store.merge import merge
from dix.bench.store.results import ResultStore
from dix.bench.store.rows import SMALL_PARTS, Parts
from dix.bench.store.status import survey
from dix.bench.tables import samples
from dix.passes import Passes

CELL = StoredCell("m", "d", "gc", "neg", "p", {"steps": 10})


def opened(folder: Path) -> ResultStore:
    store = ResultStore(folder)
    store.open([CELL])
    return store


# Shards


@pytest.mark.parametrize("count", [2, 3, 5])
def test_any_number_of_shards_in_any_order_gives_the_bits_of_one_run(tmp_path: Path, count: int) -> None:
    made.whole(tmp_path / "whole", 11, batch_size=2)
    order = random.Random(count).sample(range(count), count)
    for part in order:
        made.whole(tmp_path / "shards", 11, batch_size=2, shard=[part, count])
    assert made.content(tmp_path / "shards") == made.content(tmp_path / "whole")


def test_shards_of_different_cuts_overlap_without_doubling(tmp_path: Path) -> None:
    made.whole(tmp_path / "whole", 7)
    for shard in ([0, 2], [1, 3], [0, 3], [1, 2]):
        made.whole(tmp_path / "shards", 7, shard=shard)
    assert made.content(tmp_path / "shards") == made.content(tmp_path / "whole")


def test_two_writers_of_one_shard_at_the_same_time(tmp_path: Path) -> None:
    made.whole(tmp_path / "whole", 12)
    writers = [made.start(tmp_path / "both", 0, 1, 12, pause=0.05) for _ in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert made.content(tmp_path / "both") == made.content(tmp_path / "whole")
    written = [pq.read_metadata(path).num_rows for path in (tmp_path / "both").rglob("part-*.parquet")]
    assert sum(written) >= 12 * 3 * 4
    assert survey(ResultStore(tmp_path / "both")).total("done") == 12 * 3 * 4


@pytest.mark.slow
def test_fifty_kills_at_random_and_one_clean_run_give_the_same_bytes(tmp_path: Path) -> None:
    """Four processes share the images; each is killed again and again, wherever it happens to be."""
    images, chance, folder = 320, random.Random(4), tmp_path / "killed"
    nursery = made.Nursery(folder, 4, images, pause=0.1)
    running = {shard: nursery.start(shard) for shard in range(4)}
    kills = 0
    while kills < 50:
        time.sleep(chance.uniform(0.0, 0.3))
        shard = chance.randrange(4)
        os.kill(running[shard], signal.SIGKILL)  # raises where it was done already: then nothing would be proven
        running[shard] = nursery.start(shard)
        kills += 1
    until = time.monotonic() + 60
    while not (partial := survey(ResultStore(folder)).total("done")) and time.monotonic() < until:
        time.sleep(0.1)  # a busy machine starts a process in longer than those that were killed had
    for process in running.values():
        os.kill(process, signal.SIGKILL)
    nursery.close()
    assert 0 < partial < images * 3 * 4
    made.whole(folder, images)
    made.whole(tmp_path / "whole", images)
    assert made.content(folder) == made.content(tmp_path / "whole")
    assert not ResultStore(folder).damaged()


@pytest.mark.slow
def test_forty_kills_over_three_shards_half_of_them_aimed_give_the_same_bytes(tmp_path: Path) -> None:
    """Aimed at a rename, at the beginning of a compaction, and between a new part and the removal of the old ones."""
    images, chance, folder = 90, random.Random(5), tmp_path / "killed"
    nursery = made.Nursery(folder, 3, images, pause=0.02)
    for kill in range(40):
        shard = kill % 3
        if kill % 2:
            process = nursery.start(shard)
            time.sleep(chance.uniform(0.0, 0.6))
            os.kill(process, signal.SIGKILL)
        else:
            place = ("rename", "compaction", "removal")[kill // 2 % 3]
            made.wait_for_end(nursery.start(shard, place, chance.randrange(1, 5)))
    nursery.close()
    assert not ResultStore(folder).damaged()
    made.whole(folder, images)
    made.whole(tmp_path / "whole", images)
    assert made.content(folder) == made.content(tmp_path / "whole")
    assert survey(ResultStore(folder)).sound


# Parts


def test_own_small_parts_are_put_together_and_nobody_elses(tmp_path: Path) -> None:
    mine, other = opened(tmp_path), ResultStore(tmp_path)
    other.append(CELL.group, [Row(CELL.digest, "other", 0.0)])
    for i in range(SMALL_PARTS + 2):
        mine.append(CELL.group, [Row(CELL.digest, f"{i:03d}", float(i))])
    parts_there = list((mine.folder / "rows" / CELL.group.folder).glob("part-*.parquet"))
    assert len(parts_there) == 1 + 1 + 2  # the other's, the compacted one, two since
    assert mine.rows()["value"].tolist() == [*map(float, range(SMALL_PARTS + 2)), 0.0]


def test_a_kill_between_the_new_part_and_the_end_of_the_old_ones_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    for image in ("a", "b", "c"):
        store.append(CELL.group, [Row(CELL.digest, image, 1.0)])

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        store.compact(CELL.group)
    monkeypatch.undo()
    assert len(list(store.folder.rglob("part-*.parquet"))) == 4
    assert store.rows()["image"].tolist() == ["a", "b", "c"]
    assert store.counts(CELL.group) == {CELL.digest: 3}


def test_a_reader_lists_again_when_parts_are_put_together_under_its_eyes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = opened(tmp_path), ResultStore(tmp_path)
    for image in ("a", "b"):
        writer.append(CELL.group, [Row(CELL.digest, image, 1.0)])
    read, once = Parts._part, iter([True])

    def compacting_first(self: Parts, path: Path, columns: list[str]) -> object:
        if self is reader.parts and next(once, False):
            writer.compact(CELL.group)
        return read(self, path, columns)

    monkeypatch.setattr(Parts, "_part", compacting_first)
    assert reader.done(CELL.group) == {CELL.digest: {"a", "b"}}


def test_of_two_different_rows_the_same_one_counts_whatever_the_files_are_called(tmp_path: Path) -> None:
    counted = set()
    for order, folder in zip(itertools.permutations([3.0, 1.0, 2.0]), "abcdef", strict=True):
        store = opened(tmp_path / folder)
        for value in order:
            store.append(CELL.group, [Row(CELL.digest, "image", value)])
        counted.add(tuple(store.rows()["value"]))
    assert len(counted) == 1


def test_a_flipped_bit_in_a_part_is_found_and_the_part_set_aside(tmp_path: Path) -> None:
    store = opened(tmp_path)
    chance = random.Random(0)
    store.append(CELL.group, [Row(CELL.digest, f"{i}", chance.random()) for i in range(200)])
    part = next(store.folder.rglob("part-*.parquet"))
    column = pq.read_metadata(part).row_group(0).column(2)
    raw = bytearray(part.read_bytes())
    raw[column.dictionary_page_offset + 900] ^= 1  # inside one of the 200 values, which zstd cannot shorten
    part.write_bytes(raw)
    assert store.rows().empty
    assert store.damaged() == [part.name]


def test_a_part_of_another_version_is_refused_by_name_and_left_where_it_is(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [Row(CELL.digest, "a", 1.0)])
    part = next(store.folder.rglob("part-*.parquet"))
    older = part.with_name(f"part-{uuid.uuid4().hex}.parquet")  # as parts were called before they had checksums
    pq.write_table(pq.read_table(part).drop_columns(["note"]), older)
    with pytest.raises(StaleResults, match=r"another version of this program.*note"):
        store.rows()
    assert older.is_file()
    newer = part.with_name(f"part-{hashlib.blake2b(older.read_bytes(), digest_size=20).hexdigest()}.parquet")
    older.rename(newer)
    with pytest.raises(StaleResults, match=r"another version of this program.*note"):
        store.rows()
    assert newer.is_file()


def test_half_written_files_go_when_they_are_old(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append(CELL.group, [Row(CELL.digest, "a", 1.0)])
    old, new = (store.folder / "rows" / CELL.group.folder / f".part-{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.open([CELL])
    assert (old.exists(), new.exists()) == (False, True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 1024)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


def test_a_full_disk_stops_the_run_by_name_and_loses_nothing_that_was_stored(small_disk: Path) -> None:
    made.whole(small_disk / "results", 3)
    before = made.content(small_disk / "results")
    filler = fill(small_disk)
    with pytest.raises(ValueError, match=r"run\.results: cannot write .*No space left on device"):
        evaluate(
            parts.job(dataset=parts.Made(count=3), methods={"more": Random()}), ResultStore(small_disk / "results")
        )
    assert not list(small_disk.rglob("*.tmp"))
    filler.unlink()
    assert made.content(small_disk / "results") == before


def test_a_run_goes_on_after_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    made.whole(tmp_path / "whole", 6)
    store = ResultStore(small_disk / "results")
    job = parts.job(dataset=parts.Made(count=6), batch_size=1)

    def fill_half_way(done: int, total: int) -> None:
        if done == 2:
            fill(small_disk)

    with pytest.raises(ValueError, match="No space left on device"):
        evaluate(job, store, fill_half_way)
    (small_disk / "filler").unlink()
    assert 0 < survey(ResultStore(small_disk / "results")).total("done") < 6 * 3 * 4
    evaluate(job, ResultStore(small_disk / "results"))
    assert made.content(small_disk / "results") == made.content(tmp_path / "whole")


def test_a_read_only_folder_can_be_read_and_its_damaged_part_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so that the refusal is made here."""
    store = opened(tmp_path)
    store.append(CELL.group, [Row(CELL.digest, "a", 1.0)])
    store.append(CELL.group, [Row(CELL.digest, "b", 1.0)])
    broken = sorted(store.folder.rglob("part-*.parquet"))[0]
    broken.write_bytes(b"PAR1")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(Path, "touch", refused)
    reader = ResultStore(tmp_path)
    assert len(reader.rows()) == 1
    assert reader.damaged() == [broken.name]
    assert broken.is_file()
    with pytest.raises(ValueError, match=r"run\.results: cannot write .*Permission denied"):
        reader.append(CELL.group, [Row(CELL.digest, "c", 1.0)])


# Signals and signs of life


def test_a_terminated_process_stores_what_it_has(tmp_path: Path) -> None:
    """SIGTERM arrives between two flushes that are an hour apart."""
    code = made.SHARD.replace("batch_size=1", "batch_size=1, flush_seconds=3600.0")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), "0", "1", "8", "0.3"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stderr=subprocess.DEVNULL,
    )
    record = None
    deadline = time.monotonic() + 120
    while (record is None or record["state"] != "running") and time.monotonic() < deadline:
        time.sleep(0.05)
        record = next(iter(ledger.jobs(ResultStore(tmp_path)).values()), None)
    time.sleep(1.2)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert 0 < survey(ResultStore(tmp_path)).total("done") < 8 * 3 * 4
    [record] = ledger.jobs(ResultStore(tmp_path)).values()
    assert record["state"] == ledger.STOPPED


def test_where_a_launcher_ignores_the_signal_rows_are_stored_at_once_and_the_job_goes_on(tmp_path: Path) -> None:
    """SLURM sends SIGTERM some seconds before it kills; submitit's handler only notes it."""
    noted: list[int] = []
    stored: dict[float, int] = {}  # rows when progress was last told of so many images; within one, of a share of it
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))

    def terminated(done: float, total: int) -> None:
        if done == 1 and not noted:
            os.kill(os.getpid(), signal.SIGTERM)
        stored[done] = survey(ResultStore(tmp_path)).total("done")

    try:
        evaluate(parts.job(batch_size=1, flush_seconds=3600.0), ResultStore(tmp_path), terminated)
    finally:
        signal.signal(signal.SIGTERM, before)
    rows = 3 * 4
    assert noted == [signal.SIGTERM]
    assert {done: stored[done] for done in range(9)} == {
        done: done * rows for done in range(9)
    }  # and after every further image


def test_a_launcher_signal_passes_through_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from submitit.core.utils import UncompletedJobError

    def signalled(self: parts.Failing, passes: Passes) -> Tensor:
        if "image0" in passes.ids:
            return Random().explain(passes)
        raise UncompletedJobError("out of time")

    monkeypatch.setattr(parts.Failing, "explain", signalled)
    methods = {"random": Random(), "failing": parts.Failing()}
    with pytest.raises(UncompletedJobError):
        evaluate(parts.job(methods=methods, flush_seconds=3600.0), ResultStore(tmp_path))
    store = ResultStore(tmp_path)
    assert store.read_json("failures") == []
    rows = store.rows()
    assert set(rows["image"][rows["method"] == "failing"]) == {"image0", "image1", "image2"}
    # Of the batch that was cut short, what another method had scored before is sound and stays.
    assert set(rows["image"][rows["method"] == "random"]) == {f"image{i}" for i in range(6)}


def test_only_failed_goes_on_with_a_job_that_was_killed(tmp_path: Path) -> None:
    def killed(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(parts.job(), ResultStore(tmp_path), killed)
    outcome = evaluate(parts.job(only="failed"), ResultStore(tmp_path))
    assert outcome.images == 8 - 3
    assert evaluate(parts.job(only="failed"), ResultStore(tmp_path)).images == 0


def test_a_job_without_a_sign_of_life_is_not_running_whatever_the_local_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    made.whole(tmp_path, 2)
    [key] = store.names("jobs")
    store.write_json("jobs", key, {**(store.json("jobs", key) or {}), "state": ledger.RUNNING})
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a machine whose clock is decades behind
    assert survey(store).jobs == {"finished": 0, "running": 1, "stopped": 0}
    path = store.records.path("jobs", key)
    moment = path.stat().st_mtime
    os.utime(path, (moment - 2 * ledger.DEAD,) * 2)
    assert survey(store).jobs == {"finished": 0, "running": 0, "stopped": 1}


# Status and merge


def test_status_counts_what_is_done_failed_unreadable_and_missing(tmp_path: Path) -> None:
    methods = {"failing": parts.Failing(image="image5"), "random": Random()}
    data = parts.Made(broken=(7,))
    for shard in ([0, 3], [1, 3]):  # images 0-2 and 3-5 of 8
        evaluate(parts.job(methods=methods, dataset=data, shard=shard, on_error="skip"), ResultStore(tmp_path))
    status = survey(ResultStore(tmp_path))
    cells = {(cell.method, cell.metric): cell for cell in status.cells}
    facts = {name: (c.expected, c.done, c.failed, c.unread, c.missing) for name, c in cells.items()}
    assert facts["random", "neg"] == (8, 6, 0, 0, 2)
    assert facts["failing", "neg"] == (8, 3, 3, 0, 2)
    assert (status.jobs["finished"], status.total("done")) == (2, 4 * 6 + 4 * 3)
    evaluate(parts.job(methods=methods, dataset=data, shard=[2, 3], on_error="skip"), ResultStore(tmp_path))
    cells = {(cell.method, cell.metric): cell for cell in survey(ResultStore(tmp_path)).cells}
    assert (cells["random", "neg"].done, cells["random", "neg"].unread, cells["random", "neg"].missing) == (7, 1, 0)


def test_merging_the_shards_of_two_machines_gives_the_bits_of_one_run(tmp_path: Path) -> None:
    made.whole(tmp_path / "whole", 9)
    for part in range(2):
        made.whole(tmp_path / f"machine{part}", 9, shard=[part, 2])
    made.whole(tmp_path / "machine1", 9, shard=[0, 3])
    sources = [ResultStore(tmp_path / f"machine{part}") for part in range(2)]
    first = merge(sources, ResultStore(tmp_path / "all"))
    assert (first.added, first.differing) == (9 * 3 * 4, 0)
    assert made.content(tmp_path / "all") == made.content(tmp_path / "whole")
    again = merge(sources, ResultStore(tmp_path / "all"))
    assert (again.added, again.differing) == (0, 0)
    assert made.content(tmp_path / "all") == made.content(tmp_path / "whole")
    assert evaluate(parts.job(dataset=parts.Made(count=9), batch_size=1), ResultStore(tmp_path / "all")).rows == 0


def test_merging_refuses_conflicting_identities_by_name_and_writes_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "a").append(CELL.group, [Row(CELL.digest, "x", 1.0)])
    other = StoredCell("m", "d", "gc", "neg", "p", {"steps": 25})
    store = ResultStore(tmp_path / "b")
    store.open([other])
    store.append(other.group, [Row(other.digest, "y", 1.0)])
    with pytest.raises(StaleResults, match=r"(?s)m · d · gc · neg · p.*steps: stored 10, wanted 25"):
        merge([ResultStore(tmp_path / "a"), store], ResultStore(tmp_path / "c"))
    assert not (tmp_path / "c").exists()
    with pytest.raises(StaleResults, match="nothing was written"):
        merge([store], ResultStore(tmp_path / "a"))


def test_merging_keeps_rows_that_differ_and_which_one_counts_does_not_depend_on_the_order(tmp_path: Path) -> None:
    opened(tmp_path / "a").append(CELL.group, [Row(CELL.digest, "x", 2.0), Row(CELL.digest, "y", float("nan"))])
    opened(tmp_path / "b").append(CELL.group, [Row(CELL.digest, "x", 1.0), Row(CELL.digest, "y", float("nan"))])
    merged = merge([ResultStore(tmp_path / "b")], ResultStore(tmp_path / "a"))
    assert (merged.added, merged.same, merged.differing) == (1, 1, 1)
    assert merged.examples == ["m · d · p x: 2.0 and 1.0"]
    assert ResultStore(tmp_path / "a").conflicts().total == 1
    merge([ResultStore(tmp_path / "a")], ResultStore(tmp_path / "b"))
    values = [ResultStore(tmp_path / name).rows()["value"].iloc[0] for name in "ab"]
    assert values[0] == values[1]


def test_records_of_the_same_name_are_kept_from_both_folders(tmp_path: Path) -> None:
    for name, device in (("a", "one"), ("b", "another")):
        opened(tmp_path / name).write_json("provenance", "job", made.provenance(device=device))
    merge([ResultStore(tmp_path / "b")], ResultStore(tmp_path / "a"))
    assert sorted(r["device"] for r in ResultStore(tmp_path / "a").read_json("provenance")) == ["another", "one"]


def test_samples_of_a_store_are_those_of_its_frame(tmp_path: Path) -> None:
    methods = {"nan": parts.NotFinite(), "random": Random()}
    evaluate(parts.job(methods=methods), ResultStore(tmp_path))
    store = ResultStore(tmp_path)
    direct, framed = samples.stored(store), samples.read(store.rows())
    assert sorted(direct) == sorted(framed)
    for key, sample in framed.items():
        other = direct[key]
        assert (other.images, other.reasons, other.remarks) == (sample.images, sample.reasons, sample.remarks)
        for mine, theirs in zip(other.counted(), sample.counted(), strict=True):
            np.testing.assert_array_equal(mine, theirs)  # curves are stored in single precision


def test_damaged_records_do_not_overwrite_each_other(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for content in ("{", "[1"):
        (store.folder / "cells" / "x.json").write_text(content)
        store.cells()
    kept = [path.read_text() for path in (store.folder / "damaged").glob("x*.json")]
    assert sorted(kept) == ["[1", "{"]
    assert [cell["cell"] for cell in store.cells()] == [CELL.digest]
