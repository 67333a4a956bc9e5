"""What a method has learnt is known by its content, wherever it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dix.identity import describe
from dix.learned import Learned


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"weight": torch.arange(3.0)}, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_tensors_are_read_and_rows_know_the_content_alone(file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    first = Learned(digest, str(file))
    assert torch.equal(first.tensors()["weight"], torch.arange(3.0))
    moved = file.rename(file.with_name("moved.safetensors"))
    assert describe(Learned(digest, str(moved))) == describe(first)
    assert digest in describe(first).values()


@pytest.mark.parametrize("sha256", ["", "0" * 64])
def test_another_file_is_refused_with_its_digest(sha256: str, file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"sha256: .*mine.safetensors has {digest}, expected"):
        Learned(sha256, str(file))


def test_a_file_that_is_not_there_or_holds_no_tensors_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: .*gone.safetensors cannot be read \(No such file"):
        Learned("0", str(tmp_path / "gone.safetensors"))
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match="text is no file of tensors"):
        Learned(hashlib.sha256(b"no tensors").hexdigest(), str(tmp_path / "text"))
