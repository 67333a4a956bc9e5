"""What a log says of a run: something at once, then how far it is, within batches too."""

from __future__ import annotations

import pytest

from dix.cli import progress


def test_a_log_has_a_line_at_once_and_then_every_so_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = iter([0.0, 0.5, 10.0, 40.0, 50.0, 51.0])
    show = progress._lines("a job", lambda: next(clock))
    for done in (2.0, 2.25, 2.5, 4, 4):  # a batch ends, and then the job
        show(done, 4)
    assert capsys.readouterr().err.splitlines() == [
        "dix: a job: 4 batches",
        "dix: a job: 62% of 4 batches, 40 s, about 120 s left",
        "dix: a job: 100% of 4 batches, 50 s",
    ]
