"""What a person reads: one line that says what was wrong and what to do, and nothing that acts on the terminal."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dix.bench.run.termination import Terminated
from dix.cli import main
from dix.cli.aliases import aliases
from dix.cli.config import composed, files, options
from dix.cli.output import Printable, encodable
from dix.cli.schema import described, type_of
from dix.text import printable

DIX = [sys.executable, "-m", "dix.cli"]
#: What may act on a terminal, and how it is shown.
ACTING = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "a\x9b2Jb": r"a\x9b2Jb",
    "over\rwritten": r"over\rwritten",
    "a\u202ecba": r"a\u202ecba",
    "zero\u200bwidth": r"zero\u200bwidth",
    "no UTF-8 \udcff": r"no UTF-8 \udcff",
    "bell\x07, null\x00, delete\x7f": r"bell\x07, null\x00, delete\x7f",
    "line\nbreak": r"line\nbreak",
    "\u2028": r"\u2028",
}


@pytest.mark.parametrize("text", ACTING)
def test_what_acts_is_shown_as_an_escape(text: str) -> None:
    assert printable(text) == ACTING[text]


@pytest.mark.parametrize("text", ["plain", "Grün, 字, ελ, 🎉", "C:\\x", "100 %, <b>", ""])
def test_what_only_shows_stays(text: str) -> None:
    assert printable(text) == text


def test_lines_stay_where_they_are_wanted() -> None:
    assert printable("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"


def test_a_stream_writes_no_escape_sequence_and_only_what_its_encoding_has() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("Grün \x1b[2J", file=Printable(stream))
    stream.flush()
    assert stream.buffer.getvalue() == b"Gr\\xfcn \\x1b[2J\n"  # type: ignore[attr-defined]
    assert encodable("ü", io.StringIO()) == "ü"


@pytest.mark.parametrize("words", [["report", "\x1b[2Jx"], ["run", "method=['\x1b[2J']"], ["list", "\x1b[2Jx"]])
def test_a_message_repeats_no_escape_sequence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_neither_the_log_nor_wrong_words_act_on_the_terminal(tmp_path: Path) -> None:
    code = "import logging; from dix.cli.output import log_printable as p; p(); logging.warning('a\\x1bb')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "a\\x1bb\n"
    done = subprocess.run([*DIX, "list", "a", "\x1b[2J"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.batch_size=many", "run.batch_size: expected an integer, got many"),
        ("run.limit=1.5", "run.limit: expected an integer or null, got 1.5"),
        ("run.flush_seconds=soon", "run.flush_seconds: expected a number, got soon"),
        ("run.progress=perhaps", "run.progress: expected true or false, got perhaps"),
        ("run.shard=x", "run.shard: expected a list of integers, got x"),
        ("protocol.fractions=0.5", "protocol.fractions: expected a list of numbers, got 0.5"),
        ("protocol.fractions=[a]", "protocol.fractions: expected a list of numbers, got [a]"),
        ("sanity.repeats=many", "sanity.repeats: expected an integer, got many"),
    ],
)
def test_a_value_of_another_type_is_told_the_right_one(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        composed([override])


@pytest.mark.parametrize(
    ("group", "word", "name"),
    [
        ("method", "gradcam", "gc"), ("method", "grad-cam", "gc"), ("method", "Grad_CAM", "gc"),
        ("method", "grad-cam++", "gcpp"), ("method", "GC++", "gcpp"), ("method", "integrated-gradients", "ig"),
        ("method", "smoothgrad", "smooth_grad"), ("method", "DIX3", "dix3"), ("method", "LayerCAM", "lc"),
        ("model", "resnet-50", "resnet50"), ("model", "VGG19", "vgg19"), ("metric", "mIoU", "miou"),
        ("metric", "del", "deletion"), ("dataset", "ImageNet-Seg", "imagenet_seg"), ("dataset", "VOC", "voc"),
    ],
)  # fmt: skip
def test_other_names_of_a_thing_lead_to_it(group: str, word: str, name: str) -> None:
    value = f"[{word}]" if group in ("method", "metric") else word
    with pytest.raises(ValueError, match=f"no {group} called .*; did you mean '{name}'"):
        composed([f"{group}={value}"])


@pytest.mark.parametrize("group", ["model", "method", "metric", "dataset"])
def test_every_name_is_its_own_alias(group: str) -> None:
    known = aliases(files(group))
    for name in options(group):
        assert known[re.sub("_", "", name)] == name


@pytest.mark.parametrize("group", ["run", "protocol", "sanity", "train"])
def test_every_setting_is_described_where_it_is_declared(group: str) -> None:
    settings = type_of(group)
    wanted = {field.name for field in dataclasses.fields(settings)}
    if group in ("run", "protocol"):
        assert set(described(settings)) == wanted


def test_help_lists_every_setting_of_a_run_and_a_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    out = capsys.readouterr().out
    for group in ("run", "protocol"):
        part = out[out.index(f"{group}.KEY=VALUE") :]
        for field in dataclasses.fields(type_of(group)):
            found = re.search(rf"^  {field.name}=.*\n      (\S.*)$", part, re.MULTILINE)
            assert found, field.name
            assert described(type_of(group))[field.name] == found[1]
    assert "  batch_size=8\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=gc,dix3"], "method=gc,dix3: all in one job: method=[gc,dix3]; a job for each of them: dix run -m"),
        (["model=lenet5,vgg19"], "model=lenet5,vgg19: a job for each of them: dix run -m model=lenet5,vgg19"),
        (["model", "lenet5"], "'model' is no setting; an override is key=value"),
        (["method=[gc", "dix3]"], "method=[gc: no viable alternative"),
        (["model=lenet6"], "no model called 'lenet6'; did you mean 'lenet5'? (`dix list model` shows all)"),
    ],
)
def test_what_is_written_in_another_way_is_answered_with_the_right_one(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_command_asks_only_for_words_that_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify"])
    assert capsys.readouterr().err.endswith("the following arguments are required: NAME\n")


def test_one_job_that_fails_prints_one_line(tmp_path: Path) -> None:
    words = ["run", "model=lenet5", "model.weights=gone.pth", "dataset=mnist"]
    done = subprocess.run([*DIX, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("dix: model.weights: no file gone.pth")


def listen_to_interrupts() -> None:
    """Undo what a shell does to jobs in the background, and so to tests that it runs there: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_prints_one_line_and_keeps_what_is_stored(workers: int, tmp_path: Path) -> None:
    words = ["run", "model=lenet5", "dataset=mnist", "method=[gc,dix3]", "metric=[ins,sic]", "run.batch_size=2"]
    line = [*DIX, *words, f"run.workers={workers}", "run.flush_seconds=0.1", "run.results=r", "run.progress=false"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True, preexec_fn=listen_to_interrupts,
    )  # fmt: skip
    until = time.monotonic() + 240
    while not list(tmp_path.glob("r/store/**/*.parquet")) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert error.splitlines() == ["dix: interrupted; what was stored stays, the same command goes on from there"]


@pytest.mark.parametrize(("code", "left"), [(None, 1), (0, 1), ("a word", 1), (3, 3)])
def test_code_that_ends_the_process_is_never_a_success(
    code: object, left: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(_: object) -> int:
        raise SystemExit(code)

    monkeypatch.setattr("dix.cli.listing.main", leave)
    assert main(["list"]) == left
    assert f"asked for the end of the process: SystemExit({code!r})" in capsys.readouterr().err


def test_a_termination_from_outside_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(_: object) -> int:
        raise Terminated(143)

    monkeypatch.setattr("dix.cli.listing.main", terminated)
    with pytest.raises(Terminated):
        main(["list"])
