"""The kept pictures of a results folder, as small as a page needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from dix.bench.report.html import GalleryItem
from dix.bench.tables import samples
from dix.bench.tables.samples import Block
from dix.bench.tables.table import Evidence, Table
from dix.cli.words import first_line
from dix.pictures import overlay, webp_bytes, without_peaks

#: Most bytes of pictures in a page.
PAGE = 6_000_000
#: Most pixels of a picture; kept pictures have the side of a network's input.
LARGEST = 4096**2


def gallery_of(folder: Path, table: Table, evidence: Evidence) -> list[GalleryItem]:
    """The kept pictures: each photo with its maps and its own scores; as many as fit into a page of `PAGE` bytes.

    Every model and data set shows its first pictures before any shows its next.
    """
    groups: dict[str, list[Path]] = {}
    for about in sorted((folder / "images").glob("*/*/about.json")):
        if {path.name for path in about.parent.glob("*.png")} == {"photo.png"}:
            continue  # only numbers of its maps are kept (`run.maps`)
        groups.setdefault(about.parent.parent.name, []).append(about)
    order = [(place, group) for group, files in groups.items() for place in range(len(files))]
    items, left = {}, PAGE
    for place, group in sorted(order):
        item = _readable_item(groups[group][place].parent, table, evidence)
        if item is None:
            continue
        left -= sum(map(len, (item.photo_png, *item.overlays.values())))
        if left < 0:
            break
        items[group, place] = item
    return [items[key] for key in sorted(items)]


def _readable_item(folder: Path, table: Table, evidence: Evidence) -> GalleryItem | None:
    """A kept picture; None, with a line that says so, where a file is damaged, or a link to some other picture."""
    try:
        if any(path.is_symlink() for path in (folder.parent.parent, folder.parent, folder, *folder.iterdir())):
            raise ValueError("it holds a link")
        return _gallery_item(folder, table, evidence)
    except (OSError, ValueError, LookupError, TypeError, Image.DecompressionBombError) as error:
        print(f"left out of the page: the picture in {folder}: {first_line(error)}")
        return None


def _gallery_item(folder: Path, table: Table, evidence: Evidence) -> GalleryItem:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    model, dataset, protocol = (str(about[name]) for name in ("model", "dataset", "protocol"))
    photo = _pixels(folder / "photo.png")
    maps = {path.stem: _pixels(path) for path in folder.glob("*.png") if path.stem != "photo"}
    order = list(dict.fromkeys([*table.labels.methods, *table.layout.methods, *sorted(maps)]))
    scores = samples.scores_of(evidence.rows, Block(protocol, dataset, model), about["image"])
    return GalleryItem(
        image_id=f"{about['image']} \u00b7 {table.labels.model(model)}",
        label=f"explained: {about['explained']}, p = {about['probability']:.2f}",
        photo_png=webp_bytes(np.rint(255 * photo).astype(np.uint8)),
        overlays={name: webp_bytes(overlay(photo, without_peaks(maps[name]))) for name in order if name in maps},
        scores={name: _ordered(scores[name], table) for name in order if name in scores},
    )


def _ordered(scores: Mapping[str, float], table: Table) -> dict[str, float]:
    return {name: scores[name] for name in table.layout.metrics if name in scores}


def _pixels(path: Path) -> np.ndarray:
    """A picture in [0, 1]."""
    with Image.open(path) as image:
        if image.width * image.height > LARGEST:
            raise ValueError(f"{path.name} has {image.width} x {image.height} pixels")
        return np.asarray(image, dtype=float) / 255
