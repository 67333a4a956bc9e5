"""Subsets: chosen without decoding, deterministic, with clear refusals; and every configuration file builds."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from dix.datasets.api import Dataset, Record
from dix.datasets.mnist import Mnist
from dix.datasets.photos import Photos
from dix.datasets.subset import Listed, OfClasses, RandomSample, Subset, select
from dix.datasets.voc import Voc

CONF = Path(__file__).parents[1] / "conf" / "dataset"


class Undecoded:
    """A data set that fails the test when an image is read."""

    name = "undecoded"
    label_space = "imagenet"
    ids = tuple(f"image{n:03d}" for n in range(200))
    labels = tuple(n % 7 for n in range(200))
    class_names: ClassVar[dict[int, str]] = {}

    def read(self, index: int) -> Record:
        raise AssertionError("a subset must not decode")

    def fingerprint(self) -> str:
        return "print"


def test_a_random_subset_is_the_smallest_hashes_in_the_data_sets_order() -> None:
    data = Undecoded()
    part = select(data, "random:20:3")
    assert isinstance(part, Dataset)
    key = {name: hashlib.sha256(f"3\tundecoded\t{name}".encode()).digest() for name in data.ids}
    assert set(part.ids) == set(sorted(data.ids, key=key.__getitem__)[:20])
    assert list(part.ids) == sorted(part.ids)
    assert set(part.ids) <= set(select(data, "random:50:3").ids)
    assert part.ids != select(data, "random:20:4").ids
    assert select(data, "random:20").ids == Subset(data, RandomSample(20, 0)).ids


def test_a_listed_subset_keeps_the_files_order(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# mine\nimage005\n\nimage001\n")
    assert select(Undecoded(), f"file:{path}").ids == ("image005", "image001")
    path.write_text("image005\nimage999\n")
    with pytest.raises(ValueError, match=r"ids\.txt lists 'image999', which undecoded does not have"):
        _ = select(Undecoded(), f"file:{path}").ids
    path.write_text("image005\nimage005\n")
    with pytest.raises(ValueError, match=r"ids\.txt lists an id more than once"):
        _ = select(Undecoded(), Listed(str(path))).ids
    with pytest.raises(ValueError, match=r"expected a text file of ids, got '.*none\.txt'"):
        _ = select(Undecoded(), f"file:{tmp_path / 'none.txt'}").ids


def test_a_class_subset_has_exactly_the_images_of_its_classes() -> None:
    part = Subset(Undecoded(), OfClasses((2, 5)))
    assert part.labels == tuple(n % 7 for n in range(200) if n % 7 in (2, 5))
    assert select(Undecoded(), "classes:2,5").ids == part.ids
    with pytest.raises(ValueError, match="undecoded has no image of class 8"):
        _ = select(Undecoded(), "classes:8").ids
    data = Undecoded()
    data.name, data.labels = "plain", (None,) * 200  # type: ignore[assignment]
    with pytest.raises(ValueError, match="expected a data set with labels, got plain, which has none"):
        _ = select(data, "classes:1").ids


def test_a_subset_reads_the_right_images_and_keeps_the_identity_of_scores() -> None:
    photos = Photos()
    part = select(photos, "classes:609,282")
    assert [part.read(i).id for i in range(len(part.ids))] == list(part.ids)
    assert sorted(part.ids) == ["chelsea.png", "imagenet_06_609.jpg", "imagenet_07_609.jpg"]
    assert part.read(0).label == 609
    assert part.fingerprint() == photos.fingerprint()
    assert (part.name, part.label_space) == ("photos", "imagenet")
    assert select(photos) is photos


@pytest.mark.parametrize("text", ["first:3", "random:many", "classes:dog", "12"])
def test_another_form_is_refused_with_the_forms_that_exist(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"dataset\.subset: expected file:PATH, random:COUNT\[:SEED\] or classes:1,2,3"
    ):
        select(Undecoded(), text)


def test_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 to 200 images of undecoded, got 201"):
        _ = select(Undecoded(), "random:201").ids


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_file_is_a_reader_of_its_own_name(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    assert settings.pop("subset") is None  # a setting of the job, applied to any reader
    module, _, name = settings.pop("_target_").rpartition(".")
    reader = getattr(importlib.import_module(module), name)(**settings)
    assert reader.name == path.stem


def test_defaults_of_the_configuration_are_those_of_the_readers() -> None:
    def settings(name: str) -> dict[str, object]:
        found = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        return {key: value for key, value in found.items() if key not in ("_target_", "subset")}

    assert Voc(**settings("voc")) == Voc()  # type: ignore[arg-type]
    assert Mnist(**settings("mnist")) == Mnist()  # type: ignore[arg-type]
