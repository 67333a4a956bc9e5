"""The embedded photos: files, labels and the outlines drawn for them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.draw import polygon2mask
from skimage.metrics import structural_similarity

from dix.datasets import packages
from dix.datasets.api import Dataset, MissingData
from dix.datasets.masks import rasterise
from dix.datasets.photos import Photos

PHOTOS = Photos()
INDICES = range(25)


def test_is_a_data_set_of_twenty_five_photos_in_a_stable_order() -> None:
    assert isinstance(PHOTOS, Dataset)
    assert len(PHOTOS.ids) == len(set(PHOTOS.ids)) == 25
    assert PHOTOS.ids[0] == "imagenet_00_243.jpg"
    assert PHOTOS.ids[-1] == "quokka.jpg"


def test_labels_are_those_in_the_file_names_and_every_class_has_a_name() -> None:
    labels = dict(zip(PHOTOS.ids, PHOTOS.labels, strict=True))
    for name, label in labels.items():
        if name.startswith("imagenet_"):
            assert label == int(Path(name).stem.split("_")[2])
    assert labels["quokka.jpg"] is None
    assert set(PHOTOS.class_names) == {label for label in labels.values() if label is not None}


@pytest.mark.parametrize("index", INDICES)
def test_every_outline_lies_inside_its_photo_and_marks_a_plausible_share(index: int) -> None:
    record = PHOTOS.read(index)
    polygons, holes = PHOTOS.outlines(index)
    assert polygons
    for outline in (*polygons, *holes):
        points = np.asarray(outline, dtype=float)
        assert len(points) >= 3
        assert points.min() >= 0
        assert (points < [record.image.width, record.image.height]).all()
    assert record.mask is not None
    assert record.mask.dtype == np.int8
    assert record.mask.shape == (record.image.height, record.image.width)
    assert set(np.unique(record.mask)) == {0, 1}
    assert 0.015 < record.mask.mean() < 0.9


def colour_gap(colours: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> float:
    """Total variation distance between the colour histograms of two regions; 0 alike, 1 disjoint."""
    shares = [np.bincount(colours[region], minlength=512) / max(region.sum(), 1) for region in (inside, outside)]
    return float(abs(shares[0] - shares[1]).sum() / 2)


def shifted(region: np.ndarray, down: int, right: int) -> np.ndarray:
    padded = np.pad(region, 20)
    height, width = region.shape
    return padded[20 - down : 20 - down + height, 20 - right : 20 - right + width]


@pytest.mark.parametrize("index", INDICES)
def test_the_outline_parts_colours_better_than_the_same_outline_moved(index: int) -> None:
    """The 12 pixels inside the outline differ from the 12 outside, at its place more than 20 pixels beside it."""
    record = PHOTOS.read(index)
    assert record.mask is not None
    mask = record.mask.astype(bool)
    bins = np.asarray(record.image).astype(int) // 32
    colours = bins[..., 0] * 64 + bins[..., 1] * 8 + bins[..., 2]
    inside = mask & ~binary_erosion(mask, iterations=12, border_value=1)
    outside = binary_dilation(mask, iterations=12) & ~mask
    here = colour_gap(colours, inside, outside)
    moves = ((20, 0), (-20, 0), (0, 20), (0, -20))
    beside = [colour_gap(colours, shifted(inside, *move), shifted(outside, *move)) for move in moves]
    assert here > 1.3 * np.mean(beside)


def test_rasterising_agrees_with_scikit_image_up_to_the_border_and_cuts_holes() -> None:
    outline = [[5.0, 3.0], [40.0, 8.0], [33.0, 30.0], [12.0, 25.0]]
    ours = rasterise((50, 40), [outline])
    theirs = polygon2mask((40, 50), [[y, x] for x, y in outline])
    assert (ours.astype(bool) & theirs).sum() == theirs.sum()
    assert (ours.astype(bool) != theirs).sum() < 80  # Pillow also fills the pixels that the line itself touches
    hole = [[15, 12], [20, 12], [20, 17], [15, 17]]
    cut = rasterise((50, 40), [outline], [hole])
    assert cut[12:18, 15:21].sum() == 0
    assert ours.sum() - cut.sum() == 36


def test_the_quokka_outline_is_the_polygon_that_imgaug_ships() -> None:
    imgaug = importlib.util.find_spec("imgaug")
    assert imgaug is not None
    assert imgaug.origin is not None
    notes = json.loads((Path(imgaug.origin).parent / "quokka_annotations.json").read_text())
    points = [[p["x"], p["y"]] for p in notes["polygons"][0]["keypoints"]]
    assert PHOTOS.outlines(24)[0] == [points]
    mask = PHOTOS.read(24).mask
    assert mask is not None
    assert mask.mean() == pytest.approx(0.303, abs=0.002)


def test_photos_show_different_pictures() -> None:
    first, second = (np.asarray(PHOTOS.read(i).image.convert("L").resize((64, 64))) for i in (0, 1))
    assert structural_similarity(first, second) < 0.5


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingData, match=r"'foolbox' is not installed.*dix data prepare embedded"):
        Photos().read(0)


def test_a_package_without_the_file_is_named() -> None:
    with pytest.raises(MissingData, match=r"'numpy' lacks data/none.jpg"):
        packages.package_file("numpy", "data", "none.jpg")


def test_no_package_is_imported_to_find_its_photos() -> None:
    code = (
        "import sys; from dix.datasets.photos import Photos; p = Photos(); [p.read(i) for i in (0, 20, 24)];"
        "print(sorted({'foolbox', 'skimage', 'imgaug', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_content_changes_with_an_outline_and_with_nothing_else_of_another_photo() -> None:
    before = [Photos().content(index) for index in (0, 1)]
    changed = Photos()
    changed.__dict__["_outlines"] = {**changed._outlines, Photos().ids[0]: {}}
    assert changed.content(0) != before[0]
    assert changed.content(1) == before[1]
    assert changed.fingerprint() == Photos().fingerprint()
