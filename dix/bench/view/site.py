"""Every file of the site by its address: the server answers with it, and a bundle is all of them written down.

index.html, view.css, view.js
data/index.json                     the groups: methods, metrics, means
data/G/images.json                  the ids of group G's images
data/G/M.f32                        metric M: [methods, images] as 32-bit floats, lowest byte first, NaN for no score
data/G/rows/C.json                  curves and reasons of the C-th CHUNK images
data/G/pictures.json                which images have pictures, and what is said of them
data/G/I/photo.webp, thumb.webp, fill.png, heat-K.webp, order-K.png      the I-th image; K-th method
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dix.bench.store.results import ResultStore
from dix.bench.view import pictures
from dix.bench.view.pictures import Kept, Unshown
from dix.bench.view.scores import Scores

FOLDER = Path(__file__).parent / "templates"
#: The report's style is the site's, too, and how wide tables show that they go on.
REPORT = Path(__file__).parents[1] / "report" / "templates"
#: Images whose curves are in one file.
CHUNK = 64
KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "f32": "application/octet-stream",
    "webp": "image/webp",
    "png": "image/png",
}
#: What the page may do: load its own parts from where it came from, and nothing else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_PAGES = ("index.html", "view.css", "view.js")
_DATA = re.compile(
    r"data/(?P<group>\d{1,6})/(?P<file>images\.json|pictures\.json|\d{1,6}\.f32|rows/\d{1,9}\.json"
    r"|\d{1,9}/(photo\.webp|thumb\.webp|fill\.png|heat-\d{1,6}\.webp|order-\d{1,6}\.png))",
    re.ASCII,
)


class Site:
    """The site of some results folders. with_pictures: whether photos and maps are part of it."""

    def __init__(self, folders: Sequence[Path], with_pictures: bool = True) -> None:
        stores = [(folder, ResultStore(folder)) for folder in folders]
        self.rooms = [
            Room(folder, Scores(store, group), with_pictures) for folder, store in stores for group in store.groups()
        ]
        self._lock = threading.Lock()

    def content(self, path: str) -> bytes | None:
        """What an address holds; None where there is nothing. One at a time, so that memory stays small."""
        if path in _PAGES:
            shared = {"view.css": "report.css", "view.js": "wide.js"}.get(path)
            return ((REPORT / shared).read_bytes() if shared else b"") + (FOLDER / path).read_bytes()
        found = _DATA.fullmatch(path)
        with self._lock:
            if path == "data/index.json":
                return _json([room.about() for room in self.rooms])
            if found is None or int(found["group"]) >= len(self.rooms):
                return None
            return self.rooms[int(found["group"])].content(found["file"])

    def addresses(self) -> Iterator[str]:
        """Every address that holds something."""
        yield from (*_PAGES, "data/index.json")
        for number, room in enumerate(self.rooms):
            yield from (f"data/{number}/{file}" for file in room.files())


class Room:
    """One group of a results folder."""

    def __init__(self, folder: Path, scores: Scores, with_pictures: bool) -> None:
        self.folder = folder
        self.scores = scores
        self.with_pictures = with_pictures

    @cached_property
    def kept(self) -> Mapping[int, Kept]:
        """The images that have pictures, by their place among all images."""
        found = pictures.kept(self.folder, self.scores.group) if self.with_pictures else {}
        places = {image: place for place, image in enumerate(self.scores.images)} if found else {}
        return {places[image]: one for image, one in found.items() if image in places}

    def about(self) -> dict[str, Any]:
        """For the index."""
        return {"folder": self.folder.name, "chunk": CHUNK, "pictures": len(self.kept), **self.scores.about()}

    def files(self) -> Iterator[str]:
        """Every file of the group."""
        yield from ("images.json", "pictures.json")
        yield from (f"{k}.f32" for k in range(len(self.scores.metrics)))
        yield from (f"rows/{k}.json" for k in range(-(-len(self.scores.images) // CHUNK)))
        for place, one in self.kept.items():
            yield from (f"{place}/{name}" for name in ("photo.webp", "thumb.webp", "fill.png"))
            for k, method in enumerate(self.scores.methods):
                if method.name in one.maps:
                    yield from (f"{place}/heat-{k}.webp", f"{place}/order-{k}.png")

    def content(self, file: str) -> bytes | None:
        """One file; None where there is nothing."""
        word, _, rest = file.partition("/")
        if rest and word.isdigit():
            return self._picture(int(word), rest)
        if word == "rows":
            return self._rows(int(rest.split(".")[0]))
        if file.endswith(".f32"):
            place = int(file.split(".")[0])
            return self.scores.values[place].astype("<f4").tobytes() if place < len(self.scores.metrics) else None
        return _json(self.scores.images) if file == "images.json" else _json(self._pictures())

    def _rows(self, chunk: int) -> bytes | None:
        images = self.scores.images[chunk * CHUNK : (chunk + 1) * CHUNK]
        return _json(self.scores.rows(images)) if images else None

    def _pictures(self) -> dict[int, dict[str, Any]]:
        index = {one.name: k for k, one in enumerate(self.scores.methods)}
        return {
            place: {
                "explained": str(one.about.get("explained", "")),
                "probability": one.about.get("probability"),
                "maps": [index[name] for name in one.maps if name in index],
            }
            for place, one in self.kept.items()
        }

    def _picture(self, place: int, file: str) -> bytes | None:
        one = self.kept.get(place)
        kind, _, number = file.split(".")[0].partition("-")
        if one is None or int(number or 0) >= len(self.scores.methods):
            return None
        method = self.scores.methods[int(number or 0)].name
        made: Mapping[str, Callable[[], bytes]] = {
            "photo": lambda: pictures.photo(one),
            "thumb": lambda: pictures.thumb(one),
            "fill": lambda: pictures.masked(one, self.scores.fill, self.scores.mean),
            "heat": lambda: pictures.heat(one, method),
            "order": lambda: pictures.order(one, method),
        }
        try:
            return made[kind]()
        except Unshown:
            return None


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
