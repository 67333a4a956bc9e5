"""One row for each cell and image, whichever rows are stored.

Two processes may store the same image twice; mostly the rows are equal. Where they differ, the one that comes first
counts, in an order that looks at no score, so that no mean is biased: rows without a usable number come last, before
them those that do not say what computed them; then a hash of the row's origin decides, so that one run's rows win for
all images of a cell; then a hash of the whole row. The order knows neither files nor time: it is the same before and
after parts are put together or folders merged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from dix.bench.store.columns import codes, row_keys

#: Largest difference that counts as equal: absolute, in the metric's own unit (points of a percentage, mostly), plus a
#: share of the stored number. One image's NEG moves by 5 or 10 points when a single prediction changes.
ABSOLUTE, RELATIVE = 1e-3, 1e-5
#: No score is larger.
ABSURD = 1e9
#: Conflicts that are described.
SHOWN = 5
#: Texts that belong to a row's own finding.
_FINDINGS = ("reason", "note", "content", "origin")


@dataclass
class Conflicts:
    """Images of a cell with rows that contradict each other.

    count: by cell digest, images with such rows. examples: some of them, in words.
    """

    count: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Images with contradicting rows, over all cells."""
        return sum(self.count.values())

    def add(self, other: Conflicts) -> None:
        """Take in those of another group."""
        self.count |= other.count
        self.examples = (self.examples + other.examples)[:SHOWN]


def settled(table: pa.Table) -> tuple[pa.Table, Conflicts]:
    """One row for each (cell, image), sorted by both, and where rows contradicted each other."""
    keys = row_keys(table)
    order = np.argsort(keys, kind="stable")
    if not len(keys) or np.diff(keys[order]).all():
        return table.take(order), Conflicts()
    twice = np.flatnonzero(_repeated(keys, order))
    few = table.take(twice)
    nameless = _texts(few, "origin") == ""
    ranked = np.lexsort((fingerprints(few), _hashes(few, "origin"), nameless, ~usable(few), keys[twice]))
    first = np.append(True, np.diff(keys[twice][ranked]) != 0)
    once = order[~_repeated(keys, order)[order]]
    kept = np.concatenate([once, twice[ranked[first]]])
    winners = ranked[first][np.cumsum(first) - 1]
    conflicts = _conflicts(few.take(winners), few.take(ranked))
    return table.take(kept[np.argsort(keys[kept], kind="stable")]), conflicts


def _repeated(keys: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[n] True for rows whose key another row has too."""
    fresh = np.diff(keys[order]) != 0
    same = ~(np.append(True, fresh) & np.append(fresh, True))
    found = np.empty(len(keys), dtype=bool)
    found[order] = same
    return found


def usable(table: pa.Table) -> np.ndarray:
    """[n] True for rows that say something: a number of a possible size, or none and the reason why."""
    value = table["value"].to_numpy()
    return np.where(np.isnan(value), _texts(table, "reason") != "", np.abs(value) <= ABSURD)


def differ(first: pa.Table, second: pa.Table) -> np.ndarray:
    """[n] True where two rows of the same place contradict each other beyond the tolerance."""
    found = ~_close(first["value"].to_numpy(), second["value"].to_numpy())
    for name in ("parts", "curve"):
        found |= _lists_differ(first[name].combine_chunks(), second[name].combine_chunks())
    found |= _texts(first, "reason") != _texts(second, "reason")
    own, strange = _texts(first, "content"), _texts(second, "content")
    return found | ((own != strange) & (own != "") & (strange != ""))


def _texts(table: pa.Table, name: str) -> np.ndarray:
    """A column of texts: [n]."""
    numbers, texts = codes(table, name)
    return texts[numbers] if len(texts) else np.zeros(len(numbers), dtype=object)


def _close(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.isclose(second, first, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)


def _lists_differ(first: pa.ListArray, second: pa.ListArray) -> np.ndarray:
    """[n] True where two lists of numbers have other lengths, or numbers that are not close."""
    lengths = [np.diff(lists.offsets.to_numpy()) for lists in (first, second)]
    found = lengths[0] != lengths[1]
    same = pa.array(~found)
    flat = [lists.filter(same).flatten().to_numpy(zero_copy_only=False) for lists in (first, second)]
    places = np.repeat(np.flatnonzero(~found), lengths[0][~found])
    found[places[~_close(*flat)]] = True
    return found


def _conflicts(winners: pa.Table, rows: pa.Table) -> Conflicts:
    """Which images have rows that contradict the one that counts."""
    wrong = np.flatnonzero(differ(winners, rows))
    cells, images = _texts(rows, "cell"), _texts(rows, "image")
    pairs = dict.fromkeys(zip(cells[wrong].tolist(), images[wrong].tolist(), strict=True))
    found = Conflicts()
    for cell, _ in pairs:
        found.count[cell] = found.count.get(cell, 0) + 1
    value = (winners["value"].to_numpy(), rows["value"].to_numpy())
    for i in wrong[:SHOWN]:
        found.examples.append(f"{images[i]}: {value[0][i]:.6g} counts, {value[1][i]:.6g} does not")
    return found


def fingerprints(table: pa.Table) -> np.ndarray:
    """A number for each row from all that it found: [n] uint64, the same wherever the row is stored."""
    found = _mixed(table["value"].to_numpy().view(np.uint64))
    for name in ("parts", "curve"):
        found = _mixed(found ^ _of_lists(table[name].combine_chunks()))
    for name in _FINDINGS:
        found = _mixed(found ^ _hashes(table, name))
    return found


def _hashes(table: pa.Table, name: str) -> np.ndarray:
    """A hash of each row's text: [n] uint64."""
    numbers, texts = codes(table, name)
    used, places = np.unique(numbers, return_inverse=True)
    digests = [hashlib.blake2b(texts[i].encode(), digest_size=8).digest() for i in used]
    return np.frombuffer(b"".join(digests), dtype="<u8")[places] if digests else np.zeros(0, dtype=np.uint64)


def _of_lists(lists: pa.ListArray) -> np.ndarray:
    """A hash of each list of numbers, with their order: [n] uint64."""
    ends = lists.offsets.to_numpy()
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).view(np.uint64)
    starts = np.repeat(ends[:-1], np.diff(ends)).astype(np.uint64)
    place = np.arange(len(flat), dtype=np.uint64) + np.uint64(ends[0]) - starts
    sums = np.append(np.uint64(0), np.cumsum(_mixed(flat ^ _mixed(place)), dtype=np.uint64))
    return _mixed(sums[ends[1:] - ends[0]] - sums[ends[:-1] - ends[0]] + np.diff(ends).astype(np.uint64))


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Every bit of 64-bit numbers spread over all bits (splitmix64, Steele et al. 2014)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
