"""Files appear whole or not at all, whatever interrupts the one who writes them."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dix.files import atomic, write_atomic


def test_a_file_and_its_folders_appear_with_the_whole_content(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "text.md", "naïve\n")
    write_atomic(tmp_path / "a" / "b" / "bytes", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "text.md").read_bytes() == b"na\xc3\xafve\n"
    assert (tmp_path / "a" / "b" / "bytes").read_bytes() == b"\x00\xff"
    assert len(list((tmp_path / "a" / "b").iterdir())) == 2


def test_an_error_in_the_block_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def write() -> None:
        with atomic(path) as half:
            half.write_text("new")
            raise KeyError("the writer's own")

    with pytest.raises(KeyError, match="the writer's own"):
        write()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_the_old_file_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """Some file systems find out when the content is written, others when it goes to disk or gets its name."""
    path = tmp_path / "table.csv"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(ValueError, match=rf"cannot write {re.escape(str(path))} \({os.strerror(code)}\)"):
        write_atomic(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_limit_that_the_system_sets_is_reported_by_the_files_name(tmp_path: Path) -> None:
    """A real refusal in the middle of the writing: no file may be larger than a kilobyte."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from dix.files import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        write_atomic(Path(sys.argv[1]), b"0" * 4096)
    """
    write_atomic(tmp_path / "big", "old")
    words = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "big")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"ValueError: cannot write .*big \(File too large\); nothing there was changed", done.stderr)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("no folder")
    with pytest.raises(ValueError, match=r"cannot write .*folder/file"):
        write_atomic(tmp_path / "folder" / "file", "text")


def test_kills_in_the_middle_leave_a_whole_file(tmp_path: Path) -> None:
    """A process that rewrites one file as fast as it can is killed; a reader finds one of its versions, whole."""
    code = """
        import sys
        from pathlib import Path
        from dix.files import write_atomic
        for i in range(10**9):
            write_atomic(Path(sys.argv[1]), f"{i % 10}" * 300_000)
    """
    path = tmp_path / "file"
    for pause in (0.0, 0.01, 0.023):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(path)])
        while not path.exists():
            time.sleep(0.005)
        time.sleep(pause)
        for _ in range(50):
            text = path.read_text()
            assert len(text) == 300_000
            assert len(set(text)) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert len(set(path.read_text())) == 1
        path.unlink()


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic(path) as first, atomic(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
