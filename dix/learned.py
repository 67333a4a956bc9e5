"""What a method has learnt from training data: a file of tensors, known by its content.

Learning is no part of a run. It is done once, by a script of the method's author, on images that are not scored; what
comes of it lies in a file, and the method's configuration says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from safetensors.torch import load
from torch import Tensor


@dataclass(frozen=True)
class Learned:
    """Tensors in a .safetensors file.

    sha256: the file's digest, which rows carry, so that scores of another training are never mixed with them. path:
    where it lies, as seen from the current folder; that may change.

    Raises ValueError where the file is not there, or is another one; the message says what its digest is.
    """

    version: ClassVar[int] = 1
    sha256: str
    path: str = field(metadata={"summary_only": True})

    def __post_init__(self) -> None:
        self.tensors()

    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name, on the CPU; read once, and to be left as they are."""
        return _read(str(Path(self.path).expanduser().absolute()), self.sha256)


@lru_cache(maxsize=8)
def _read(path: str, sha256: str) -> Mapping[str, Tensor]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"path: {path} cannot be read ({error.strerror}); the method's training writes it") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"sha256: {path} has {digest}, expected {sha256 or 'its digest here'}")
    try:
        return MappingProxyType(load(content))
    except Exception as error:
        raise ValueError(f"path: {path} is no file of tensors ({error})") from error
