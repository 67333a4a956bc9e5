"""Mosaics: which images stand where, under which label and mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from dix.datasets.api import VOID, Dataset, Record
from dix.datasets.mosaic import Mosaic


@dataclass(frozen=True)
class Plain:
    """Images of one colour each, 6 x 4 pixels: red is the position; the left half of a mask is object, row 0 void."""

    labels: Sequence[int | None] = (0, 1, 2, 3, 3, None, 1)
    name: str = "plain"
    label_space: str | None = "own"
    class_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def ids(self) -> Sequence[str]:
        return tuple(f"image{index}" for index in range(len(self.labels)))

    def read(self, index: int) -> Record:
        mask = np.zeros((4, 6), np.int8)
        mask[:, :3] = 1
        mask[0] = VOID
        image = Image.new("RGB", (6, 4), (10 * index, 0, 0))
        return Record(self.ids[index], image, self.labels[index], mask if index else None)

    def fingerprint(self) -> str:
        return str(self.labels)


MOSAIC = Mosaic(Plain(), side=8)


def shown(record: Record) -> list[int]:
    """Which images the four cells show, by their colour, which is one in the whole cell."""
    red = np.asarray(record.image)[:, :, 0]
    cells = [red[8 * r : 8 * r + 8, 8 * c : 8 * c + 8] for r in range(2) for c in range(2)]
    assert all(cell.min() == cell.max() for cell in cells)
    return [int(cell[0, 0]) // 10 for cell in cells]


def test_every_labelled_image_has_one_mosaic_under_its_own_label() -> None:
    assert isinstance(MOSAIC, Dataset)
    assert MOSAIC.ids == ("image0", "image1", "image2", "image3", "image4", "image6")
    assert MOSAIC.labels == (0, 1, 2, 3, 3, 1)
    assert [(each.name, each.reason) for each in MOSAIC.left_out] == [("image5", "no label")]


def test_a_mosaic_shows_its_image_in_turn_in_every_cell_and_three_of_other_classes() -> None:
    for index, own in enumerate([0, 1, 2, 3, 4, 6]):
        record = MOSAIC.read(index)
        cells = shown(record)
        assert record.image.size == (16, 16)
        assert cells == list(MOSAIC.cells(index))
        assert cells[index % 4] == own
        assert sorted({Plain().labels[cell] for cell in cells}) == [0, 1, 2, 3]  # type: ignore[type-var]
        assert record.label == Plain().labels[own]


def test_the_mask_is_the_labelled_images_own_in_its_cell_and_background_elsewhere() -> None:
    mask = MOSAIC.read(2).mask  # the third image, in the third cell: rows 8 to 15, columns 0 to 7
    expected = np.zeros((16, 16), np.int8)
    expected[8:, :4] = 1  # three of six columns are four of eight
    expected[8:10, :8] = VOID  # one of four rows is two of eight
    assert mask is not None
    assert (mask == expected).all()
    assert MOSAIC.read(0).mask is None


def test_the_draw_is_the_seeds_and_every_image_is_drawn_somewhere() -> None:
    many = Plain(labels=tuple(range(30)))
    first, again, other = (Mosaic(many, seed=seed) for seed in (0, 0, 1))
    cells = [first.cells(index) for index in range(30)]
    assert cells == [again.cells(index) for index in range(30)]
    assert cells != [other.cells(index) for index in range(30)]
    assert len({cell for own, each in enumerate(cells) for cell in each if cell != own}) > 25  # of 90 draws of 30


def test_content_and_fingerprint_tell_a_changed_neighbour_and_layout_apart() -> None:
    @dataclass(frozen=True)
    class Repainted(Plain):
        def read(self, index: int) -> Record:
            record = super().read(index)
            image = Image.new("RGB", (6, 4), (255, 0, 0)) if index == 2 else record.image
            return Record(record.id, image, record.label, record.mask)

    for index in range(6):
        assert MOSAIC.content(index) == MOSAIC.read(index).content
        changed = Mosaic(Repainted(), side=8).content(index) != MOSAIC.content(index)
        assert changed == (2 in MOSAIC.cells(index))
    assert len({Mosaic(Plain(), **one).fingerprint() for one in ({}, {"seed": 1}, {"side": 9}, {"grid": 1})}) == 4


def test_too_few_classes_and_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="3 x 3 cells need 9 classes, and plain has 4"):
        Mosaic(Plain(), grid=3).cells(0)
    with pytest.raises(ValueError, match="expected grid and side of at least 1, got 0 and 224"):
        Mosaic(Plain(), grid=0)
