"""Maps that can be looked at, kept, and computed with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from dix.bench.report.figures import Example, figure_bytes, qualitative_grid
from dix.cli.explain import SIDE, fitted, numbered, smaller, words_of
from dix.files import write_atomic
from dix.pictures import overlay, png_bytes, without_peaks

#: Side of a picture in the overview, in pixels.
SMALL = 448


@dataclass(frozen=True)
class Explanation:
    """One image's map.

    Attributes:
        image: Its name.
        map: [S, S] at the network's input size, larger where more relevant.
        photo: [H, W, 3] pixels in [0, 1].
        label: The explained class in words.
        target: The network's output that it is.
        probability: What the network gives it.
    """

    image: str
    map: np.ndarray
    photo: np.ndarray
    label: str
    target: int
    probability: float

    def overlay(self, side: int = SIDE) -> Image.Image:
        """The map over the photo, in the photo's own shape.

        Args:
            side: The longer side, at most so many pixels.
        """
        small, explanation = self._shown(side)
        return Image.fromarray(overlay(small, explanation))

    def example(self, method: str) -> Example:
        """A row of an overview.

        Args:
            method: The printed name of the map's method.
        """
        small, explanation = self._shown(SMALL)
        return Example(f"{self.label} {self.probability:.2f}", small, {method: explanation})

    def _shown(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The photo at most so large, and the map at its shape, without peaks that leave the rest dark."""
        photo = smaller(Image.fromarray(np.rint(255 * self.photo).astype(np.uint8)), side)
        return photo, without_peaks(fitted(torch.from_numpy(self.map), photo))


@dataclass(frozen=True)
class Explanations:
    """The maps of some images by one method, in their order.

    Attributes:
        each: The explanations, one for each image.
        method: The method's printed name.
    """

    each: tuple[Explanation, ...]
    method: str

    @property
    def maps(self) -> np.ndarray:
        """[B, S, S] all maps, at the network's input size."""
        return np.stack([one.map for one in self.each])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The maps, so that NumPy takes this for an array."""
        return np.asarray(self.maps, dtype=dtype)

    def __len__(self) -> int:
        return len(self.each)

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.each)

    @overload
    def __getitem__(self, place: int) -> Explanation: ...
    @overload
    def __getitem__(self, place: slice) -> Explanations: ...
    def __getitem__(self, place: int | slice) -> Explanation | Explanations:
        return Explanations(self.each[place], self.method) if isinstance(place, slice) else self.each[place]

    def overlay(self, index: int = 0, side: int = SIDE) -> Image.Image:
        """One image's map over its photo.

        Args:
            index: Which image.
            side: The longer side, at most so many pixels.
        """
        return self.each[index].overlay(side)

    def show(self) -> None:
        """Show photos and maps: below the cell in a notebook, in a window where Matplotlib has one."""
        import matplotlib.pyplot as plt

        picture = Image.open(io.BytesIO(self._repr_png_()))
        figure = plt.figure(figsize=(picture.width / 120, picture.height / 120))
        figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[]).imshow(picture)
        if plt.get_backend().lower() != "agg":
            plt.show()
        plt.close(figure)

    def save(self, path: str | Path) -> list[Path]:
        """Keep the maps.

        Args:
            path: A .png for one picture of all; a .npy for the numbers [B, S, S]; anything else is a folder that gets
                an overlay (.png) and the numbers (.npy) of each image.

        Returns:
            The files that were written.
        """
        file = Path(path)
        if file.suffix == ".png":
            contents = {file: self._repr_png_()}
        elif file.suffix == ".npy":
            contents = {file: _npy(self.maps)}
        else:
            contents = dict(self._files(file))
        for each, content in contents.items():
            write_atomic(each, content)
        return list(contents)

    def _files(self, folder: Path) -> Iterator[tuple[Path, bytes]]:
        [method] = words_of([self.method])
        names = numbered([f"{one.image}-{words_of([one.label])[0]}" for one in self.each])
        for name, one in zip(names, self.each, strict=True):
            yield folder / f"{name}-{method}.png", png_bytes(np.asarray(one.overlay()))
            yield folder / f"{name}-{method}.npy", _npy(one.map)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: a row for each image."""
        grid = qualitative_grid([one.example(self.method) for one in self.each], [self.method], size=1.6)
        return figure_bytes(grid, "png", dpi=120)

    def __repr__(self) -> str:
        labels = ", ".join(f"{one.image}: {one.label} ({one.probability:.2f})" for one in self.each[:4])
        return f"<{len(self)} maps of {self.method}; {labels}{', ...' if len(self) > 4 else ''}>"


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(values, dtype=np.float32))
    return stream.getvalue()
