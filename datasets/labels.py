"""ImageNet's class indices: from synset names, a label file, or the devkit's ground truth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dix.datasets.packages import package_file

_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


@cache
def synset_indices() -> Mapping[str, int]:
    """Class index 0-999 of each ILSVRC-2012 synset, in the order of the names (as every published model has it)."""
    text = package_file("timm", "data", "_info", "imagenet_synsets.txt").read_text(encoding="utf-8")
    return {name: index for index, name in enumerate(text.split())}


def read_label_file(path: Path) -> dict[str, int]:
    """Labels by image name, from lines "name index".

    Names may carry folders, which are dropped. Raises ValueError that names the file and the line.
    """
    labels: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, index = _label_line(line, f"{path.name}, line {number}")
        if name in labels:
            raise ValueError(f"{path.name}, line {number}: the image id {name!r} appears more than once")
        labels[name] = index
    return labels


def _label_line(line: str, where: str) -> tuple[str, int]:
    name, _, index = line.strip().replace(",", " ").rpartition(" ")
    if not name.strip() or not index.isdigit() or int(index) > 999:
        raise ValueError(f"{where}: expected 'name index' with an index of 0 to 999, got {line.strip()!r}")
    return name.strip().rsplit("/", 1)[-1], int(index)


def read_devkit(truth: Path, meta: Path) -> dict[int, int]:
    """Class index by number of the validation image (1 to 50,000).

    truth: one ILSVRC2012_ID a line. meta: the devkit's meta.mat, which maps that id to a synset.
    Raises ValueError that names the file.
    """
    synsets = _devkit_synsets(meta)
    labels = {}
    for number, line in enumerate(truth.read_text(encoding="utf-8").split(), 1):
        if not line.isdigit() or int(line) not in synsets:
            raise ValueError(f"{truth.name}, line {number}: expected an ILSVRC2012_ID of {meta.name}, got {line!r}")
        labels[number] = synset_indices()[synsets[int(line)]]
    return labels


def _devkit_synsets(meta: Path) -> dict[int, str]:
    """Synset by ILSVRC2012_ID, of the classes that have images."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        table = loadmat(meta, squeeze_me=True)["synsets"]
        pairs = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table.ravel()}
    except (MatReadError, KeyError, ValueError, OSError, IndexError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{meta.name}: not the devkit's meta.mat: {error}") from error
    return {number: name for number, name in pairs.items() if name in synset_indices()}


def image_number(name: str) -> int | None:
    """The number in ILSVRC2012_val_00000001.JPEG and its like, or None."""
    found = _NUMBER.search(name)
    return int(found.group(1)) if found else None
