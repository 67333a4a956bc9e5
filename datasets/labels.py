"""Class indices of images: from synset names, a label file, or ImageNet's devkit; and which image a line means."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dix.datasets.images import is_image, without_suffix
from dix.datasets.packages import package_file
from dix.datasets.text import read_lines, text_id

#: Prints [[ILSVRC2012_ID, synset], ...] of the file that is its argument.
_READ_META = """
import json, sys
from scipy.io import loadmat
table = loadmat(sys.argv[1], squeeze_me=True)["synsets"]
print(json.dumps([(int(row["ILSVRC2012_ID"]), str(row["WNID"])) for row in table.ravel()]))
"""
_PATIENCE = 300  #: seconds; the devkit's file takes one
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")
_LINE = re.compile(r"(.+?)[\s,;]+([0-9]{1,9})", re.DOTALL)


@cache
def synset_indices() -> Mapping[str, int]:
    """Class index 0-999 of each ILSVRC-2012 synset, in the order of the names (as every published model has it)."""
    text = package_file("timm", "data", "_info", "imagenet_synsets.txt").read_text(encoding="utf-8")
    return {name: index for index, name in enumerate(text.split())}


def read_label_file(path: Path) -> dict[str, int]:
    """Labels by image name as written, with its folders, from lines "name index".

    Raises ValueError that names the file and the line.
    """
    labels: dict[str, int] = {}
    for number, line in read_lines(path):
        name, index = _label_line(line, f"{path.name}, line {number}")
        if name in labels:
            raise ValueError(f"{path.name}, line {number}: the image id {name!r} appears more than once")
        labels[name] = index
    return labels


def _label_line(line: str, where: str) -> tuple[str, int]:
    found = _LINE.fullmatch(line)
    if found is None or int(found[2]) > 999:
        raise ValueError(f"{where}: expected 'name index' with an index of 0 to 999, got {line!r}")
    name = found[1]
    quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return (name[1:-1] if quoted else name).removeprefix("./"), int(found[2])


@dataclass(frozen=True)
class Matched:
    """labels: by path. unmatched: names in the label file that no image has."""

    labels: Mapping[str, int]
    unmatched: Sequence[str]


def match(named: Mapping[str, int], paths: Sequence[str], source: str) -> Matched:
    """Give every image the label of the one line that means it.

    A line means the image of exactly its path; or, where it has no folder, the only image of its name anywhere; or,
    where it has no suffix, the only image that is called so but for its suffix. named: labels by name as written.
    paths: of all images. source: what messages call the list. Raises ValueError where a line may mean two images, or
    two lines mean the same.
    """
    places = _Places.of(paths if named else ())
    labels: dict[str, int] = {}
    meant: dict[str, str] = {}
    unmatched = []
    for name, label in named.items():
        path = places.of_name(name, source)
        if path is None:
            unmatched.append(name)
        elif path in labels:
            raise ValueError(f"{source}: {meant[path]!r} and {name!r} are the same image, {text_id(path)!r}")
        else:
            labels[path], meant[path] = label, name
    return Matched(labels, unmatched)


@dataclass(frozen=True)
class _Places:
    """Paths by what a line may call them."""

    whole: Mapping[str, list[str]]
    base: Mapping[str, list[str]]
    stem: Mapping[str, list[str]]
    base_stem: Mapping[str, list[str]]

    @staticmethod
    def of(paths: Sequence[str]) -> _Places:
        stems = [(without_suffix(path), path) for path in paths]
        return _Places(
            _grouped((name, path) for path in paths for name in {path, text_id(path)}),
            _grouped((path.rsplit("/", 1)[-1], path) for path in paths),
            _grouped(stems),
            _grouped((name.rsplit("/", 1)[-1], path) for name, path in stems),
        )

    def of_name(self, name: str, source: str) -> str | None:
        """The one path that a line means, or None."""
        ways = [self.whole] if "/" in name else [self.whole, self.base]
        if not is_image(name):
            ways += [self.stem] if "/" in name else [self.stem, self.base_stem]
        for way in ways:
            found = way.get(name, [])
            if len(found) > 1:
                raise ValueError(
                    f"{source}: {name!r} may be {text_id(found[0])!r} or {text_id(found[1])!r}; write the whole path"
                )
            if found:
                return found[0]
        return None


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, path in pairs:
        groups[key].append(path)
    return groups


def read_devkit(truth: Path, meta: Path) -> dict[int, int]:
    """Class index by number of the validation image (1 to 50,000).

    truth: one ILSVRC2012_ID a line. meta: the devkit's meta.mat, which maps that id to a synset.
    Raises ValueError that names the file.
    """
    synsets = _devkit_synsets(meta)
    labels = {}
    for number, (line_number, line) in enumerate(read_lines(truth), 1):
        if number != line_number or not re.fullmatch("[0-9]{1,9}", line) or int(line) not in synsets:
            raise ValueError(f"{truth.name}, line {number}: expected an ILSVRC2012_ID of {meta.name}, got {line!r}")
        labels[number] = synset_indices()[synsets[int(line)]]
    return labels


def _devkit_synsets(meta: Path) -> dict[int, str]:
    """Synset by ILSVRC2012_ID, of the classes that have images.

    SciPy's reader of MATLAB files can crash on a damaged one, so it reads in a process of its own.
    """
    command = [sys.executable, "-P", "-c", _READ_META, str(meta)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE)
        pairs = [(int(number), str(name)) for number, name in json.loads(run.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        said = (getattr(error, "stderr", None) or f"its reader ended with {type(error).__name__}").strip()
        raise ValueError(f"{meta.name}: not the devkit's meta.mat: {said.splitlines()[-1]}") from error
    pairs = [(number, name) for number, name in pairs if name in synset_indices()]
    if len({number for number, _ in pairs}) < len(pairs):
        raise ValueError(f"{meta.name}: an ILSVRC2012_ID stands for two synsets")
    return dict(pairs)


def image_number(name: str) -> int | None:
    """The number in ILSVRC2012_val_00000001.JPEG and its like, or None."""
    found = _NUMBER.search(name)
    return int(found.group(1)) if found else None
