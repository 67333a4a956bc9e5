"""Random numbers that depend on what they are for, never on when they are drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*key: object) -> int:
    """A seed below 2**63 that is a hash of `key`, say (seed, data set, image id, purpose)."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*key: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of `key`."""
    return torch.Generator().manual_seed(seed_of(*key))


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Lend the shared random number generators, seeded, to code that uses them against the rules; then put them back.

    So such code draws the same numbers whatever ran before it, and nobody else notices.
    """
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
